//! The way of an operation: begin, send, react to responses, end.
//!
//! Owns the caller's side of every kind. What its requests say is in `words`.

use super::course::Outcome;
use super::slot::{Kind, Slot, Step};
use super::timers::Timer;
use super::{Phase, Worker};
use crate::args::Transport;
use crate::digest::Session;
use crate::journal::{CallLine, Line};
use crate::wire::build::{self, Request};
use crate::wire::scan;
use std::io;
use std::net::SocketAddr;

/// Body of an INVITE: no sound is sent.
const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                     m=audio 9 RTP/AVP 0\r\na=inactive\r\n";

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Status(u16),
    /// A 500 or 503, with the seconds of its Retry-After.
    Refused(u16, Option<u64>),
    TimedOut,
    Disconnected,
}

/// Why a request goes on to the next server.
#[derive(Clone, Copy, Debug)]
enum Why {
    Refused,
    Silent,
}

impl Worker {
    /// Begins an operation that was due at `due`.
    pub(super) fn begin(&mut self, now: u64, kind: Kind, user: u32, due: u64) {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::new(self.servers[0]));
            // As many slots as operations at a time: far below 2^32.
            (self.slots.len() - 1) as u32
        });
        self.live += 1;
        self.serial += 1;
        let port = user as usize % self.ports.len();
        let server = self.servers[self.users.get(user).server % self.servers.len()];
        let slot = &mut self.slots[id as usize];
        (slot.kind, slot.user, slot.port, slot.server) = (kind, user, port, server);
        slot.why.clear();
        (slot.due, slot.sent, slot.serial, slot.cseq, slot.challenged) = (due, now, self.serial, 0, false);
        (slot.made, slot.up, slot.tries, slot.reinvite, slot.granted) = (server, 0, 0, None, None);
        slot.passed = [0; 2];
        slot.step = match kind {
            Kind::Register => Step::Register,
            Kind::Message => Step::Message,
            Kind::Call => Step::Invite,
        };
        if kind == Kind::Register {
            self.users.get_mut(user).registering = true;
        }
        self.send(now, id);
    }

    /// Sends the request of the slot's step and sets its timers.
    fn send(&mut self, now: u64, id: u32) {
        if self.write(id).and_then(|()| self.transmit(id)).is_err() {
            self.end(now, id, End::Disconnected);
            return;
        }
        let generation = self.slots[id as usize].generation;
        if self.transport == Transport::Udp {
            self.timers.set(now, Timer::Resend(0), id, generation);
        }
        self.timers.set(now, Timer::GiveUp, id, generation);
    }

    fn transmit(&mut self, id: u32) -> io::Result<()> {
        let now = self.now();
        self.course.sent(now);
        let slot = &self.slots[id as usize];
        self.ports[slot.port].send(slot.target, &slot.request)
    }

    /// Writes the request of the slot's step under a new generation.
    fn write(&mut self, id: u32) -> io::Result<()> {
        let slot = &mut self.slots[id as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.provisional = false;
        let local = self.ports[slot.port].local(slot.server)?;
        slot.cseq = if slot.step == Step::Register {
            let user = self.users.get_mut(slot.user);
            user.cseq += 1;
            user.cseq
        } else {
            slot.cseq + 1
        };
        let (step, user) = (slot.step, slot.user);
        let words = self.words(&self.slots[id as usize], local);
        let credentials = self.credentials(user, step, &words.uri);
        let slot = &mut self.slots[id as usize];
        slot.target = words.target;
        let request = Request {
            method: step.method(),
            uri: &words.uri,
            transport: self.transport.token(),
            local,
            branch: (id, slot.generation),
            run: self.plan.run,
            from: &words.from,
            to: &words.to,
            call_id: &words.call_id,
            cseq: slot.cseq,
            routes: &words.routes,
            contact: words.contact.as_deref(),
            expires: (step == Step::Register).then_some(self.plan.common.expires),
            credentials: credentials.as_ref().map(|(name, value)| (*name, value.as_str())),
            user_agent: &self.plan.common.user_agent,
            body: match step {
                Step::Invite | Step::Reinvite => Some(("application/sdp", SDP)),
                Step::Message => Some(("text/plain", b"Pairline load")),
                _ => None,
            },
        };
        build::request(&mut slot.request, &request);
        Ok(())
    }

    /// The answer to the challenge that the user has met, if any.
    fn credentials(&mut self, user: u32, step: Step, uri: &[u8]) -> Option<(&'static str, String)> {
        self.users.get(user).sessions[session(step)].as_ref()?;
        let (name, password) = (self.users.name(user), self.users.password(user));
        let uri = String::from_utf8_lossy(uri);
        let session = self.users.get_mut(user).sessions[session(step)].as_mut()?;
        Some(session.answer(&name, &password, step.method(), &uri))
    }

    /// One message from a port.
    pub(super) fn message(&mut self, port: usize, from: SocketAddr, message: &[u8]) {
        let now = self.now();
        let Some(status) = scan::status(message) else {
            self.counts.received += u64::from(!message.starts_with(b"ACK "));
            let port_ = &mut self.ports[port];
            // A reply that cannot be sent is repeated, or its call fails and is counted at the caller.
            self.uas.receive(now, port, from, message, |reply| drop(port_.send(from, reply)));
            return;
        };
        let Some((id, generation, run)) = scan::branch(message) else {
            return;
        };
        if run != self.plan.run {
            // An answer that an earlier run from this port did not wait for.
            return;
        }
        let current = self.slots.get(id as usize).is_some_and(|s| s.generation == generation && s.step != Step::Free);
        if !current {
            self.acknowledge_again(port, from, status, message);
        } else if status < 200 {
            self.slots[id as usize].provisional = true;
        } else {
            *self.counts.statuses.entry(status).or_default() += 1;
            self.answered(now, id, status, message);
        }
    }

    /// A final response to the request under way.
    fn answered(&mut self, now: u64, id: u32, status: u16, message: &[u8]) {
        let slot = &self.slots[id as usize];
        let (step, user) = (slot.step, slot.user);
        let success = (200..300).contains(&status);
        if matches!(step, Step::Invite | Step::Reinvite) {
            self.acknowledge(id, success, message);
        }
        if !success && self.plan.journal_failures {
            let why = &mut self.slots[id as usize].why;
            why.clear();
            why.push_str(&scan::reason(message));
        }
        if matches!(status, 401 | 407) && self.plan.common.digest && !self.slots[id as usize].challenged {
            let name = if status == 401 { "www-authenticate" } else { "proxy-authenticate" };
            let found = scan::headers(message, name, "").find_map(|value| Session::new(status, value));
            if found.is_some() {
                self.users.get_mut(user).sessions[session(step)] = found;
                self.slots[id as usize].challenged = true;
                self.send(now, id);
                return;
            }
        }
        if status == 503 && self.goes_on(step) && self.try_next(now, id, Why::Refused) {
            return;
        }
        if step == Step::Reinvite {
            self.reinvited(now, id, status);
            return;
        }
        if matches!(status, 500 | 503) {
            let retry_after = scan::header(message, "retry-after", "").and_then(scan::number);
            self.end(now, id, End::Refused(status, retry_after));
            return;
        }
        if step == Step::Register && self.plan.journal.is_some() {
            self.slots[id as usize].granted = scan::granted(message);
        }
        if !(success && step == Step::Invite) {
            self.end(now, id, End::Status(status));
            return;
        }
        let Slot { due, sent, .. } = self.slots[id as usize];
        self.course.accepted(due, sent, now);
        let slot = &mut self.slots[id as usize];
        slot.answer.clear();
        slot.answer.extend_from_slice(message);
        (slot.step, slot.up) = (Step::Hold, now.max(1));
        slot.generation = slot.generation.wrapping_add(1);
        let generation = slot.generation;
        if self.plan.hold == 0 {
            self.hang_up(now, id);
        } else {
            self.timers.set(now, Timer::Hold, id, generation);
        }
    }

    /// Sends the ACK: of its own transaction and along the route set for a 2xx, of the INVITE's transaction otherwise.
    fn acknowledge(&mut self, id: u32, success: bool, response: &[u8]) {
        let slot = &self.slots[id as usize];
        let branch = (id, if success { slot.generation | 1 << 31 } else { slot.generation });
        let (port, target) = (slot.port, slot.target);
        let uri = scan::request_line(&slot.request).map(|(_, uri)| uri.to_vec());
        if success && slot.step == Step::Reinvite {
            let routes = super::words::route_set(&slot.answer);
            if let Some(uri) = scan::header(response, "contact", "m").map(scan::uri) {
                self.send_ack(port, target, branch, uri, &routes, response);
            }
        } else if success {
            self.acknowledge_success(port, slot.server, branch, response);
        } else if let Some(uri) = uri {
            self.send_ack(port, target, branch, &uri, &[], response);
        }
    }

    fn acknowledge_success(&mut self, port: usize, server: SocketAddr, branch: (u32, u32), response: &[u8]) {
        let routes = super::words::route_set(response);
        let target = self.next_hop(server, &routes);
        if let Some(uri) = scan::header(response, "contact", "m").map(scan::uri) {
            self.send_ack(port, target, branch, uri, &routes, response);
        }
    }

    /// A repeated 2xx to an INVITE of a call that went on is acknowledged again; other late responses are nothing to us.
    fn acknowledge_again(&mut self, port: usize, from: SocketAddr, status: u16, response: &[u8]) {
        let invite = scan::header(response, "cseq", "").is_some_and(|cseq| cseq.ends_with(b"INVITE"));
        if invite && (200..300).contains(&status) {
            let serial = self.serial as u32;
            self.acknowledge_success(port, from, (u32::MAX, serial), response);
        }
    }

    fn send_ack(
        &mut self,
        port: usize,
        target: SocketAddr,
        branch: (u32, u32),
        uri: &[u8],
        routes: &[Vec<u8>],
        response: &[u8],
    ) {
        let value = |name, compact| scan::header(response, name, compact).unwrap_or_default();
        let cseq = value("cseq", "").split(|b| *b == b' ').next().unwrap_or_default();
        let cseq = std::str::from_utf8(cseq).ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        let Ok(local) = self.ports[port].local(target) else {
            return;
        };
        let request = Request {
            method: "ACK",
            uri,
            transport: self.transport.token(),
            local,
            branch,
            run: self.plan.run,
            from: value("from", "f"),
            to: value("to", "t"),
            call_id: value("call-id", "i"),
            cseq,
            routes,
            contact: None,
            expires: None,
            credentials: None,
            user_agent: &self.plan.common.user_agent,
            body: None,
        };
        let mut bytes = Vec::with_capacity(512);
        build::request(&mut bytes, &request);
        // Lost like any datagram: the response is repeated and acknowledged again.
        let _ = self.ports[port].send(target, &bytes);
    }

    /// Ends a call that was answered, with a re-INVITE before it if that is wanted.
    pub(super) fn hang_up(&mut self, now: u64, id: u32) {
        if self.plan.elsewhere {
            self.go_on_elsewhere(id);
            self.slots[id as usize].step = Step::Reinvite;
        } else {
            self.slots[id as usize].step = Step::Bye;
        }
        let slot = &mut self.slots[id as usize];
        (slot.challenged, slot.tries) = (false, 0);
        self.send(now, id);
    }

    /// A re-INVITE ended: the BYE follows, whatever became of it.
    fn reinvited(&mut self, now: u64, id: u32, status: u16) {
        let slot = &mut self.slots[id as usize];
        slot.reinvite = Some(status);
        (slot.step, slot.challenged, slot.tries) = (Step::Bye, false, 0);
        self.send(now, id);
    }

    /// The requests of an established call go to the server after its present one.
    fn go_on_elsewhere(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        let at = self.servers.iter().position(|server| *server == slot.server).unwrap_or(0);
        slot.server = self.servers[(at + 1) % self.servers.len()];
    }

    /// Whether a request that one server does not serve is for the next one.
    fn goes_on(&self, step: Step) -> bool {
        step.in_dialog() || self.plan.goes_on
    }

    /// Sends a request to the next server, as a client does that has found several by the name in its route or by that of its pool;
    /// false if all of them were asked.
    fn try_next(&mut self, now: u64, id: u32, why: Why) -> bool {
        let tries = usize::from(self.slots[id as usize].tries) + 1;
        if !self.plan.moves || tries >= self.servers.len() {
            return false;
        }
        let failed = self.slots[id as usize].server;
        self.go_on_elsewhere(id);
        let slot = &mut self.slots[id as usize];
        (slot.tries, slot.challenged) = (slot.tries + 1, false);
        if !slot.step.in_dialog() {
            slot.made = slot.server;
            slot.passed[why as usize] += 1;
            self.stays(id, failed);
        }
        self.send(now, id);
        true
    }

    /// The user of an operation that went on to another server keeps to that one, and registers there.
    fn stays(&mut self, id: u32, failed: SocketAddr) {
        let Slot { user, server, kind, .. } = self.slots[id as usize];
        let at = self.servers.iter().position(|other| *other == server).unwrap_or(0);
        let state = self.users.get_mut(user);
        if self.servers[state.server % self.servers.len()] != failed {
            return;
        }
        state.server = at;
        if kind != Kind::Register && self.again.len() < self.users.len() as usize * 2 {
            self.again.push_back(user);
        }
    }

    /// Sends a request again.
    pub(super) fn resend(&mut self, now: u64, id: u32, count: u8) {
        let slot = &self.slots[id as usize];
        let inviting = matches!(slot.step, Step::Invite | Step::Reinvite);
        if slot.step == Step::Hold || (inviting && slot.provisional) {
            return;
        }
        let generation = slot.generation;
        self.counts.retransmissions += 1;
        // A datagram that the socket refuses is lost like any other.
        let _ = self.transmit(id);
        self.timers.set(now, Timer::Resend(count.saturating_add(1)), id, generation);
    }

    /// Gives up an operation.
    pub(super) fn timed_out(&mut self, now: u64, id: u32) {
        let step = self.slots[id as usize].step;
        if step == Step::Hold || (self.goes_on(step) && self.try_next(now, id, Why::Silent)) {
            return;
        }
        if step == Step::Reinvite {
            self.reinvited(now, id, 0);
        } else {
            self.end(now, id, End::TimedOut);
        }
    }

    /// A connection is gone: what was under way on it has failed, and its users look for another server.
    pub(super) fn closed(&mut self, port: usize, server: SocketAddr) {
        let now = self.now();
        for id in 0..self.slots.len() {
            let slot = &self.slots[id];
            if slot.step != Step::Free && slot.port == port && slot.server == server {
                self.end(now, id as u32, End::Disconnected);
            }
        }
        if self.plan.moves {
            let ports = self.ports.len();
            for user in (0..self.users.len()).filter(|user| *user as usize % ports == port) {
                if self.servers[self.users.get(user).server % self.servers.len()] == server {
                    self.move_user(user);
                }
            }
        }
    }

    /// Ends an operation, counts it, and frees its slot.
    fn end(&mut self, now: u64, id: u32, end: End) {
        self.journal(now, id, end);
        let slot = &mut self.slots[id as usize];
        let (kind, user, server, due) = (slot.kind, slot.user, slot.server, slot.due);
        slot.step = Step::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id);
        self.live -= 1;
        let success = matches!(end, End::Status(200..=299));
        if success {
            self.counts.succeeded(kind, now.saturating_sub(due));
            self.control.count_success();
        } else {
            self.counts.failed += 1;
            self.counts.timeouts += u64::from(end == End::TimedOut);
            self.counts.disconnected += u64::from(end == End::Disconnected);
            self.control.count_failure();
        }
        let outcome = match end {
            _ if success => Outcome::Succeeded,
            End::Refused(..) => Outcome::Refused,
            _ => Outcome::Failed,
        };
        self.course.ended(due, kind, outcome);
        if self.plan.avalanche && self.phase == Phase::Measure {
            let retry_after = if let End::Refused(_, seconds) = end { seconds } else { None };
            self.course.tried(now, user, success, retry_after);
        }
        if kind == Kind::Register {
            self.registered(user, success, end);
        } else if self.plan.moves && matches!(end, End::TimedOut | End::Disconnected | End::Refused(503, _)) {
            // What another server did not answer says nothing of the user's own.
            let own = self.servers[self.users.get(user).server % self.servers.len()];
            if own == server {
                self.move_user(user);
            }
        }
        if self.plan.common.fresh_nonce {
            self.users.get_mut(user).sessions = [None, None];
        }
    }

    /// A REGISTER ended.
    fn registered(&mut self, user: u32, success: bool, end: End) {
        let state = self.users.get_mut(user);
        state.registering = false;
        state.registered |= success;
        if !success && self.phase == Phase::Prepare {
            let status = if let End::Status(status) | End::Refused(status, _) = end { status } else { 0 };
            *self.counts.unregistered.entry(status).or_default() += 1;
        }
        if !success && self.plan.moves {
            self.move_user(user);
        }
    }

    /// The user registers with the next server.
    fn move_user(&mut self, user: u32) {
        let servers = self.servers.len();
        let state = self.users.get_mut(user);
        state.registered = false;
        state.server = (state.server + 1) % servers;
        state.sessions = [None, None];
        if self.again.len() < self.users.len() as usize * 2 {
            self.again.push_back(user);
        }
    }

    /// Writes how an operation ended, before its slot is free.
    fn journal(&mut self, now: u64, id: u32, end: End) {
        let Some(journal) = &self.plan.journal else { return };
        let slot = &self.slots[id as usize];
        let success = matches!(end, End::Status(200..=299));
        if !success && !self.plan.journal_failures {
            return;
        }
        let status = match end {
            _ if success => 200,
            End::Status(status) | End::Refused(status, _) => status,
            End::TimedOut | End::Disconnected => 0,
        };
        let milliseconds = |nanos: u64| nanos / 1_000_000;
        let name = self.users.name(slot.user);
        let to = (slot.kind != Kind::Register).then(|| self.users.name(self.users.partner(slot.user)));
        let up = self.plan.began + milliseconds(slot.up);
        let line = Line {
            v: 1,
            t: milliseconds(now),
            op: slot.kind.name(),
            user: &name,
            server: slot.server,
            cseq: slot.cseq,
            status,
            at: self.plan.began + milliseconds(now),
            took: milliseconds(now.saturating_sub(slot.sent)),
            to: to.as_deref(),
            granted: slot.granted,
            refused: slot.passed[0],
            silent: slot.passed[1],
            step: (!success).then(|| slot.step.name()),
            why: (status >= 300).then_some(slot.why.as_str()),
            call: (slot.up > 0).then_some(CallLine { up, made: slot.made, reinvite: slot.reinvite }),
        };
        if journal.write(&line).is_err() {
            self.counts.unwritten += 1;
        }
    }
}

/// Which of a user's two sessions a request uses: registrars and proxies challenge apart.
fn session(step: Step) -> usize {
    usize::from(step != Step::Register)
}
