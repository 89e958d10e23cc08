//! Forking: one request on several legs, one answer back (RFC 3261 §16.6–16.10).
//!
//! Owns the life of a forwarded request from the first leg to the last response, CANCEL, Timer C, redirections and the hold
//! for stranded users. Does not own where hops come from (`targets`) or which answer is best (`best`).

use super::best::{self, Ended};
use super::breadth;
use super::history::History;
use super::hop::Hop;
use super::leg::{GIVE_UP_MS, Leg, SILENT_REST_MS, by_preference};
use super::redirect::{Named, Redirect};
use super::targets::{self, Found};
use crate::auth;
use crate::cx::{Branch, Cx, TaskEvent};
use crate::forward::{self, Asserted, Extra, Sending};
use crate::metrics::Counter;
use crate::replies;
use crate::routes::RouteSet;
use crate::sips;
use pairline_group::Millis;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::status::default_reason;
use pairline_sip::target::{Rest, retry_after};
use pairline_sip::uri::Aor;
use std::collections::VecDeque;

/// Most bytes of one datagram (over IPv6, whose limit is the lower one).
const MAX_DATAGRAM: usize = 65_487;

/// Why the other devices stop ringing once one has answered (RFC 3326).
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// What is to be forwarded, as received, and what is changed on the way.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The request.
    pub request: &'a Message,
    /// Where it came from.
    pub arrival: Flow,
    /// Its Route set.
    pub routes: &'a RouteSet,
    /// Who vouches for the caller.
    pub asserted: &'a Asserted,
    /// Whether our credentials in it are used up.
    pub consumed: bool,
    /// Whether dialogs that it opens must come back through here.
    pub record_route: bool,
}

/// How a request went that may be sent anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// It was answered.
    Answered,
    /// The server of this pool that was to decide is gone, and nothing rang there: another one will lead, and decides anew. Nobody
    /// was told.
    Gone,
}

/// A forwarded request with all its legs.
pub struct Fork<'a, C: Cx> {
    cx: &'a C,
    job: Job<'a>,
    invite: bool,
    legs: Vec<Leg>,
    waiting: VecDeque<Vec<Hop>>,
    tried: Vec<Hop>,
    ended: Vec<Ended>,
    answered: bool,
    cancelled: bool,
    declined: bool,
    /// Branches that may be open at once (RFC 5393 §5.3).
    breadth: u16,
    history: Option<History>,
    /// Redirections that are still to be followed.
    redirects: Vec<Redirect>,
    /// The user whose new bindings may still be waited for.
    hold: Option<Aor>,
    hold_until: Option<Millis>,
    /// It was held: what waits was found since.
    held: bool,
    /// Who the sender says it is, where that is not proven.
    stranger: Option<&'a Aor>,
    /// Whose device the one hop leads to, inside a dialog; and whether the server that owned its flow says that it is gone.
    device: Option<Aor>,
    flow_gone: bool,
    /// Devices of that user were woken: what they register is tried at once, and nothing is final before the hold is over.
    waking: bool,
    /// Whether a leading server that is gone is the caller's affair, and whether it is gone.
    anew: bool,
    gone: bool,
}

impl<'a, C: Cx> Fork<'a, C> {
    /// A request without legs. With `hold` it waits for bindings of that user where it reaches no device.
    pub fn new(cx: &'a C, job: Job<'a>, hold: Option<Aor>) -> Self {
        Fork {
            cx,
            job,
            invite: *job.request.method() == Method::Invite,
            legs: Vec::new(),
            waiting: VecDeque::new(),
            tried: Vec::new(),
            ended: Vec::new(),
            answered: false,
            cancelled: false,
            declined: false,
            breadth: breadth::incoming(job.request, cx.view().proxy.max_breadth),
            // A request inside a dialog is not aimed anew.
            history: if job.record_route { History::begin(&cx.view(), job.request) } else { None },
            redirects: Vec::new(),
            hold,
            hold_until: None,
            held: false,
            stranger: None,
            device: None,
            flow_gone: false,
            waking: false,
            anew: false,
            gone: false,
        }
    }

