//! Replays the segments of a log and says which groups are whole, which are not, and where the log ends.
//!
//! Owns the verdict on damage: a torn tail is tolerated only behind the last sync mark of the last segment; anything else
//! makes those groups corrupt that may have lost a record. What a disk loses from the very end, last mark included, looks
//! like a torn tail here; the pair notices it (the partner is ahead). Changes no file.

use super::error::Corruption;
use super::format::{Head, RecordKind, SegmentHeader, decode_touched};
use super::index::{GroupIndex, Index, Place};
use super::scan::{Event, Scan};
use bytes::Bytes;
use pairline_group::GroupId;
use pairline_group::io::{LogKind, LogRecord};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Recovering {
    /// Serial of the last record seen or proven; `None` before the first of a group whose past is unknown.
    serial: Option<u64>,
    items: BTreeMap<u64, (Place, LogRecord)>,
    hard_state: Option<(Place, LogRecord)>,
    purged: u64,
    /// Nothing was written since it was forgotten.
    forgotten: bool,
    corrupt: Option<Corruption>,
    suspect: Option<Corruption>,
}

/// One group as found in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLog {
    /// Live items by index, then the last hard state.
    pub records: Vec<LogRecord>,
    /// Items up to here were purged (0: none).
    pub purged: u64,
    /// It was forgotten and has not begun anew: a checkpoint of it that is still there is void.
    pub forgotten: bool,
}

/// What the replay found.
#[derive(Debug, Default)]
pub struct LogRecovery {
    /// Whole groups.
    pub groups: BTreeMap<GroupId, RecoveredLog>,
    /// Groups whose log is not to be believed.
    pub corrupt: BTreeMap<GroupId, Corruption>,
    /// Bytes behind the last whole record that an interrupted write left (never acknowledged).
    pub torn_bytes: u64,
}

/// The running replay.
#[derive(Debug, Default)]
pub(super) struct Replay {
    groups: BTreeMap<GroupId, Recovering>,
    /// Number of the last mark.
    pub mark: u64,
    /// Records seen in all.
    pub total: u64,
    begun: bool,
}

impl Recovering {
    fn spoil(&mut self, reason: Corruption) {
        self.corrupt.get_or_insert(reason);
    }

    /// Something proves that the group has had exactly `serial` records by now.
    fn proven(&mut self, segment: u64, serial: u64) {
        match self.serial {
            Some(ours) if ours == serial => self.suspect = None,
            Some(ours) => self.spoil(Corruption::Missing { segment, expected: ours + 1, before: serial }),
            None if serial == 0 => {}
            None => self.spoil(Corruption::Missing { segment, expected: 1, before: serial }),
        }
        self.serial = Some(serial);
    }
}

impl Replay {
    /// A segment with a readable header begins: the one before is complete as far as the header says.
    pub(super) fn header(&mut self, header: &SegmentHeader) {
        for entry in &header.table {
            let group = self.groups.entry(entry.group).or_default();
            if self.begun {
                group.proven(header.segment, entry.serial);
            } else {
                group.serial = Some(entry.serial);
            }
            group.purged = entry.purged;
        }
        self.mark = header.mark;
        self.total = header.total;
        self.begun = true;
    }

    /// A segment whose header cannot be read: whatever came before it may have been longer.
    pub(super) fn lost_header(&mut self, segment: u64) {
        self.suspect_all(segment, 0);
        self.begun = true;
    }

    fn suspect_all(&mut self, segment: u64, offset: u64) {
        for group in self.groups.values_mut() {
            group.suspect.get_or_insert(Corruption::Unproven { segment, offset });
        }
    }

    /// Walks a segment up to `end` (known from the next segment's header): everything in it was synced.
    pub(super) fn sealed(&mut self, segment: u64, bytes: &[u8], from: usize, end: usize) -> Result<(), u8> {
        let mut scan = Scan::new(&bytes[..end.min(bytes.len())], segment, from);
        while let Some(event) = scan.step()? {
            self.event(segment, event);
        }
        Ok(())
    }

    /// Walks the last segment. Returns where the log ends.
    pub(super) fn last(&mut self, segment: u64, bytes: &[u8], from: usize) -> Result<u64, u8> {
        let mut events = Vec::new();
        let mut scan = Scan::new(bytes, segment, from);
        while let Some(event) = scan.step()? {
            events.push(event);
        }
        let marked = events.iter().rev().find_map(|event| match event {
            Event::Record { offset, head, .. } if head.kind == RecordKind::Mark => Some(*offset),
            _ => None,
        });
        let mut end = from as u64;
        for event in events {
            match event {
                Event::Record { offset, len, .. } => end = offset + len,
                Event::BadPayload { offset, .. } | Event::Damage { offset } => {
                    if marked.is_none_or(|mark| offset > mark) {
                        break;
                    }
                }
            }
            self.event(segment, event);
        }
        Ok(end)
    }

