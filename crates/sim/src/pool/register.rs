//! Whether what clients read and wrote of one record could have happened in some one order (linearizability), for values that are
//! each written once.
//!
//! Owns the histories and the checker: each value with its write and its reads spans a zone of time, and there is an order if and only
//! if no zones contradict each other (Gibbons and Korach, "Testing shared memories"). Knows no server.

use std::collections::BTreeMap;

/// What a read gave: the number of a write, or nothing written yet.
pub type Value = Option<u64>;

/// One operation under way or done. Times are steps of the run: no two are equal.
#[derive(Clone, Copy, Debug)]
struct Op {
    began: u64,
    /// `None`: nobody knows whether and when it took effect.
    ended: Option<u64>,
}

/// The history of one record.
#[derive(Clone, Debug, Default)]
pub struct Register {
    writes: BTreeMap<u64, Op>,
    reads: Vec<(Value, u64, u64)>,
}

/// The time that a value stood at least, or the time within which it can have stood (first, last).
#[derive(Clone, Copy, Debug)]
enum Zone {
    /// From an operation that ended to another that began later: it stood all that time.
    Forward(u64, u64),
    /// All its operations overlap: it stood at some moment of this time.
    Backward(u64, u64),
}

impl Register {
    /// A write begins; the same one may be sent several times.
    pub fn writes(&mut self, value: u64, step: u64) {
        self.writes.entry(value).or_insert(Op { began: step, ended: None });
    }

    /// A write is acknowledged.
    pub fn wrote(&mut self, value: u64, step: u64) {
        if let Some(op) = self.writes.get_mut(&value) {
            op.ended.get_or_insert(step);
        }
    }

    /// The same writes, none of which is known to have taken effect, nor to have not.
    pub fn forgotten(&self) -> Register {
        let open = self.writes.keys().map(|value| (*value, Op { began: 0, ended: None }));
        Register { writes: open.collect(), reads: Vec::new() }
    }

    /// A read gave a value.
    pub fn read(&mut self, value: Value, began: u64, ended: u64) {
        self.reads.push((value, began, ended));
    }

    /// The last operation count, to know that something was looked at.
    pub fn reads_done(&self) -> usize {
        self.reads.len()
    }

    /// Why there is no order, if there is none.
    pub fn check(&self) -> Result<(), String> {
        let mut zones: Vec<(Value, Zone)> = Vec::new();
        let values = std::iter::once(None).chain(self.writes.keys().map(|value| Some(*value)));
        for value in values {
            zones.extend(self.zone(value)?.map(|zone| (value, zone)));
        }
        if let Some((value, _, _)) =
            self.reads.iter().find(|(value, _, _)| value.is_some_and(|value| !self.writes.contains_key(&value)))
        {
            return Err(format!("value {value:?} was read and never written"));
        }
        for (at, (a, first)) in zones.iter().enumerate() {
            for (b, second) in &zones[at + 1..] {
                if contradict(*first, *second) {
                    return Err(format!("no order of {a:?} ({first:?}) and {b:?} ({second:?})"));
                }
            }
        }
        Ok(())
    }

    /// The zone of a value; `None` for one that nobody read and that may never have been written.
    fn zone(&self, value: Value) -> Result<Option<Zone>, String> {
        // What was there at the beginning was written before everything.
        let write = value.map_or(Some(Op { began: 0, ended: Some(0) }), |value| self.writes.get(&value).copied());
        let Some(write) = write else { return Ok(None) };
        let reads = || self.reads.iter().filter(move |(of, _, _)| *of == value);
        if let Some((_, _, ended)) = reads().find(|(_, _, ended)| *ended < write.began) {
            return Err(format!("value {value:?} was read by {ended}, before it was written from {}", write.began));
        }
        let ended = reads().map(|(_, _, ended)| *ended).chain(write.ended).min();
        let began = reads().map(|(_, began, _)| *began).chain([write.began]).max().unwrap_or_default();
        Ok(ended.map(|ended| if ended < began { Zone::Forward(ended, began) } else { Zone::Backward(began, ended) }))
    }
}

fn contradict(a: Zone, b: Zone) -> bool {
    match (a, b) {
        (Zone::Forward(a, b), Zone::Forward(c, d)) => a < d && c < b,
        (Zone::Forward(a, b), Zone::Backward(c, d)) | (Zone::Backward(c, d), Zone::Forward(a, b)) => a < c && d < b,
        (Zone::Backward(..), Zone::Backward(..)) => false,
    }
}

#[cfg(test)]
mod tests {
    //! What is in order, and what is not.

    use super::*;

    fn history(writes: &[(u64, u64, Option<u64>)], reads: &[(Value, u64, u64)]) -> Register {
        let mut register = Register::default();
        for (value, began, ended) in writes {
            register.writes(*value, *began);
            ended.iter().for_each(|ended| register.wrote(*value, *ended));
        }
        reads.iter().for_each(|(value, began, ended)| register.read(*value, *began, *ended));
        register
    }

    #[test]
    fn a_value_may_be_read_while_the_next_is_written() {
        let writes = [(1, 1, Some(2)), (2, 3, Some(10))];
        assert!(history(&writes, &[(Some(1), 4, 5), (Some(2), 6, 7), (Some(2), 11, 12)]).check().is_ok());
        assert!(history(&writes, &[(Some(2), 4, 5), (Some(1), 6, 7)]).check().is_err(), "back again");
        assert!(history(&writes, &[(Some(1), 11, 12)]).check().is_err(), "overwritten before the read began");
        assert!(history(&writes, &[(None, 3, 4)]).check().is_err(), "the beginning is over");
        assert!(history(&writes, &[(Some(3), 3, 4)]).check().is_err(), "never written");
    }

    #[test]
    fn what_nobody_was_told_of_may_come_late_or_never() {
        let writes = [(1, 1, None), (2, 3, Some(4))];
        assert!(history(&writes, &[(Some(2), 5, 6)]).check().is_ok());
        assert!(history(&writes, &[(Some(2), 5, 6), (Some(1), 7, 8)]).check().is_ok());
        assert!(history(&writes, &[(Some(1), 5, 6), (Some(2), 7, 8)]).check().is_err(), "2 was there first");
        assert!(history(&writes, &[(Some(1), 5, 6), (Some(1), 9, 10)]).check().is_ok());
    }
}
