//! Planted bugs: each must be caught by a checker within a bounded number of seeds.
//!
//! Owns the list that is run and the one switch that a run reads. The bugs themselves stand where they belong, behind the
//! feature `planted`.

use pairline_group::planted::Planted;
use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// The bug of the runs on this thread.
pub fn current() -> Option<Planted> {
    CURRENT.with(Cell::get)
}

/// Plants a bug for the runs on this thread, or none.
pub fn plant(bug: Option<Planted>) {
    CURRENT.with(|current| current.set(bug));
}

/// All bugs.
pub fn all() -> Vec<Planted> {
    Planted::ALL.to_vec()
}
