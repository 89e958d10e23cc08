//! The small deterministic executor: runs services' futures on the node's own thread, in a defined order.
//!
//! Owns the slab of futures and the order of polling. Knows nothing of what a task does or waits for; whoever completes
//! something wakes its task through [`ReadyQueue`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A task's name: slot and generation, so that a late wake-up of a finished task is harmless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    slot: u32,
    generation: u32,
}

impl TaskId {
    /// As one number, for names that pass through other rooms.
    pub fn as_u64(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.slot)
    }

    /// The slot in the slab.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// Order in which ready tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// First ready, first run: production.
    Fifo,
    /// Drawn from a seed: the simulator.
    Seeded(u64),
}

/// Tasks that are ready to be polled. Lives apart from the futures, so that a running future can wake others.
#[derive(Debug)]
pub struct ReadyQueue {
    ready: VecDeque<TaskId>,
    order: Order,
}

impl ReadyQueue {
    /// An empty queue.
    pub fn new(order: Order) -> ReadyQueue {
        ReadyQueue { ready: VecDeque::new(), order }
    }

    /// Makes a task ready; waking it twice polls it twice, which is harmless.
    pub fn wake(&mut self, task: TaskId) {
        self.ready.push_back(task);
    }

    /// The next task to poll.
    pub fn take(&mut self) -> Option<TaskId> {
        if let Order::Seeded(state) = &mut self.order
            && self.ready.len() > 1
        {
            *state = crate::rng::split_mix(*state);
            let at = usize::try_from(*state % self.ready.len() as u64).unwrap_or(0);
            return self.ready.remove(at);
        }
        self.ready.pop_front()
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Slot {
    generation: u32,
    task: Option<Task>,
}

/// The slab of live futures.
#[derive(Default)]
pub struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
}

impl Tasks {
    /// Reserves a place; the future follows with [`Tasks::start`].
    pub fn reserve(&mut self) -> TaskId {
        self.live += 1;
        if let Some(slot) = self.free.pop() {
            let generation = self.slots[slot as usize].generation;
            return TaskId { slot, generation };
        }
        let slot = u32::try_from(self.slots.len()).expect("task count is bounded far below 2^32");
        self.slots.push(Slot::default());
        TaskId { slot, generation: 0 }
    }

    /// Puts the future of a reserved task in place.
    pub fn start(&mut self, task: TaskId, future: Task) {
        let slot = &mut self.slots[task.slot()];
        assert_eq!(slot.generation, task.generation, "a task starts in the place reserved for it");
        slot.task = Some(future);
    }

    /// Polls one task; true if it has ended. The future is outside the slab meanwhile, so it may start others.
    pub fn take(&mut self, task: TaskId) -> Option<Task> {
        let slot = self.slots.get_mut(task.slot())?;
        if slot.generation != task.generation { None } else { slot.task.take() }
    }

    /// Puts a future back that is not ready.
    pub fn put_back(&mut self, task: TaskId, future: Task) {
        self.slots[task.slot()].task = Some(future);
    }

    /// Frees the place of a task that has ended or is dropped.
    pub fn free(&mut self, task: TaskId) {
        let slot = &mut self.slots[task.slot()];
        if slot.generation != task.generation {
            return;
        }
        slot.task = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(task.slot);
        self.live -= 1;
    }

    /// Tasks that have not ended.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }
}

/// Polls a future once; wakers are not used, because every completion wakes its task by name.
pub fn poll_once(future: &mut Task) -> Poll<()> {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context)
}
