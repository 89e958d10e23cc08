//! The mode of one pool, as itself and its partner see it (DESIGN §8).
//!
//! Owns the step from heartbeats, ownership facts and operators' commands to a mode with its reason. Has no output but
//! the mode: it cannot hand over or promote anything, so no pool failover can come from here by itself.

use pairline_group::{Millis, PoolId};
use pairline_topology::policy::ResiliencePolicy;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The mode of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// This pool has restarted and nobody has confirmed yet that its epochs are current: nothing durable is changed.
    Starting,
    /// Full service at home.
    Normal,
    /// Users can register, call and exchange messages; nothing durable can be changed.
    Resiliency,
    /// A failover runs, or some of its groups have moved.
    FailingOver,
    /// All of its groups are served by the partner.
    FailedOver,
    /// A failback runs, or some of its groups are home again.
    FailingBack,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Starting => "starting",
            Mode::Normal => "normal",
            Mode::Resiliency => "resiliency",
            Mode::FailingOver => "failing over",
            Mode::FailedOver => "failed over",
            Mode::FailingBack => "failing back",
        })
    }
}

/// Who looks at the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The pool itself.
    Own,
    /// Its partner, which hears its heartbeats.
    Partner,
}

/// Who serves the pool's groups (its routing groups, without `cms`), counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// Groups served at home and confirmed.
    pub home: u32,
    /// Groups that are active at home by their own log, not confirmed since the restart.
    pub unconfirmed: u32,
    /// Groups served by the partner.
    pub partner: u32,
}

/// What operators' procedures say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorEvent {
    /// A failover of this pool has begun.
    FailoverStarted,
    /// A failback of this pool has begun.
    FailbackStarted,
    /// The procedure is over (done, aborted or stopped): the groups alone decide again.
    ProcedureEnded,
    /// An administrator asserted that this pool's epochs are current.
    AssertedActive,
}

/// What the machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeEvent {
    /// A heartbeat of the pool arrived (at its partner), or one of the partner arrived (at the pool itself).
    Heartbeat,
    /// Time passes.
    Tick,
    /// The link between the two pools is up. It says nothing of the node behind it: only heartbeats count.
    LinkUp,
    /// The link is down: the stretch of unbroken heartbeats ends here.
    LinkDown,
    /// The groups' lineages say who serves.
    Ownership(Ownership),
    /// A procedure or an administrator says something.
    Operator(OperatorEvent),
}

/// Why the mode changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModeReason {
    /// No heartbeat for this many milliseconds.
    NotHeard(Millis),
    /// Unbroken heartbeats for this many milliseconds.
    HeardAgain(Millis),
    /// The restarted pool's epochs were confirmed by the partner.
    Confirmed,
    /// An administrator asserted that the restarted pool's epochs are current.
    Asserted,
    /// The restarted pool got no answer for this many milliseconds.
    NoConfirmation(Millis),
    /// A procedure began.
    ProcedureStarted,
    /// A procedure ended.
    ProcedureEnded,
    /// The groups' lineages changed.
    GroupsMoved(Ownership),
}

impl fmt::Display for ModeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModeReason::NotHeard(ms) => write!(f, "no heartbeat for {} ms", ms),
            ModeReason::HeardAgain(ms) => write!(f, "heard without a break for {} ms", ms),
            ModeReason::Confirmed => write!(f, "epochs confirmed by the partner"),
            ModeReason::Asserted => write!(f, "epochs asserted by an administrator"),
            ModeReason::NoConfirmation(ms) => {
                write!(f, "no confirmation of the epochs for {} ms", ms)
            }
            ModeReason::ProcedureStarted => write!(f, "a procedure began"),
            ModeReason::ProcedureEnded => write!(f, "the procedure ended"),
            ModeReason::GroupsMoved(o) => {
                write!(f, "groups: {} at home, {} unconfirmed, {} at the partner", o.home, o.unconfirmed, o.partner)
            }
        }
    }
}

/// One change of mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    /// Whose.
    pub pool: PoolId,
    /// Before.
    pub from: Mode,
    /// Now.
    pub to: Mode,
    /// Why.
    pub reason: ModeReason,
}

/// A running procedure, as far as modes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moving {
    Not,
    Over,
    Back,
}

/// The machine for one pool in one view.
#[derive(Clone, Debug)]
pub struct ModeMachine {
    pool: PoolId,
    view: View,
    voice_failover: bool,
    heartbeat: Millis,
    detection: Millis,
    failback: Millis,
    mode: Mode,
    ownership: Ownership,
    moving: Moving,
    asserted: bool,
    /// All groups were last seen together at the partner: a mixture now is a failback.
    was_away: bool,
    started: Millis,
    last_heard: Millis,
    heard_since: Option<Millis>,
    away: bool,
}

impl ModeMachine {
    /// A machine for `pool`; detection counts from `now` (monotonic milliseconds).
    pub fn new(pool: PoolId, view: View, policy: &ResiliencePolicy, now: Millis) -> ModeMachine {
        let mode = if view == View::Own { Mode::Starting } else { Mode::Normal };
        let mut machine = ModeMachine {
            pool,
            view,
            voice_failover: false,
            heartbeat: 0,
            detection: 0,
            failback: 0,
            mode,
            ownership: Ownership::default(),
            moving: Moving::Not,
            asserted: false,
            was_away: false,
            started: now,
            last_heard: now,
            heard_since: None,
            away: false,
        };
        machine.set_policy(policy);
        machine
    }

