//! What the shell drives: the node, or a scripted one in tests.
//!
//! Owns the trait only.

use pairline_group::Millis;
use pairline_group::io::{Now, RecoveredGroup};
use pairline_node::Node;
use pairline_node::io::{Input, Output};
use pairline_services::admission::Class;
use pairline_services::admission::sieve::{Shares, WHOLE};

/// Eats inputs, emits outputs, says when it wants to be called at the latest.
pub trait NodeLike {
    /// Handles one input.
    fn handle(&mut self, now: Now, input: Input);
    /// Handles inputs that came together, and empties the list.
    fn handle_all(&mut self, now: Now, inputs: &mut Vec<Input>) {
        for input in inputs.drain(..) {
            self.handle(now, input);
        }
    }
    /// Next output, if there is one.
    fn poll(&mut self) -> Option<Output>;
    /// Monotonic milliseconds at which a tick is due at the latest.
    fn next_timeout(&self) -> Option<Millis>;
    /// Requests that wait for their final answer.
    fn under_way(&self) -> usize {
        0
    }
    /// How much of what is new is to be handed in at all, by class.
    fn shares(&self) -> Shares {
        [WHOLE; Class::ALL.len()]
    }
}

/// Makes the node on the thread on which it lives, from what the disk gave back.
pub type MakeNode = Box<dyn FnOnce(Now, Vec<RecoveredGroup>) -> Result<Box<dyn NodeLike>, String> + Send>;

impl NodeLike for Node {
    fn handle(&mut self, now: Now, input: Input) {
        Node::handle(self, now, input);
    }

    fn handle_all(&mut self, now: Now, inputs: &mut Vec<Input>) {
        Node::handle_all(self, now, inputs.drain(..));
    }

    fn poll(&mut self) -> Option<Output> {
        Node::poll(self)
    }

    fn next_timeout(&self) -> Option<Millis> {
        Node::next_timeout(self)
    }

    fn under_way(&self) -> usize {
        Node::under_way(self)
    }

    fn shares(&self) -> Shares {
        Node::shares(self)
    }
}
