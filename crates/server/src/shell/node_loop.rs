//! The node's thread: takes inputs in order of priority, hands them to the node, sends its outputs on their way.
//!
//! Owns the node while the server runs, the order (disk and timers first, then commands and links, then SIP: what is going on, then
//! calls, then the rest, then what repeats what was let fall), how long each kind of SIP has the node in a turn, and the wait between two turns. Decides nothing else.

use super::clock::Clock;
use super::inbox::{Outlet, Rest};
use super::lanes::Lane;
use super::node_like::NodeLike;
use super::pace::Pace;
use super::ports::Outgoing;
use super::receives::Receives;
use super::rhythm::Rhythm;
use super::signals::Signals;
use crate::capture::Tap;
use pairline_group::Millis;
use pairline_node::io::Input;
use pairline_services::admission::Waited;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time between two ticks, in milliseconds.
const TICK: Millis = 20;
/// Commands and changes per turn.
const CONTROL: usize = 256;
/// Messages of clients that are handled together: what these send goes out before more is taken. All else that a turn sends goes out at its
/// end: each thread that is woken for it is woken once.
const TOGETHER: usize = 128;
/// How long clients wait for a sync that is under way.
const HOLD: Duration = Duration::from_millis(2);
/// Messages and batches of datagrams that are not held back.
const MANY: usize = 64;
/// With so many waiting the node is behind, and leaves it to another thread to take datagrams, sort them and let fall what finds no room.
const FEW: usize = 4;
/// How long a stop waits for the disk, in milliseconds.
const STOP: Millis = 10_000;
/// With links up, a stop lasts at least so long, so that what was committed last can be shipped and acknowledged.
const SHIP: Millis = 250;
/// How long a stop waits for answers to requests that are under way, in milliseconds: longer than a server takes, shorter than a telephone
/// rings.
const FINISH: Millis = 2_000;

/// Kinds of clients' messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Streams,
    Datagrams(Lane),
}

/// What was let in has to be brought to its end, and a call's later messages are more than its first: what is going on goes before each
/// step of the others, for so long in a turn at most.
const ONGOING: Duration = Duration::from_millis(12);
/// In which order, and how long, each other kind has the node in a turn while more of it waits; then the next kind has it. None starves
/// another, and a call waits for two or three such shares, however much registers meanwhile.
const SHARES: [(Kind, Duration); 3] = [
    (Kind::Streams, Duration::from_micros(1_000)),
    (Kind::Datagrams(Lane::Calls), Duration::from_micros(3_500)),
    (Kind::Datagrams(Lane::Rest), Duration::from_micros(1_500)),
];

/// What repeats what was let fall is taken one small batch at a time; while there is anything else, not before so many times as long as the last
/// took have gone by: at full load of the machine what comes for the first time waits for more than the node, and is refused for it.
const BETWEEN: u32 = 2;

/// The node with everything around it, on its thread.
pub struct NodeLoop {
    node: Box<dyn NodeLike>,
    outlet: Outlet,
    out: Outgoing,
    tap: Tap,
    receives: Receives,
    clock: Clock,
    signals: Arc<Signals>,
    last_tick: Millis,
    synced: u64,
    stopping_since: Option<Millis>,
    /// Inputs that are handled together; kept for its room.
    together: Vec<Input>,
    /// How old what was given last is, in milliseconds, and whether it repeats what was let fall, as the node was told.
    age: (u64, bool),
    /// Since when clients wait for the disk.
    held: Option<Instant>,
    pace: Pace,
    rhythm: Rhythm,
    /// Until when clients wait for their turn.
    waits: Option<Instant>,
    /// When the next batch of what repeats what was let fall is due.
    again: Instant,
    /// The last append when clients last had their turn.
    appended: u64,
}

impl NodeLoop {
    /// Around a node that has just been made.
    pub fn new(
        node: Box<dyn NodeLike>,
        outlet: Outlet,
        (out, tap, receives): (Outgoing, Tap, Receives),
        clock: Clock,
        signals: Arc<Signals>,
    ) -> NodeLoop {
        outlet.bind_thread();
        NodeLoop {
            node,
            outlet,
            out,
            tap,
            receives,
            clock,
            signals,
            last_tick: 0,
            synced: 0,
            stopping_since: None,
            together: Vec::new(),
            age: (0, false),
            held: None,
            pace: Pace::new(Instant::now()),
            rhythm: Rhythm::new(Instant::now()),
            waits: None,
            again: Instant::now(),
            appended: 0,
        }
    }

    /// Runs until asked to stop, and then until the disk has everything.
    ///
    /// # Errors
    /// The node's reason why the process must end.
    pub fn run(mut self) -> Result<(), String> {
        self.drain()?;
        loop {
            let began = Instant::now();
            let worked = self.turn()?;
            if self.signals.stopping() {
                if self.stopping_since.is_none() {
                    self.give(Input::Ending);
                }
                if self.settled() {
                    self.out.close_disk();
                    return Ok(());
                }
            }
            match self.rhythm.turn(began) {
                Some(next) if !self.signals.stopping() => self.pause(next),
                _ if !worked => self.park(),
                _ => {}
            }
        }
    }