    /// Takes over changed intervals; they hold from the next event on.
    pub fn set_policy(&mut self, policy: &ResiliencePolicy) {
        self.voice_failover = policy.voice_failover;
        self.heartbeat = Millis::from(policy.heartbeat_ms);
        self.detection = Millis::from(policy.detection_ms);
        self.failback = Millis::from(policy.failback_ms);
    }

    /// The pool that it describes.
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// The mode now.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether heartbeats have been missing for the detection interval (and not been back for the failback interval).
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Monotonic time of the last heartbeat, or of the start.
    pub fn last_heard(&self) -> Millis {
        self.last_heard
    }

    /// Handles one event at monotonic time `now`.
    pub fn handle(&mut self, now: Millis, event: ModeEvent) -> Option<ModeChange> {
        // The time that passed counts before the event: a heartbeat after a long silence is first a silence.
        let silence = self.pass(now).filter(|_| self.view == View::Partner);
        let reason = match event {
            ModeEvent::Heartbeat => {
                self.last_heard = now;
                self.heard_since.get_or_insert(now);
                None
            }
            ModeEvent::Tick | ModeEvent::LinkUp => None,
            ModeEvent::LinkDown => {
                self.heard_since = None;
                None
            }
            ModeEvent::Ownership(ownership) => self.learn(ownership),
            ModeEvent::Operator(event) => self.obey(event),
        };
        let next = self.wanted(now);
        if next == self.mode {
            return None;
        }
        let reason = reason.or(silence).unwrap_or(match next {
            Mode::Resiliency if self.view == View::Own => ModeReason::NoConfirmation(now.saturating_sub(self.started)),
            Mode::Resiliency => ModeReason::NotHeard(now.saturating_sub(self.last_heard)),
            _ => ModeReason::HeardAgain(self.heard_since.map_or(0, |since| now.saturating_sub(since))),
        });
        let change = ModeChange { pool: self.pool, from: self.mode, to: next, reason };
        self.mode = next;
        Some(change)
    }

    /// When a tick can next change something, if ever.
    pub fn next_timeout(&self) -> Option<Millis> {
        if self.view == View::Own {
            let waiting = self.mode == Mode::Starting;
            return waiting.then(|| self.started.saturating_add(self.detection));
        }
        match (self.away, self.heard_since) {
            (false, _) => Some(self.last_heard.saturating_add(self.detection)),
            (true, Some(since)) => Some(since.saturating_add(self.failback)),
            (true, None) => None,
        }
    }

    fn pass(&mut self, now: Millis) -> Option<ModeReason> {
        let silent = now.saturating_sub(self.last_heard);
        // While away, three missed heartbeats break the stretch; else a flapping link would count as being back.
        if silent >= self.heartbeat.saturating_mul(3).min(self.detection) {
            self.heard_since = None;
        }
        if !self.away && silent >= self.detection {
            self.away = true;
            return Some(ModeReason::NotHeard(silent));
        }
        if let Some(since) = self.heard_since
            && self.away
            && now.saturating_sub(since) >= self.failback
        {
            self.away = false;
            return Some(ModeReason::HeardAgain(now.saturating_sub(since)));
        }
        None
    }

    fn learn(&mut self, ownership: Ownership) -> Option<ModeReason> {
        let was_unconfirmed = self.ownership.unconfirmed > 0 || self.mode == Mode::Starting;
        self.ownership = ownership;
        let at_home = ownership.home + ownership.unconfirmed;
        if ownership.partner > 0 && at_home == 0 {
            self.was_away = true;
        } else if ownership.partner == 0 && at_home > 0 {
            self.was_away = false;
        }
        let confirmed = self.view == View::Own && was_unconfirmed && ownership.unconfirmed == 0;
        let reason = if confirmed && ownership.partner == 0 {
            ModeReason::Confirmed
        } else {
            ModeReason::GroupsMoved(ownership)
        };
        Some(reason)
    }

    fn obey(&mut self, event: OperatorEvent) -> Option<ModeReason> {
        match event {
            OperatorEvent::FailoverStarted => self.moving = Moving::Over,
            OperatorEvent::FailbackStarted => self.moving = Moving::Back,
            OperatorEvent::ProcedureEnded => {
                self.moving = Moving::Not;
                return Some(ModeReason::ProcedureEnded);
            }
            OperatorEvent::AssertedActive => {
                self.asserted = true;
                return Some(ModeReason::Asserted);
            }
        }
        Some(ModeReason::ProcedureStarted)
    }

    /// The mode that follows from everything known.
    fn wanted(&self, now: Millis) -> Mode {
        let o = self.ownership;
        let at_home = o.home + o.unconfirmed;
        match (at_home, o.partner) {
            (0, 1..) if self.moving == Moving::Back => Mode::FailingBack,
            (0, 1..) => Mode::FailedOver,
            (1.., 1..) => match self.moving {
                Moving::Over => Mode::FailingOver,
                Moving::Back => Mode::FailingBack,
                Moving::Not if self.was_away => Mode::FailingBack,
                Moving::Not => Mode::FailingOver,
            },
            _ if self.moving == Moving::Over => Mode::FailingOver,
            _ => self.wanted_at_home(now),
        }
    }

    /// The mode where nothing is at the partner, or nothing is known.
    fn wanted_at_home(&self, now: Millis) -> Mode {
        match self.view {
            View::Own => {
                let confirmed = self.ownership.unconfirmed == 0 && self.ownership.home > 0;
                let waited = now.saturating_sub(self.started) >= self.detection;
                match (confirmed || self.asserted, waited) {
                    (true, _) => Mode::Normal,
                    (false, true) => Mode::Resiliency,
                    (false, false) => Mode::Starting,
                }
            }
            View::Partner if self.away && self.voice_failover => Mode::Resiliency,
            View::Partner => Mode::Normal,
        }
    }
}
