//! Calls of a simulated user, both ends: INVITE, 200, ACK, BYE.
//!
//! Owns the dialogs. Does not own transactions or sockets (`agent`).

use super::agent::{Agent, Pending, Purpose, tell};
use super::board::{Ticket, What};
use super::draft::{Draft, SDP, text};
use bytes::Bytes;
use pairline_sip::{Message, Method, Reply, RequestBuilder};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// Calls that one user keeps at one time; the oldest answered one goes first.
const CALLS: usize = 64;

/// Milliseconds after which a 200 to an INVITE is repeated until its ACK comes, doubled each time.
const REPEAT: u64 = 500;

/// A 200 is repeated at most so long, in milliseconds (64 × T1).
const REPEAT_UNTIL: u64 = 32_000;

/// A caller gives up on a call without a final answer after this many milliseconds: once a proxy has answered 100, an INVITE
/// has no timer of its own (RFC 3261 §17.1.1.2), and the proxy may die.
const GIVE_UP: u64 = 35_000;

/// How often a BYE is sent again whose connection was lost, and how many milliseconds later.
const AGAIN: u32 = 20;
const AGAIN_AFTER: u64 = 500;

/// A call that this user made.
struct Made {
    /// When the caller gives up; none once it is answered.
    give_up_at: Option<u64>,
    draft: Draft,
    invite: Option<Message>,
    ack: Option<Bytes>,
    hold: u64,
    hang_up_at: Option<u64>,
    done: Option<oneshot::Sender<Result<(), String>>>,
    ticket: Ticket,
    /// How often its BYE was sent again, over another connection.
    again: u32,
}

/// A call that this user answered.
struct Taken {
    since: u64,
    next: u64,
    pause: u64,
    reply: Option<Bytes>,
}

/// Calls of one user.
#[derive(Default)]
pub struct Calls {
    made: BTreeMap<String, Made>,
    taken: BTreeMap<String, Taken>,
    /// Bytes to send outside any transaction.
    pub outbox: Vec<Bytes>,
}

impl Calls {
    /// When something is due next.
    pub fn next(&self) -> Option<u64> {
        let ends = self.made.values().filter_map(|call| call.hang_up_at.or(call.give_up_at));
        let repeats = self.taken.values().filter(|call| call.reply.is_some()).map(|call| call.next);
        ends.chain(repeats).min()
    }

    /// Call-IDs of calls that are to be ended now.
    pub fn due(&mut self, now: u64) -> Vec<String> {
        let mut due = Vec::new();
        for (id, call) in &mut self.made {
            if call.hang_up_at.is_some_and(|at| at <= now) {
                call.hang_up_at = None;
                due.push(id.clone());
            }
        }
        due
    }

    /// Call-IDs of calls that nobody has answered for too long.
    pub fn unanswered(&self, now: u64) -> Vec<String> {
        let late = self.made.iter().filter(|(_, call)| call.give_up_at.is_some_and(|at| at <= now));
        late.map(|(id, _)| id.clone()).collect()
    }

    /// 200s that are to be repeated now, since their ACK has not come.
    pub fn repeat(&mut self, now: u64) -> Vec<Bytes> {
        let mut all = Vec::new();
        for call in self.taken.values_mut() {
            let Some(reply) = &call.reply else { continue };
            if now.saturating_sub(call.since) > REPEAT_UNTIL {
                call.reply = None;
            } else if now >= call.next {
                call.pause = (call.pause * 2).min(4_000);
                call.next = now + call.pause;
                all.push(reply.clone());
            }
        }
        all
    }

    /// The INVITE as it was sent.
    pub fn sent(&mut self, call: &str, invite: Message) {
        if let Some(made) = self.made.get_mut(call) {
            made.invite = Some(invite);
        }
    }

    /// An ACK came.
    pub fn acknowledged(&mut self, ack: &Message) {
        if let Some(call) = self.taken.get_mut(&text(ack.call_id())) {
            call.reply = None;
        }
    }

    fn take(&mut self, call_id: String, now: u64, reply: Bytes, reliable: bool) {
        if self.taken.len() >= CALLS {
            let oldest = self.taken.iter().min_by_key(|(_, call)| call.since).map(|(id, _)| id.clone());
            oldest.map(|id| self.taken.remove(&id));
        }
        // Also over TCP: another hop of the call may be UDP (RFC 3261 §13.3.1.4).
        let pause = if reliable { REPEAT * 2 } else { REPEAT };
        self.taken.insert(call_id, Taken { since: now, next: now + pause, pause, reply: Some(reply) });
    }
}

impl Agent {
    /// Starts a call.
    pub fn call(&mut self, callee: usize, to: String, hold: u64, done: Option<oneshot::Sender<Result<(), String>>>) {
        let call_id = format!("c{:x}{:x}", self.random(), self.random());
        let draft = Draft {
            method: Method::Invite,
            uri: to.clone(),
            from: format!("<{}>;tag={:x}", self.who.aor(), self.random()),
            to: format!("<{to}>"),
            call_id: call_id.clone(),
            cseq: 1,
            routes: Vec::new(),
            headers: vec![("Contact", self.contact())],
            body: Some(("application/sdp", SDP)),
        };
        let ticket = self.board.begin(What::Call, &[self.who.number, callee]);
        let made = Made {
            give_up_at: Some(self.board.now() + GIVE_UP),
            draft: draft.clone(),
            invite: None,
            ack: None,
            hold,
            hang_up_at: None,
            done,
            ticket,
            again: 0,
        };
        self.calls.made.insert(call_id.clone(), made);
        self.send(Pending { draft, purpose: Purpose::Invite(call_id), challenged: 0, ticket });
    }