    /// Whether everything that was begun is durable and answered, and the other pools have had the time to hear of it.
    fn settled(&mut self) -> bool {
        let now = self.clock.now().mono;
        let since = now.saturating_sub(*self.stopping_since.get_or_insert(now));
        let durable = self.synced >= self.out.last_append() && !self.out.is_waiting();
        let told = since >= SHIP || !self.out.is_linked();
        let answered = since >= FINISH || self.node.under_way() == 0;
        (durable && told && answered) || self.signals.failed() || since > STOP
    }

    fn turn(&mut self) -> Result<bool, String> {
        let mut worked = false;
        while let Some(input) = self.outlet.disk() {
            if let Input::Synced { batch } = input {
                self.synced = self.synced.max(batch);
                self.pace.synced(Instant::now());
            }
            self.give(input);
            worked = true;
        }
        while let Some(input) = self.out.echo() {
            self.give(input);
            worked = true;
        }
        worked |= self.tick_if_due();
        self.drain()?;
        for _ in 0..CONTROL {
            let Some(input) = self.outlet.control() else { break };
            self.give(input);
            worked = true;
        }
        self.drain()?;
        if !self.out.congested() {
            worked |= self.peers()?;
            worked |= self.clients()?;
        }
        if worked && self.clock.now().mono > self.last_tick {
            self.tick();
            self.drain()?;
        }
        self.out.flush();
        Ok(worked)
    }

    fn peers(&mut self) -> Result<bool, String> {
        let (began, mut places) = (Instant::now(), Vec::new());
        while places.len() < self.rhythm.together() {
            let Some((input, place)) = self.outlet.peer() else { break };
            self.together.push(input);
            places.push(place);
        }
        let worked = self.handle_together()?;
        self.rhythm.took(places.len(), began.elapsed());
        Ok(worked)
    }

    /// Whether what clients sent waits: under load for its turn ([`Pace`]), else for the sync that is under way, so that what they
    /// change meanwhile shares the next. Never for long, and not when much has come.
    fn holds(&mut self) -> bool {
        self.waits = None;
        if self.outlet.waiting() >= MANY {
            self.held = None;
            return false;
        }
        let writing = self.synced < self.out.last_append();
        self.waits = self.pace.until(Instant::now(), writing);
        if self.waits.is_some() {
            return true;
        }
        if !writing || self.outlet.waiting() == 0 {
            self.held = None;
            return false;
        }
        let since = *self.held.get_or_insert_with(Instant::now);
        let holds = since.elapsed() < HOLD;
        if !holds {
            self.held = None;
        }
        holds
    }

    fn clients(&mut self) -> Result<bool, String> {
        let holds = self.holds();
        self.outlet.rest(if holds { Rest::Clients } else { Rest::Awake });
        if holds {
            return Ok(false);
        }
        if self.outlet.waiting() < FEW {
            self.receives.take(TOGETHER);
        }
        let (began, appended) = (Instant::now(), self.out.last_append());
        // What a turn gathers is written by the tick behind it, so this looks at what was written since the turn before. What
        // goes through and is not written down gains nothing by waiting.
        let Some(waited) = self.waited(began) else { return self.repetitions(0) };
        let wrote = appended > std::mem::replace(&mut self.appended, appended);
        self.together.push(Input::Waited(waited));
        self.age = (0, false);
        let (mut messages, mut ongoing) = (0, ONGOING);
        for (kind, share) in SHARES {
            let mut left = share;
            loop {
                messages += self.ongoing(&mut ongoing)?;
                let began = Instant::now();
                messages += self.gather(kind);
                if self.together.len() < TOGETHER {
                    break;
                }
                self.handle_and_send()?;
                left = left.saturating_sub(began.elapsed());
                if left.is_zero() {
                    break;
                }
            }
        }
        self.pace.turn(began, messages, wrote);
        self.handle_together()?;
        self.repetitions(messages)?;
        Ok(true)
    }

    /// Handles a batch of what repeats what was let fall, if it is time for one; so many others have been handled before it.
    fn repetitions(&mut self, others: usize) -> Result<bool, String> {
        if self.outlet.oldest(Lane::Again).is_none() {
            return Ok(false);
        }
        let began = Instant::now();
        if began < self.again {
            self.waits = Some(self.waits.map_or(self.again, |at| at.min(self.again)));
            return Ok(false);
        }
        if others == 0 {
            self.together.push(Input::Waited(Waited::default()));
        }
        self.gather(Kind::Datagrams(Lane::Again));
        self.age = (0, false);
        self.together.push(Input::Age { ms: 0, again: false });
        self.handle_together()?;
        let now = Instant::now();
        self.again = if others == 0 { now } else { now + (now - began) * BETWEEN };
        Ok(true)
    }