    /// The same for a sender who has not proven to be that user: that nobody could be reached is not told to it.
    pub fn of_stranger(self, stranger: Option<&'a Aor>) -> Self {
        Fork { stranger, ..self }
    }

    /// A request inside a dialog: if its flow to the device of that user is gone, another of the same contact is looked for.
    pub fn of_device(self, device: Option<Aor>) -> Self {
        Fork { device, ..self }
    }

    /// A request whose callee has devices that were woken: it waits for them beside whatever rings (RFC 8599 §5.6).
    pub fn waking(cx: &'a C, job: Job<'a>, user: Aor) -> Self {
        let until = cx.now().mono + cx.view().push.wait_ms;
        Fork { hold_until: Some(until), waking: true, ..Fork::new(cx, job, Some(user)) }
    }

    /// Runs until a final answer is given and every leg has ended.
    pub async fn run(&mut self, hops: Vec<Hop>) {
        self.drive(hops).await;
    }

    /// The same, but gives no answer where the one server that was to decide is gone.
    pub async fn attempt(&mut self, hops: Vec<Hop>) -> Went {
        self.anew = hops.len() == 1;
        self.drive(hops).await;
        if self.gone { Went::Gone } else { Went::Answered }
    }

    async fn drive(&mut self, hops: Vec<Hop>) {
        if self.breadth == 0 {
            return match self.stranger {
                Some(user) => self.challenge(user),
                None => replies::refuse(self.cx, self.job.request, 440, "Max-Breadth Exceeded"),
            };
        }
        self.waiting = by_preference(hops).into();
        self.settle().await;
        while !self.is_over() && !self.gone {
            self.cx.set_deadline(self.next_timer());
            match self.cx.event().await {
                TaskEvent::Response(branch, message) => self.on_response(branch, message),
                TaskEvent::Timeout(branch) => self.on_failed(branch, Ended::Timeout),
                TaskEvent::TransportError(branch) => self.on_failed(branch, Ended::Flow),
                TaskEvent::Cancelled(reason) => self.on_cancelled(reason.as_deref()),
                TaskEvent::Deadline => self.on_timer().await,
                TaskEvent::BindingsChanged if self.hold_until.is_some() => Box::pin(self.look_again()).await,
                // Bindings are read when a hold begins.
                TaskEvent::BindingsChanged => {}
            }
            self.settle().await;
        }
        self.cx.set_deadline(None);
    }

    fn is_over(&self) -> bool {
        self.answered && !self.legs.iter().any(|leg| leg.live)
    }

    fn next_timer(&self) -> Option<Millis> {
        let legs = self.legs.iter().filter(|leg| leg.live).filter_map(|leg| leg.timer);
        legs.chain(self.hold_until).min()
    }

    /// Sends a group in parallel, as far as the breadth goes round; the rest is tried when these have ended. A share is kept for
    /// who is being woken, if it can be.
    fn send_group(&mut self, mut group: Vec<Hop>) {
        let used: u16 = self.legs.iter().filter(|leg| leg.live).map(|leg| leg.breadth).sum();
        let branches = group.len() + usize::from(self.waking);
        let shares = breadth::shares(self.breadth.saturating_sub(used), branches).take(group.len());
        let rest = group.split_off(shares.size_hint().0.min(group.len()));
        if !rest.is_empty() {
            self.waiting.push_front(rest);
        }
        for (hop, share) in group.into_iter().zip(shares) {
            self.send(hop, share);
        }
    }