    /// The INVITE was answered 2xx: returns the ACK.
    pub fn answered(&mut self, call: &str, response: &Message) -> Option<Bytes> {
        let now = self.board.now();
        let made = self.calls.made.get_mut(call)?;
        let Some(target) = response.contacts().next().map(|contact| text(contact.uri)) else {
            self.ended(call, Err("200 without Contact".into()));
            return None;
        };
        let mut routes: Vec<String> = response.record_routes().map(|route| text(route.raw())).collect();
        routes.reverse();
        made.draft.uri = target;
        made.draft.to = text(response.to().raw());
        made.draft.routes = routes;
        made.draft.cseq = response.cseq().0;
        made.give_up_at = None;
        made.hang_up_at = Some(now + made.hold);
        let draft = made.draft.clone();
        let via = made.invite.as_ref().map(|invite| text(invite.via().raw())).unwrap_or_default();
        let via = via.split(";branch=").next().unwrap_or_default().to_owned();
        let branch = format!("z9hG4bKa{:x}", self.random());
        let mut builder = RequestBuilder::new(Method::Ack, &draft.uri)
            .header("Via", format!("{via};branch={branch};rport"))
            .header("Max-Forwards", "70");
        for route in &draft.routes {
            builder = builder.header("Route", route);
        }
        let ack = builder
            .header("From", &draft.from)
            .header("To", &draft.to)
            .header("Call-ID", &draft.call_id)
            .header("CSeq", format!("{} ACK", draft.cseq))
            .build();
        if let Some(made) = self.calls.made.get_mut(call) {
            made.ack = Some(ack.clone());
        }
        Some(ack)
    }

    /// The ACK of a call whose 200 came again.
    pub fn acknowledge_again(&self, response: &Message) -> Option<Bytes> {
        if response.cseq().1 != &Method::Invite || !response.status().is_some_and(|status| (200..300).contains(&status))
        {
            return None;
        }
        self.calls.made.get(&text(response.call_id()))?.ack.clone()
    }

    /// Sends the BYE of a call.
    pub fn hang_up(&mut self, call: String) {
        let Some(made) = self.calls.made.get_mut(&call) else { return };
        made.draft.cseq += 1;
        let draft = Draft { method: Method::Bye, headers: Vec::new(), body: None, ..made.draft.clone() };
        let ticket = made.ticket;
        self.send(Pending { draft, purpose: Purpose::Bye(call), challenged: 0, ticket });
    }

    /// A BYE had no good answer. A client that roams sends it again where its connection was lost, over the next one; if the first
    /// had arrived, the second finds no call any more, which then is over (RFC 3261 §15.1.1).
    pub fn bye_failed(&mut self, call: &str, why: &str) {
        let now = self.board.now();
        let made = self.calls.made.get_mut(call).filter(|_| self.who.roams);
        match made {
            Some(made) if made.again > 0 && why.starts_with("481") => self.ended(call, Ok(())),
            Some(made) if made.again < AGAIN && why.contains("connection") => {
                made.again += 1;
                made.hang_up_at = Some(now + AGAIN_AFTER);
            }
            _ => self.ended(call, Err(format!("BYE: {why}"))),
        }
    }

    /// A call is over.
    pub fn ended(&mut self, call: &str, result: Result<(), String>) {
        let Some(made) = self.calls.made.remove(call) else { return };
        self.board.end(made.ticket, What::Call, result.clone());
        tell(made.done, result);
    }

    /// What is answered to a request: status and reply, in order.
    pub fn answer(&mut self, request: &Message) -> Vec<(u16, Bytes)> {
        match request.method() {
            Method::Invite => {
                let tag = format!("{:x}", self.random());
                let ringing = Reply::to(request, 180).to_tag(&tag).header("Contact", self.contact()).build();
                let contact = self.contact();
                let reply = Reply::to(request, 200)
                    .to_tag(&tag)
                    .header("Contact", contact)
                    .body("application/sdp", SDP.as_bytes())
                    .build();
                let reliable = self.who.transport.reliable();
                let now = self.board.now();
                self.calls.take(text(request.call_id()), now, reply.clone(), reliable);
                vec![(180, ringing), (200, reply)]
            }
            Method::Bye => {
                let known = self.calls.taken.remove(&text(request.call_id())).is_some();
                let status = if known { 200 } else { 481 };
                vec![(status, Reply::to(request, status).build())]
            }
            Method::Message | Method::Options | Method::Info => vec![(200, Reply::to(request, 200).build())],
            _ => vec![(
                405,
                Reply::to(request, 405).header("Allow", "INVITE, ACK, BYE, CANCEL, MESSAGE, OPTIONS").build(),
            )],
        }
    }
}