    /// Handles what is going on until there is none left, or no time; gives how many messages.
    fn ongoing(&mut self, left: &mut Duration) -> Result<usize, String> {
        let mut messages = 0;
        while !left.is_zero() {
            let began = Instant::now();
            messages += self.gather(Kind::Datagrams(Lane::Ongoing));
            if self.together.len() < TOGETHER {
                break;
            }
            self.handle_and_send()?;
            *left = left.saturating_sub(began.elapsed());
        }
        Ok(messages)
    }

    /// How long clients' messages have waited beyond what their kind may; `None` if none waits. What repeats what was let fall has time, and
    /// does not count.
    fn waited(&mut self, now: Instant) -> Option<Waited> {
        let outlet = &mut self.outlet;
        let since = |came: Instant| in_ms(now.saturating_duration_since(came));
        let patience = in_ms(Lane::Rest.patience());
        let rest = outlet.oldest(Lane::Rest).map(|came| since(came).saturating_sub(patience));
        let calls = outlet.oldest(Lane::Calls).map_or(0, since);
        let others = [outlet.oldest(Lane::Ongoing), outlet.youngest(Lane::Calls), outlet.oldest_stream()];
        let most = others.into_iter().flatten().map(since).chain(rest).max()?;
        Some(Waited { most, calls, rest: rest.unwrap_or_default() })
    }

    /// Takes messages of one kind until there are none or there is enough to be handled; gives how many.
    fn gather(&mut self, kind: Kind) -> usize {
        let (now, mut messages) = (Instant::now(), 0);
        while self.together.len() < TOGETHER {
            let (came, batch) = match kind {
                Kind::Streams => match self.outlet.stream() {
                    Some((came, input)) => (came, vec![input]),
                    None => break,
                },
                Kind::Datagrams(lane) => match self.outlet.datagrams(lane) {
                    Some((came, batch)) => {
                        let sip = |(flow, message)| Input::Sip { flow, message };
                        (came, batch.into_iter().map(sip).collect())
                    }
                    None => break,
                },
            };
            let age = (in_ms(now.saturating_duration_since(came)), kind == Kind::Datagrams(Lane::Again));
            if age != std::mem::replace(&mut self.age, age) {
                self.together.push(Input::Age { ms: age.0, again: age.1 });
            }
            messages += batch.len();
            self.together.extend(batch);
            // One batch at a time, see `repetitions`.
            if kind == Kind::Datagrams(Lane::Again) {
                break;
            }
        }
        messages
    }

    fn handle_together(&mut self) -> Result<bool, String> {
        if self.together.is_empty() {
            return Ok(false);
        }
        if self.tap.is_on() {
            self.together.iter().for_each(|input| self.tap.input(input));
        }
        self.node.handle_all(self.clock.now(), &mut self.together);
        self.drain()?;
        Ok(true)
    }

    /// Handles a batch of a turn that has more: what it sends does not wait for the turn's end.
    fn handle_and_send(&mut self) -> Result<(), String> {
        self.handle_together()?;
        self.out.flush();
        Ok(())
    }

    fn give(&mut self, input: Input) {
        self.node.handle(self.clock.now(), input);
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.last_tick = now.mono;
        self.node.handle(now, Input::Tick);
    }

    fn due(&self) -> Millis {
        let regular = self.last_tick.saturating_add(TICK);
        self.node.next_timeout().map_or(regular, |at| at.min(regular))
    }

    fn tick_if_due(&mut self) -> bool {
        let now = self.clock.now().mono;
        // A time-out in the past is served once per millisecond, not in a busy loop.
        let due = now >= self.due() && now > self.last_tick;
        if due {
            self.tick();
            self.outlet.set_shares(&self.node.shares());
        }
        due
    }

    fn drain(&mut self) -> Result<(), String> {
        while let Some(output) = self.node.poll() {
            if self.tap.is_on() {
                self.tap.output(&output);
            }
            self.out.dispatch(output)?;
        }
        Ok(())
    }

    /// Lets what comes gather until then.
    fn pause(&self, until: Instant) {
        self.outlet.rest(Rest::All);
        // What woke it before it rested may end the first wait at once.
        while !self.signals.stopping() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        self.outlet.rest(Rest::Awake);
    }

    fn park(&self) {
        let now = self.clock.now().mono;
        let wait = self.due().saturating_sub(now).clamp(1, TICK);
        // With something waiting for another thread, look again soon.
        let wait = if self.out.is_waiting() || self.held.is_some() { 1 } else { wait };
        let wait = Duration::from_millis(wait);
        if self.waits.is_none() {
            self.receives.hand_back();
        }
        let pace = self.waits.map(|at| at.saturating_duration_since(Instant::now()));
        std::thread::park_timeout(pace.map_or(wait, |pace| wait.min(pace)));
    }
}

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
