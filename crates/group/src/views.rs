//! States as they stood, while they go on: what a copy for another replica is read from, part by part.
//!
//! Owns what records were before they changed, of those that a reader has not come to yet. A whole state is not copied for it: that
//! takes as long as there are records, in which nobody is served. Does not own the records that are (`state`).

use crate::record::{Key, Record};
use std::collections::BTreeMap;
use std::ops::Bound;

/// All that are being read, by the readers' numbers.
#[derive(Debug, Default)]
pub(crate) struct Views(BTreeMap<u64, View>);

/// One state as it stood.
#[derive(Debug, Default)]
struct View {
    /// Everything up to there was read.
    read: Option<Key>,
    /// What records behind that were, where they have changed since; `None`: there was none.
    before: BTreeMap<Key, Option<Record>>,
}

impl Views {
    /// Begins one of the state as it is.
    pub(crate) fn open(&mut self, number: u64) {
        self.0.insert(number, View::default());
    }

    /// Ends all but those.
    pub(crate) fn keep(&mut self, wanted: impl Fn(u64) -> bool) {
        self.0.retain(|number, _| wanted(*number));
    }

    /// A record is another one than it was, or there is none any more, or there is one now.
    pub(crate) fn changed(&mut self, key: &Key, old: Option<&Record>) {
        for view in self.0.values_mut() {
            let read = view.read.as_ref().is_some_and(|read| key <= read);
            if !read && !view.before.contains_key(key) {
                view.before.insert(key.clone(), old.cloned());
            }
        }
    }

    /// The next records of one, in the order of their keys, until `full` says that it is enough, and whether there are more; `None` if
    /// nobody began it here. `present` are the records behind a key, as they are now.
    pub(crate) fn next<'a, I>(
        &mut self,
        number: u64,
        present: impl FnOnce(Bound<Key>) -> I,
        mut full: impl FnMut(&Key, &Record) -> bool,
    ) -> Option<(Vec<(Key, Record)>, bool)>
    where
        I: Iterator<Item = (&'a Key, &'a Record)>,
    {
        let view = self.0.get_mut(&number)?;
        let mut present = present(view.read.clone().map_or(Bound::Unbounded, Bound::Excluded)).peekable();
        let mut records = Vec::new();
        loop {
            let first = view.before.first_key_value().map(|(key, _)| key);
            let is_old = match (first, present.peek()) {
                (None, None) => return Some((records, false)),
                (Some(old), Some((key, _))) => old <= *key,
                (old, None) => old.is_some(),
                (None, _) => false,
            };
            let (key, record) = if is_old {
                let Some((key, record)) = view.before.pop_first() else { return Some((records, false)) };
                present.next_if(|(now, _)| **now == key);
                (key, record)
            } else {
                let Some((key, record)) = present.next() else { return Some((records, false)) };
                (key.clone(), Some(record.clone()))
            };
            view.read = Some(key.clone());
            let Some(record) = record else { continue };
            let full = full(&key, &record);
            records.push((key, record));
            if full {
                return Some((records, true));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! What is read part by part, while everything changes, is the state as it stood.
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ids::Position;
    use crate::record::{Class, Kind};

    fn key(n: u64) -> Key {
        Key::new(&format!("u{n:02}"), Kind(1), b"")
    }

    fn record(value: u64) -> Record {
        Record { version: Position::default(), class: Class::Durable, value: value.to_le_bytes().to_vec().into() }
    }

    type Records = BTreeMap<Key, Record>;

    fn put(views: &mut Views, records: &mut Records, n: u64, value: Option<u64>) {
        let old = match value {
            Some(value) => records.insert(key(n), record(value)),
            None => records.remove(&key(n)),
        };
        if old.is_some() || value.is_some() {
            views.changed(&key(n), old.as_ref());
        }
    }

    fn read(views: &mut Views, records: &Records, number: u64, most: usize) -> Option<(Vec<(Key, Record)>, bool)> {
        let mut count = 0;
        views.next(
            number,
            |from| records.range((from, Bound::Unbounded)),
            |_, _| {
                count += 1;
                count >= most
            },
        )
    }

    #[test]
    fn what_is_read_is_what_there_was() {
        let mut seed = 1_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..300 {
            let (mut views, mut records) = (Views::default(), Records::new());
            for n in 0..next(30) {
                put(&mut views, &mut records, n * 2, Some(n));
            }
            let mut readers: BTreeMap<u64, (Records, Vec<(Key, Record)>)> = BTreeMap::new();
            let mut number = 0;
            for _ in 0..200 {
                match next(8) {
                    0 if readers.len() < 3 => {
                        number += 1;
                        views.open(number);
                        readers.insert(number, (records.clone(), Vec::new()));
                    }
                    0..=2 => put(&mut views, &mut records, next(60), None),
                    3..=5 => put(&mut views, &mut records, next(60), Some(next(1_000))),
                    _ => {
                        let Some(number) = readers.keys().next().copied() else { continue };
                        let (part, more) = read(&mut views, &records, number, 1 + next(4) as usize).unwrap();
                        readers.get_mut(&number).unwrap().1.extend(part);
                        if !more {
                            let (stood, got) = readers.remove(&number).unwrap();
                            assert_eq!(got, stood.into_iter().collect::<Vec<_>>(), "round {round}");
                            views.keep(|one| readers.contains_key(&one));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nobody_reads_what_nobody_began_or_what_has_ended() {
        let (mut views, mut records) = (Views::default(), Records::new());
        put(&mut views, &mut records, 1, Some(1));
        assert_eq!(read(&mut views, &records, 1, 9), None);
        views.open(1);
        put(&mut views, &mut records, 1, Some(2));
        assert_eq!(read(&mut views, &records, 1, 9), Some((vec![(key(1), record(1))], false)));
        views.keep(|_| false);
        assert_eq!(read(&mut views, &records, 1, 9), None);
    }
}
