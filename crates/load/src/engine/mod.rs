//! One thread of the generator: its users, ports, operations and pace.
//!
//! Owns the loop. `flow` starts operations and reacts to responses; `words` is what requests say; `uas` is the called side; `timers` and `slot` hold what is under
//! way.

mod counts;
mod course;
mod flow;
mod slot;
mod timers;
mod uas;
mod words;

pub use counts::Counts;
pub use course::{Curve, SLICE, Slice, StepCounts, Steps};
pub use slot::Kind;

use crate::args::{Common, Transport};
use crate::control::{Control, Phase};
use crate::journal::Journal;
use crate::pace::Pacer;
use crate::port::{self, Port, Received, Secure};
use crate::users::Users;
use course::{Course, Outcome};
use slot::{Slot, Step};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use timers::{Timer, Timers};
use uas::Uas;

/// Messages taken from one port before the others have their turn.
const BATCH: usize = 64;
/// Operations of a kind that are begun before the ports are looked at again: answers are not left lying for long.
const BEGUN: usize = 16;
/// Longest wait for something to happen, in nanoseconds.
const IDLE: u64 = 5_000_000;
/// Registrations at a time while users are prepared.
const PREPARING: usize = 100;

/// What one thread has to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all kinds share.
    pub common: Common,
    /// Address that it sends from.
    pub local: IpAddr,
    /// Number of the first of its users.
    pub first: u32,
    /// How many users it has.
    pub users: u32,
    /// Operations of each kind a second; empty in closed loop.
    pub rates: Vec<(Kind, f64)>,
    /// Offered load by steps; none in all but one kind of traffic.
    pub steps: Steps,
    /// All users are dropped at the start of the measurement and come back.
    pub avalanche: bool,
    /// Operations at a time in closed loop.
    pub outstanding: usize,
    /// Kind of the closed loop.
    pub kind: Kind,
    /// Each user once.
    pub once: bool,
    /// Whether users go to the next server when theirs fails.
    pub moves: bool,
    /// Time between ACK and BYE in nanoseconds.
    pub hold: u64,
    /// Number of the thread.
    pub thread: u16,
    /// Tells this run's Call-IDs from those of others.
    pub run: u64,
    /// Where acknowledged operations are written.
    pub journal: Option<Arc<Journal>>,
    /// Whether failed ones are written there too.
    pub journal_failures: bool,
    /// Whether established calls get a re-INVITE, and it and the BYE go to another server first.
    pub elsewhere: bool,
    /// Whether a new request that a server refuses with 503, or does not answer, goes to the next one.
    pub goes_on: bool,
    /// When the run began, in milliseconds since 1970.
    pub began: u64,
}

impl Plan {
    /// Operations before the measurement: each user registers, and for a course of loads sends a message, so that both its sessions
    /// have met their challenge.
    fn preparations(&self) -> u32 {
        match (self.once, self.steps.rates.is_empty()) {
            (true, _) => 0,
            (false, true) => self.users,
            (false, false) => self.users * 2,
        }
    }

    /// Whether the course of the measurement says what is begun.
    fn by_course(&self) -> bool {
        self.avalanche || !self.steps.rates.is_empty()
    }
}

/// One thread's state.
#[derive(Debug)]
pub struct Worker {
    plan: Plan,
    control: Arc<Control>,
    started: Instant,
    servers: Vec<SocketAddr>,
    transport: Transport,
    ports: Vec<Port>,
    users: Users,
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
    timers: Timers,
    uas: Uas,
    counts: Counts,
    pacers: Vec<(Kind, Pacer)>,
    course: Course,
    /// Whose turn it is: of all kinds together, or of each kind where users have servers of their own, so that no kind meets the users of
    /// one server only.
    next: [u32; 3],
    todo: u32,
    again: VecDeque<u32>,
    serial: u64,
    phase: Phase,
}