    fn event(&mut self, segment: u64, event: Event<'_>) {
        match event {
            // What it may have held shows at the next mark or segment.
            Event::Damage { .. } => {}
            Event::BadPayload { offset, head } => {
                self.total += 1;
                if head.kind != RecordKind::Mark {
                    let group = self.groups.entry(head.group).or_default();
                    group.spoil(Corruption::Damaged { segment, offset });
                    group.serial = Some(head.serial);
                }
            }
            Event::Record { offset, head, payload, .. } if head.kind == RecordKind::Mark => {
                self.at_mark(segment, offset, head, payload);
                self.total += 1;
            }
            Event::Record { offset, len, head, payload } => {
                self.total += 1;
                self.record(Place { segment, offset, len }, head, payload);
            }
        }
    }

    fn at_mark(&mut self, segment: u64, offset: u64, head: Head, payload: &[u8]) {
        let next_in_line = head.index == self.mark + 1;
        if !next_in_line && head.term != self.total {
            self.suspect_all(segment, offset);
        }
        for (group, serial) in decode_touched(payload).unwrap_or_default() {
            self.groups.entry(group).or_default().proven(segment, serial);
        }
        self.mark = head.index;
        self.total = head.term;
    }

    fn record(&mut self, place: Place, head: Head, payload: &[u8]) {
        let group = self.groups.entry(head.group).or_default();
        if head.kind == RecordKind::Forget {
            *group = Recovering { serial: Some(head.serial), forgotten: true, ..Recovering::default() };
            return;
        }
        group.forgotten = false;
        let expected = group.serial.map_or(1, |serial| serial + 1);
        if head.serial == expected {
            group.suspect = None;
        } else {
            let before = head.serial.saturating_sub(1);
            group.spoil(Corruption::Missing { segment: place.segment, expected, before });
        }
        group.serial = Some(head.serial);
        let stored = |kind| LogRecord {
            group: head.group,
            kind,
            term: head.term,
            index: head.index,
            payload: Bytes::copy_from_slice(payload),
        };
        match head.kind {
            RecordKind::Item => {
                if !head.rewritten {
                    group.items.split_off(&head.index);
                }
                group.items.insert(head.index, (place, stored(LogKind::Item)));
            }
            RecordKind::HardState => group.hard_state = Some((place, stored(LogKind::HardState))),
            RecordKind::Purge => {
                group.purged = group.purged.max(head.index);
                group.items = group.items.split_off(&group.purged.saturating_add(1));
            }
            RecordKind::Forget | RecordKind::Mark => {}
        }
    }

    /// The verdict, and the index of what is live.
    pub(super) fn finish(self) -> (LogRecovery, Index) {
        let mut recovery = LogRecovery::default();
        let mut index = Index::default();
        for (id, mut group) in self.groups {
            group.items = group.items.split_off(&group.purged.saturating_add(1));
            let reason = group.corrupt.take().or(group.suspect.take()).or_else(|| hole(&group));
            let serial = group.serial.unwrap_or(0);
            let entry = GroupIndex { serial, purged: group.purged, corrupt: reason.is_some(), ..GroupIndex::default() };
            index.groups.insert(id, entry);
            if let Some(reason) = reason {
                recovery.corrupt.insert(id, reason);
                continue;
            }
            let mut found = RecoveredLog { records: Vec::new(), purged: group.purged, forgotten: group.forgotten };
            for (at, (place, record)) in group.items {
                index.item(id, at, place);
                found.records.push(record);
            }
            if let Some((place, record)) = group.hard_state {
                index.hard_state(id, place);
                found.records.push(record);
            }
            recovery.groups.insert(id, found);
        }
        (recovery, index)
    }
}

/// The first missing item, if items do not follow one another from the purged index on.
fn hole(group: &Recovering) -> Option<Corruption> {
    let mut expected = if group.purged > 0 { group.purged + 1 } else { *group.items.keys().next()? };
    for index in group.items.keys() {
        if *index != expected {
            return Some(Corruption::Hole { expected });
        }
        expected = index.checked_add(1)?;
    }
    None
}