    /// Sends a request on a new leg.
    fn send(&mut self, hop: Hop, share: u16) {
        let hop = self.awake(hop).filter(|hop| sips::may_take(self.job.request, hop));
        let Some(mut hop) = hop else { return self.ended.push(Ended::Flow) };
        let view = self.cx.view();
        let (history, entry) = self.history.as_mut().and_then(|history| history.of_branch(&hop)).unzip();
        // In a dialog there is nothing to fork, so nothing is added.
        let counted = self.job.record_route || self.job.request.has(Name::MaxBreadth);
        let sending = Sending {
            request: self.job.request,
            arrival: self.job.arrival,
            hop: hop.flow,
            routes: self.job.routes,
            uri: hop.uri.as_deref(),
            push_routes: &hop.routes,
            record_route: self.job.record_route && forward::opens_dialog(self.job.request),
            path: None,
            asserted: self.job.asserted,
            consumed: self.job.consumed,
            extra: Extra { max_breadth: counted.then_some(share), history: history.as_deref(), trusted: hop.trusted },
        };
        let bytes = forward::build(self.cx, &view, &sending);
        if hop.flow.transport == Transport::Udp && bytes.len() > MAX_DATAGRAM {
            self.tried.push(hop);
            return self.ended.push(Ended::TooLarge);
        }
        let branch = self.cx.forward(hop.flow, bytes);
        self.cx.count(Counter::ProxyBranch);
        let now = self.cx.now().mono;
        let timer = self.invite.then(|| now + view.proxy.timer_c_ms);
        let leg = Leg::new(branch, &mut hop, now, timer);
        self.legs.push(Leg { breadth: share, history: entry, ..leg });
        self.tried.push(hop);
    }

    /// The first of a server and its alternates that did not ask to be left alone (RFC 3261 §21.5.4). What belongs to a dialog
    /// goes to its server all the same: nobody else can end the call.
    fn awake(&self, mut hop: Hop) -> Option<Hop> {
        let may_wait = !self.job.request.to().has_param("tag");
        while hop.server && may_wait && self.cx.rests(hop.flow) == Some(Rest::Asked) {
            hop = Hop::first_of(hop.alternates)?;
        }
        Some(hop)
    }

