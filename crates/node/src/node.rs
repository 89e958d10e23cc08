//! The node: eats inputs, settles everything that follows from them, emits outputs.
//!
//! Owns the order of work inside one call. Every call ends with nothing ready: tasks polled, rooms drained.

use crate::admin::Passed;
use crate::config::NodeConfig;
use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::executor::{TaskId, Tasks, poll_once};
use crate::io::{Input, Output};
use crate::{host_side, modes, neighbours, peer_side, procedures, sip_side};
use pairline_group::Millis;
use pairline_group::RecoverError;
use pairline_group::io::{HostInput, Now, RecoveredGroup};
use pairline_services::admission::Doors;
use pairline_services::admission::sieve::Shares;
use pairline_services::cx::{LocateError, TaskEvent};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::task::Poll;

/// One server's deterministic part. Not `Send`: it lives and dies on the thread that made it.
pub struct Node {
    core: Rc<RefCell<Core>>,
    tasks: Tasks,
    anonymous: TaskId,
}

impl Node {
    /// Starts a server whose disk gave back `recovered` (empty for a new one).
    pub fn start_up(config: NodeConfig, now: Now, recovered: Vec<RecoveredGroup>) -> Result<Node, RecoverError> {
        let mut tasks = Tasks::default();
        let anonymous = tasks.reserve();
        let traces = crate::traces::Traces::of(&recovered);
        let mut core = crate::start::core(config, now, recovered)?;
        core.procedures.traces = traces;
        let mut node = Node { core: Rc::new(RefCell::new(core)), tasks, anonymous };
        crate::start::first_steps(&mut node.core.borrow_mut());
        crate::admin::recount(&mut node);
        node.settle();
        Ok(node)
    }

    /// Handles one input and all that follows from it.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.handle_all(now, [input]);
    }

    /// Handles inputs that came together, and then all that follows from them: what many requests change at once shares
    /// entries of the log.
    pub fn handle_all(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>) {
        {
            let mut core = self.core.borrow_mut();
            let since = now.mono.saturating_sub(core.now.mono);
            core.now = now;
            core.host.observe(now);
            neighbours::stood_still(&mut core, since);
        }
        for input in inputs {
            self.take(input);
        }
        self.settle();
    }

    /// Next output, if there is one.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.borrow_mut().out.pop_front()
    }

    /// How much of what is new is to be handed in at all, by class, while there is overload.
    pub fn shares(&self) -> Shares {
        self.core.borrow().admission.rate().shares()
    }

    /// When the node wants to be called at the latest (monotonic milliseconds).
    pub fn next_timeout(&self) -> Option<Millis> {
        let core = self.core.borrow();
        [
            core.host.next_timeout(),
            core.layer.next_timeout(),
            core.timers.keys().next().map(|(at, _)| *at),
            core.deadlines.first().map(|(at, _)| *at),
            core.modes.next_timeout(),
            core.procedures.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Requests of clients and servers that wait for their final answer.
    pub fn under_way(&self) -> usize {
        let core = self.core.borrow();
        core.quicks.len()
            + core.onward.len()
            + core.states.iter().flatten().filter(|state| state.asked.is_some()).count()
    }

    /// Tasks that have not ended.
    pub fn live_tasks(&self) -> usize {
        self.tasks.len().saturating_sub(1)
    }

    /// Looks at the node's state (tests, simulator's checkers).
    pub fn inspect<R>(&self, f: impl FnOnce(&Core) -> R) -> R {
        f(&self.core.borrow())
    }

    /// Entries applied since the last call, in order, if the node was started with `watch`.
    pub fn take_watched(&mut self) -> Vec<(pairline_group::GroupId, std::sync::Arc<pairline_group::Entry>)> {
        self.core.borrow_mut().watched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn core(&self) -> Rc<RefCell<Core>> {
        Rc::clone(&self.core)
    }

    pub(crate) fn anonymous(&self) -> TaskId {
        self.anonymous
    }

    pub(crate) fn reserve(&mut self) -> TaskId {
        self.tasks.reserve()
    }

    pub(crate) fn start(&mut self, task: TaskId, future: std::pin::Pin<Box<dyn Future<Output = ()>>>) {
        self.tasks.start(task, future);
        self.core.borrow_mut().ready.wake(task);
    }

    pub(crate) fn spawn<F, Fut>(&mut self, make: F)
    where
        F: FnOnce(TaskCx) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        let task = self.reserve();
        self.core.borrow_mut().add_state(task, None, None);
        let cx = TaskCx::new(self.core(), task);
        self.start(task, Box::pin(make(cx)));
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Sip { flow, message } => sip_side::received(self, flow, message),
            Input::Waited(waited) => crate::admission::waited(&mut self.core.borrow_mut(), waited),
            Input::Age { ms, again } => self.core.borrow_mut().admission.came_ago(ms, again),
            Input::PeerFrame { link, frame } => peer_side::frame(self, link, &frame),
            Input::Admin { request, actor, command } => {
                self.spawn(move |cx| async move {
                    let reply = crate::admin::execute(&cx, actor, command, Passed::Not).await;
                    cx.with(|core| core.out.push_back(Output::AdminReply { request, reply }));
                });
            }
            Input::TailStored { group } => {
                let core = self.core();
                let now = core.borrow().now;
                core.borrow_mut().host.handle(now, HostInput::TailStored { group });
                crate::admin::recount(self);
            }
            other => {
                let core = self.core();
                take_plain(&mut core.borrow_mut(), other);
            }
        }
    }

    fn tick(&mut self) {
        let core = self.core();
        let mut core = core.borrow_mut();
        let now = core.now;
        core.host.handle(now, HostInput::Tick);
        core.layer.on_time(now.mono);
        crate::admission::tick(&mut core);
        neighbours::tick(&mut core);
        crate::document::tick(&mut core);
        crate::onward::tick(&mut core);
        modes::tick(&mut core);
        procedures::tick(&mut core);
        crate::checkpoints::tick(&mut core);
        crate::stand_ins::tick(&mut core);
        crate::figures::tick(&mut core);
        let oldest = now.wall.saturating_sub(core.view.nonce_life_ms);
        core.nonces.expire(oldest);
        expire_timers(&mut core);
    }

    /// Runs until nothing is ready. Bounded: each round either ends a wait or sends something outside.
    fn settle(&mut self) {
        loop {
            while crate::subscribers::pump(self) {}
            if self.core.borrow_mut().knows.begins() {
                self.spawn(crate::knows::learn);
            }
            let (next, work, refused) = {
                let mut core = self.core.borrow_mut();
                let mut busy = true;
                while busy {
                    busy = host_side::pump(&mut core)
                        | sip_side::pump(&mut core)
                        | procedures::pump(&mut core)
                        | neighbours::pump(&mut core);
                }
                (core.ready.take(), core.procedures.background.pop_front(), core.quicks.refused.pop_front())
            };
            let resumed = refused.is_some();
            if let Some(refused) = refused {
                sip_side::resumed(self, refused);
            }
            if let Some(work) = work {
                self.spawn(|cx| procedures::background(cx, work));
            } else if next.is_none() && !resumed && self.core.borrow().to_tell.is_empty() {
                return self.send_parcels();
            }
            let Some(task) = next else { continue };
            let Some(mut future) = self.tasks.take(task) else { continue };
            match poll_once(&mut future) {
                Poll::Pending => self.tasks.put_back(task, future),
                Poll::Ready(()) => {
                    drop(future);
                    self.core.borrow_mut().remove_state(task);
                    self.tasks.free(task);
                }
            }
        }
    }
}