impl Worker {
    /// Opens the ports.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn new(plan: Plan, control: Arc<Control>, started: Instant) -> io::Result<Self> {
        let common = plan.common.clone();
        let secure = match (&common.authority, common.transport.is_secure()) {
            (Some(authority), true) => {
                let name = common.server_name.as_deref().unwrap_or(&common.domain);
                Some(Secure::load(authority, name, common.transport == Transport::Wss)?)
            }
            _ => None,
        };
        // A thread's sockets follow those of the threads before it.
        let first = |port: u16| match common.local_port {
            0 => 0,
            of_all => of_all.saturating_add(plan.thread.saturating_mul(common.sockets)).saturating_add(port),
        };
        let local = |port| SocketAddr::new(plan.local, first(port));
        let open = |port| Port::open(common.transport, local(port), secure.as_ref());
        let ports = (0..common.sockets).map(open).collect::<io::Result<_>>()?;
        let course = Course::new(plan.steps.clone(), plan.run ^ u64::from(plan.thread));
        Ok(Self {
            users: Users::new(&common, plan.first, plan.users),
            timers: Timers::new((common.timeout * 1e9) as u64, plan.hold),
            todo: plan.preparations(),
            servers: common.server,
            transport: common.transport,
            plan,
            control,
            started,
            ports,
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
            uas: Uas::default(),
            counts: Counts::default(),
            pacers: Vec::new(),
            course,
            next: [0; 3],
            again: VecDeque::new(),
            serial: 0,
            phase: Phase::Prepare,
        })
    }

    /// Runs until the end of the run.
    ///
    /// # Errors
    /// If a socket itself fails.
    pub fn run(mut self) -> io::Result<Counts> {
        let mut buffer = Vec::new();
        let mut drain_ends = None;
        let mut prepared = false;
        let mut finished = false;
        let mut looked = self.now();
        loop {
            let received = self.receive(&mut buffer)?;
            let now = self.now();
            self.course.looked(std::mem::replace(&mut looked, now), now);
            self.on_time(now);
            self.enter(now);
            let started = match self.phase {
                Phase::Prepare => self.prepare(now),
                Phase::Warm | Phase::Measure => self.traffic(now),
                Phase::Drain => {
                    let ends = *drain_ends.get_or_insert(now + (self.plan.common.timeout.min(4.0) * 1e9) as u64);
                    if self.live == 0 || now >= ends {
                        self.counts.curve = self.course.curve;
                        return Ok(self.counts);
                    }
                    false
                }
            };
            if !prepared && self.todo == 0 && self.live == 0 {
                prepared = true;
                self.control.done(Phase::Prepare);
            }
            let all = if self.plan.avalanche {
                self.course.all_back()
            } else {
                self.plan.once && self.next[0] >= self.users.len() && self.live == 0
            };
            if !finished && all && self.phase == Phase::Measure {
                finished = true;
                self.control.done(Phase::Measure);
            }
            for port in &mut self.ports {
                port.flush();
            }
            if !received && !started {
                port::wait(&self.ports, self.idle(now))?;
                // What came meanwhile has woken it.
                looked = self.now();
            }
        }
    }

    fn now(&self) -> u64 {
        // 584 years of nanoseconds.
        self.started.elapsed().as_nanos() as u64
    }

    /// Takes over the run's phase.
    fn enter(&mut self, now: u64) {
        let phase = self.control.phase();
        if phase == self.phase {
            return;
        }
        if self.phase == Phase::Prepare {
            self.pacers = self.plan.rates.iter().map(|(kind, rate)| (*kind, Pacer::new(*rate, now))).collect();
        }
        if phase == Phase::Measure {
            let unregistered = std::mem::take(&mut self.counts.unregistered);
            self.counts = Counts { unregistered, ..Counts::default() };
            if self.plan.avalanche {
                for user in 0..self.users.len() {
                    self.users.get_mut(user).sessions = [None, None];
                }
            }
            let dropped = if self.plan.avalanche { self.users.len() } else { 0 };
            let pacers = self.course.begin(now, dropped);
            if self.plan.by_course() {
                self.pacers = pacers;
            }
        }
        self.phase = phase;
    }

    /// Takes what came on all ports. True if anything did.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let mut any = false;
        for index in 0..self.ports.len() {
            for _ in 0..BATCH {
                match self.ports[index].receive(buffer)? {
                    Received::Nothing => break,
                    Received::Message(from) => self.message(index, from, buffer),
                    Received::Closed(server) => self.closed(index, server),
                }
                any = true;
            }
        }
        Ok(any)
    }

    /// Registers users that have not tried yet, and has them send a message if that is wanted. True if it began any.
    fn prepare(&mut self, now: u64) -> bool {
        let mut any = false;
        while self.todo > 0 && self.live < PREPARING {
            let number = self.plan.preparations() - self.todo;
            self.todo -= 1;
            let users = self.users.len();
            let kind = if number < users { Kind::Register } else { Kind::Message };
            self.begin(now, kind, number % users, now);
            any = true;
        }
        any
    }

    /// Begins the operations that are due. True if it began any.
    fn traffic(&mut self, now: u64) -> bool {
        let mut any = self.register_again(now);
        if self.plan.by_course() {
            return self.follow_course(now) | any;
        }
        if self.plan.rates.is_empty() {
            while self.live < self.plan.outstanding && self.begin_next(now, self.plan.kind, now) {
                any = true;
            }
            return any;
        }
        for index in 0..self.pacers.len() {
            let kind = self.pacers[index].0;
            while let Some(due) = self.pacers[index].1.take(now) {
                any |= self.begin_next(now, kind, due);
            }
        }
        any
    }

    /// What the course of the measurement wants begun. Before it nothing is.
    fn follow_course(&mut self, now: u64) -> bool {
        if self.phase != Phase::Measure {
            return false;
        }
        let mut any = false;
        if let Some(pacers) = self.course.advance(now) {
            self.pacers = pacers;
        }
        for index in 0..self.pacers.len() {
            let kind = self.pacers[index].0;
            for _ in 0..BEGUN {
                let Some(due) = self.pacers[index].1.take(now) else { break };
                self.course.offered(due);
                if self.begin_next(now, kind, due) {
                    any = true;
                } else {
                    self.course.ended(due, kind, Outcome::Failed);
                }
            }
        }
        for _ in 0..BEGUN {
            let Some(user) = self.course.returns(now) else { break };
            self.course.offered(now);
            self.begin(now, Kind::Register, user, now);
            any = true;
        }
        any
    }

    /// Users whose server failed register with the next one, before other traffic.
    fn register_again(&mut self, now: u64) -> bool {
        let mut any = false;
        while self.live < PREPARING * 2 {
            let Some(user) = self.again.pop_front() else {
                break;
            };
            if !self.users.get(user).registering {
                self.begin(now, Kind::Register, user, now);
                any = true;
            }
        }
        any
    }

    /// Begins an operation of the next user that can. False if none can.
    fn begin_next(&mut self, now: u64, kind: Kind, due: u64) -> bool {
        let count = self.users.len();
        let turn = match kind {
            Kind::Message if self.plan.moves => 1,
            Kind::Call if self.plan.moves => 2,
            _ => 0,
        };
        for _ in 0..count {
            let next = self.next[turn];
            if self.plan.once && next >= count {
                return false;
            }
            let index = next % count;
            self.next[turn] = if self.plan.once { next + 1 } else { (index + 1) % count };
            let user = self.users.get(index);
            let can = match kind {
                Kind::Register => !user.registering,
                Kind::Message | Kind::Call => user.registered && self.users.get(self.users.partner(index)).registered,
            };
            if can {
                self.begin(now, kind, index, due);
                return true;
            }
        }
        false
    }

    fn on_time(&mut self, now: u64) {
        while let Some(fired) = self.timers.fire(now) {
            let Some(slot) = self.slots.get(fired.slot as usize) else {
                continue;
            };
            if slot.generation != fired.generation || slot.step == Step::Free {
                continue;
            }
            match fired.timer {
                Timer::Resend(count) => self.resend(now, fired.slot, count),
                Timer::GiveUp => self.timed_out(now, fired.slot),
                Timer::Hold => self.hang_up(now, fired.slot),
            }
        }
        let ports = &mut self.ports;
        self.uas.on_time(now, |port, to, reply| {
            // A reply that cannot be sent is repeated, or its call fails and is counted at the caller.
            let _ = ports[port].send(to, reply);
        });
    }

    /// How long nothing can happen without a message.
    fn idle(&self, now: u64) -> u64 {
        let paced = self.pacers.iter().filter_map(|(_, pacer)| pacer.due()).min();
        let next = [paced, self.timers.due(), self.uas.due(), self.course.due()].into_iter().flatten().min();
        next.map_or(IDLE, |due| due.saturating_sub(now)).min(IDLE)
    }
}