    fn leg(&mut self, branch: Branch) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.branch == branch)
    }

    fn on_response(&mut self, branch: Branch, message: Message) {
        let status = message.status().unwrap_or(500);
        if status < 200 {
            return self.on_provisional(branch, status, &message);
        }
        let Some(leg) = self.leg(branch) else { return };
        let first = std::mem::replace(&mut leg.live, false);
        if status < 300 {
            return self.on_success(status, &message);
        }
        if !first {
            return;
        }
        let (server, flow, rang) = (leg.server, leg.flow, leg.rang);
        if let Some(seconds) = retry_after(&message).filter(|_| server && status == 503) {
            self.cx.rest(flow, Rest::Asked, Millis::from(seconds) * 1_000);
        }
        self.note_ended(branch, status);
        let another_way = status == 430 || (status == 503 && server && !rang);
        if another_way && self.try_alternate(branch) {
            return;
        }
        self.flow_gone |= status == 430;
        if status >= 600 {
            self.declined = true;
            let reason = format!("SIP;cause={status};text=\"{}\"", default_reason(status));
            self.cancel_legs(Some(&reason));
        }
        let view = self.cx.view();
        let awaited = !self.answered && !self.cancelled && !self.declined;
        let may_follow = view.proxy.follow_redirects && awaited && !self.challenged_elsewhere();
        let message = Box::new(message);
        match if may_follow { Redirect::read(&view, message) } else { Err(message) } {
            Ok(redirect) => self.redirects.push(redirect),
            Err(message) => self.ended.push(Ended::Final(message)),
        }
    }

    /// Later branches tell what became of this one (RFC 7044 §9.3).
    fn note_ended(&mut self, branch: Branch, status: u16) {
        let entry = self.leg(branch).and_then(|leg| leg.history.take());
        if let (Some(history), Some(entry)) = (&mut self.history, entry) {
            history.ended(&entry, status);
        }
    }

    fn on_provisional(&mut self, branch: Branch, status: u16, message: &Message) {
        let timer = self.cx.now().mono + self.cx.view().proxy.timer_c_ms;
        let invite = self.invite;
        let Some(leg) = self.leg(branch) else { return };
        leg.provisional = true;
        if std::mem::take(&mut leg.hurried) && !leg.cancelled {
            leg.timer = invite.then_some(timer);
        }
        leg.rang |= status > 100;
        // §16.7 step 2: 101 to 199 reset Timer C; a cancelled leg keeps its shorter one.
        if status > 100 && leg.timer.is_some() && !leg.cancelled {
            leg.timer = Some(timer);
        }
        if status > 100 && !self.answered {
            self.cx.respond(status, forward::response_back(message));
        }
    }

    /// A 2xx goes back at once; further ones of an INVITE too, for the caller must end those dialogs (§16.7 step 5).
    fn on_success(&mut self, status: u16, message: &Message) {
        if self.answered && !self.invite {
            return;
        }
        self.cx.respond(status, forward::response_back(message));
        if self.answered {
            return;
        }
        self.answered = true;
        if *self.job.request.method() == Method::Message {
            self.cx.count(Counter::MessageRelayed);
        }
        if self.hold_until.take().is_some() {
            self.cx.count(Counter::ProxyHeldDelivered);
        }
        self.cancel_legs(Some(ELSEWHERE));
    }

    fn on_failed(&mut self, branch: Branch, ended: Ended) {
        let Some(leg) = self.leg(branch) else { return };
        if !std::mem::replace(&mut leg.live, false) {
            return;
        }
        // A device that rang and then fell silent was reached; another way to it would ring it twice. A 100 is only the next
        // hop's.
        let (server, flow, silent) = (leg.server, leg.flow, !leg.provisional);
        let (rang, leads) = (leg.rang, leg.leads);
        #[cfg(feature = "planted")]
        let rang = rang && !self.cx.is_planted(pairline_group::planted::Planted::RetriedAfterRinging);
        if self.anew && leads && !rang && !self.answered && !self.cancelled {
            self.gone = true;
            return;
        }
        if server && silent {
            self.cx.rest(flow, Rest::Silent, SILENT_REST_MS);
        }
        self.note_ended(branch, ended.status());
        // Not held for it either, where its flow or the server on the way to it has gone.
        let ended = if rang && ended.unreached() { Ended::Timeout } else { ended };
        let another_way = !rang && (self.invite || server || ended.unreached());
        if another_way && self.try_alternate(branch) {
            return;
        }
        self.ended.push(ended);
    }

    /// Sends to the next way to the same device, if there is one and the caller still waits.
    fn try_alternate(&mut self, branch: Branch) -> bool {
        if self.answered || self.cancelled || self.declined {
            return false;
        }
        let has_rung = self.has_rung_held();
        let Some(leg) = self.leg(branch) else {
            return false;
        };
        let share = leg.breadth;
        let mut alternates = std::mem::take(&mut leg.alternates);
        alternates.retain(|hop| !has_rung || !hop.is_asked());
        let Some(hop) = Hop::first_of(alternates) else {
            return false;
        };
        self.send(hop, share);
        true
    }

    /// Whether it rang after it was held. Ways that were found before are not asked then: another server leads to the same devices.
    fn has_rung_held(&self) -> bool {
        self.held && self.legs.iter().any(|leg| leg.rang)
    }

    fn on_cancelled(&mut self, reason: Option<&str>) {
        if self.answered || !self.invite {
            return;
        }
        self.cancelled = true;
        self.hold_until = None;
        self.cancel_legs(reason);
    }

    /// Cancels what is still open, with that Reason, and forgets what was not tried (§16.10).
    fn cancel_legs(&mut self, reason: Option<&str>) {
        self.waiting.clear();
        if !self.invite {
            return;
        }
        let give_up = self.cx.now().mono + GIVE_UP_MS;
        for leg in self.legs.iter_mut().filter(|leg| leg.live && !leg.cancelled) {
            leg.cancelled = true;
            leg.timer = Some(give_up);
            self.cx.cancel(leg.branch, reason);
        }
    }

    async fn on_timer(&mut self) {
        let now = self.cx.now().mono;
        if self.hold_until.is_some_and(|at| at <= now) {
            // Not every way that opens is told: a last look before the caller is sent away.
            Box::pin(self.look_again()).await;
            self.hold_until = None;
            self.hold = None;
            self.waking = false;
        }
        let mut silent = Vec::new();
        for leg in self.legs.iter_mut().filter(|leg| leg.live && leg.timer.is_some_and(|at| at <= now)) {
            if leg.provisional && !leg.cancelled {
                // Timer C with a provisional response: CANCEL, and wait for what it brings (§16.8).
                leg.cancelled = true;
                leg.timer = Some(now + GIVE_UP_MS);
                self.cx.cancel(leg.branch, None);
            } else {
                if leg.hurried && self.invite {
                    // If it answers after all, it must not ring beside the next one.
                    self.cx.cancel(leg.branch, None);
                }
                silent.push(leg.branch);
            }
        }
        for branch in silent {
            self.on_failed(branch, Ended::Timeout);
        }
    }

    /// Goes on where no leg is open: next group of hops, hold, or the final answer. What is rare is boxed, so that it takes no room in
    /// the task of each request.
    async fn settle(&mut self) {
        if self.gone {
            return;
        }
        if !self.redirects.is_empty() {
            Box::pin(self.follow_redirects()).await;
        }
        while !self.answered && !self.legs.iter().any(|leg| leg.live) {
            if self.cancelled || self.declined {
                return self.answer();
            }
            if self.has_rung_held() {
                self.waiting.retain(|group| !group.iter().all(Hop::is_asked));
            }
            if let Some(group) = self.waiting.pop_front() {
                self.send_group(group);
                continue;
            }
            if self.flow_gone && Box::pin(self.find_device()).await {
                continue;
            }
            let unreached = self.ended.iter().all(Ended::unreached);
            if self.hold_until.is_some() && (unreached || self.waking) {
                return;
            }
            if self.hold_until.is_some() || self.hold.is_none() || !unreached {
                return self.answer();
            }
            if !self.ended.is_empty() {
                self.cx.count(Counter::ProxyHeld);
            }
            self.hold_until = Some(self.cx.now().mono + self.cx.view().proxy.hold_ms);
            self.held = true;
            // What was written, or became reachable, while the legs were still open.
            Box::pin(self.look_again()).await;
        }
    }

    /// Looks once for another flow to the device that the dialog is with (RFC 5626 §5.3: 430 says that the one is gone); whether it was sent there.
    async fn find_device(&mut self) -> bool {
        let Some(user) = self.device.take() else { return false };
        let hop = targets::by_contact(self.cx, &user, self.job.request.request_uri()).await;
        let Some(hop) = hop.filter(|hop| !self.tried.iter().any(|tried| tried.is_same_way(hop))) else { return false };
        self.send(hop, self.breadth);
        true
    }

    /// Tries whom redirections name, at once, however many legs still ring; what was tried before is not tried again, and who
    /// asked to be left alone is left.
    async fn follow_redirects(&mut self) {
        while let Some(redirect) = self.redirects.pop() {
            let mut groups: Vec<Vec<Hop>> = Vec::new();
            for Named { user, device, uri } in &redirect.named {
                let found = targets::find_device(self.cx, self.job.request, user, device.as_ref()).await;
                if let Found::Hops(mut hops) = found {
                    hops.iter_mut().for_each(|hop| hop.map_to(user, uri));
                    let awake = self.untried(hops).into_iter().filter_map(|hop| self.awake(hop));
                    // Two names may lead to the same device.
                    let new =
                        awake.filter(|hop| !groups.iter().flatten().any(|other| other.is_same_way(hop))).collect();
                    groups.extend(by_preference(new));
                }
            }
            if groups.is_empty() {
                self.ended.push(Ended::Final(redirect.answer));
                continue;
            }
            self.cx.count(Counter::ProxyRedirected);
            let first = groups.remove(0);
            for group in groups.into_iter().rev() {
                self.waiting.push_front(group);
            }
            self.send_group(first);
        }
    }

    /// Those of the hops that were not tried, as many as may be.
    fn untried(&self, hops: Vec<Hop>) -> Vec<Hop> {
        let room = self.cx.view().proxy.max_branches.saturating_sub(self.tried.len());
        hops.into_iter().filter(|hop| !self.tried.iter().any(|tried| tried.is_same_way(hop))).take(room).collect()
    }

    /// Bindings may have changed while the request is held: whatever was not tried yet is tried.
    async fn look_again(&mut self) {
        let Some(user) = self.hold.clone() else {
            return;
        };
        // What has rung was reached, and is not to ring once more by another way.
        if !self.waking && self.legs.iter().any(|leg| leg.rang) {
            return;
        }
        let Found::Hops(hops) = targets::find(self.cx, self.job.request, &user).await else {
            return;
        };
        let fresh = self.untried(hops);
        if self.waking && !self.answered && !self.declined {
            self.send_group(fresh);
        } else {
            self.waiting.extend(by_preference(fresh));
        }
    }

    fn answer(&mut self) {
        self.answered = true;
        let request = self.job.request;
        let chosen = best::choose(&self.ended, self.cancelled).map(|i| &self.ended[i]);
        if let Some(user) = self.stranger
            && chosen.is_none_or(|ended| !matches!(ended, Ended::Final(_)) || matches!(ended.status(), 503 | 430))
        {
            return self.challenge(user);
        }
        match chosen {
            _ if self.cancelled && chosen.is_none_or(|c| c.status() < 600 && c.status() != 487) => {
                replies::refuse(self.cx, request, 487, "Request Terminated");
            }
            None => replies::unavailable(self.cx, request, "No Device Reachable"),
            Some(Ended::Final(message)) if !matches!(message.status(), Some(503 | 430)) => {
                let status = message.status().unwrap_or(500);
                let reply = best::returned(message, &self.ended);
                // The other pool's challenge to a caller whom it serves.
                match status {
                    401 | 407 if self.challenged_elsewhere() => self.cx.respond_once(status, reply),
                    _ => self.cx.respond(status, reply),
                }
            }
            Some(Ended::TooLarge) => replies::refuse(self.cx, request, 513, "Message Too Large"),
            Some(Ended::Timeout) if self.invite => replies::refuse(self.cx, request, 408, "Request Timeout"),
            // RFC 4320 §4.2: no 408 to anything but INVITE.
            Some(Ended::Timeout) => replies::unavailable(self.cx, request, "Device Did Not Answer"),
            // Held in vain.
            Some(ended) if ended.unreached() && self.invite && self.hold.is_none() && !self.tried_peer_only() => {
                replies::unavailable(self.cx, request, "No Device Reachable");
            }
            Some(_) => replies::try_later(self.cx, request, "Next Hop Not Reachable"),
        }
    }

    /// What a name that nobody has would get.
    fn challenge(&self, stranger: &Aor) {
        let realm = auth::realm_of(self.job.request);
        auth::challenge(self.cx, self.job.request, self.job.arrival, realm, stranger.domain(), false);
    }

    /// Whether the other pool serves the caller and has to weigh the credentials, which are still in the request.
    fn challenged_elsewhere(&self) -> bool {
        *self.job.asserted == Asserted::Strip && self.tried.iter().all(|hop| hop.flow.transport == Transport::Peer)
    }

    fn tried_peer_only(&self) -> bool {
        self.tried.iter().all(|hop| hop.uri.is_none())
    }
}