impl Node {
    /// What replication says in this turn goes out, by link.
    fn send_parcels(&self) {
        let mut core = self.core.borrow_mut();
        while let Some((link, frame)) = core.parcels.take() {
            core.out.push_back(Output::PeerFrame { link, frame });
        }
    }
}

fn take_plain(core: &mut Core, input: Input) {
    let now = core.now;
    match input {
        Input::FlowVerified { flow, names } => sip_side::flow_verified(core, flow, names),
        Input::FlowClosed { flow } => sip_side::flow_closed(core, flow),
        Input::LinkUp { link, pool, server } => peer_side::up(core, link, pool, server),
        Input::LinkLevel { link, highest } => crate::level::told(core, link, highest),
        Input::LevelInForce { level } => {
            crate::level::ends(core, level);
        }
        Input::LinkDown { link } => peer_side::down(core, link),
        Input::Synced { batch } => core.host.handle(now, HostInput::Synced { batch }),
        Input::CheckpointDone { id } => crate::checkpoints::done(core, id),
        Input::Disk { full } => crate::host_side::disk(core, full),
        Input::Tails { id, tails } => {
            if let Some(task) = core.waits.remove(&id) {
                core.resolve(task, id, WaitResult::Tails(tails));
            }
        }
        Input::Resolved { id, addresses } => {
            if let Some(task) = core.waits.remove(&id) {
                let result = match addresses {
                    Ok(found) if found.is_empty() => Err(LocateError::NotFound),
                    Ok(found) => Ok(found),
                    Err(_) => Err(LocateError::Timeout),
                };
                core.resolve(task, id, WaitResult::Located(result));
            }
        }
        Input::Ending => core.doors = Doors::Shut,
        Input::Facts(facts) => core.facts = facts,
        Input::Tick
        | Input::Sip { .. }
        | Input::Waited(_)
        | Input::Age { .. }
        | Input::PeerFrame { .. }
        | Input::Admin { .. }
        | Input::TailStored { .. } => {
            unreachable!("taken before with the whole node")
        }
    }
}

fn expire_timers(core: &mut Core) {
    let now = core.now.mono;
    while let Some(entry) = core.timers.first_entry() {
        if entry.key().0 > now {
            break;
        }
        let (task, wait) = entry.remove();
        core.waits.remove(&wait);
        core.forwarded.remove(&wait);
        core.resolve(task, wait, WaitResult::Elapsed);
    }
    while let Some((at, task)) = core.deadlines.first().copied() {
        if at > now {
            break;
        }
        core.deadlines.remove(&(at, task));
        if let Some(state) = core.state(task) {
            state.deadline = None;
        }
        core.deliver(task, TaskEvent::Deadline);
    }
    if core.local_guests.is_empty() {
        return;
    }
    core.local_guests.retain(|_, guest| guest.until > now);
}
