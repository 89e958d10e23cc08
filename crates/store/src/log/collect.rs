//! Frees the log's space: deletes segments that nobody needs, moves the live records of idle groups to the log's head.
//!
//! Owns when a segment may go: oldest first, and only once whatever supersedes its records is synced.

use super::format::{HeadRead, RECORD_HEADER, RecordKind, decode_head};
use super::index::Place;
use super::{Log, LogError, Pending, segments};
use crate::files::{FileError, OpenFile, OpenMode};
use pairline_group::GroupId;

/// A record read back to be written again.
struct Moved {
    kind: RecordKind,
    group: GroupId,
    term: u64,
    index: u64,
    payload: Vec<u8>,
}

impl Log {
    /// Syncs, deletes segments without live records, and rewrites at most [`super::LogConfig::rewrite_bytes`] of live data that hold an
    /// old segment back. Does nothing while a group is corrupt and not forgotten. Call after purges, off the hot path.
    pub fn collect(&mut self) -> Result<(), LogError> {
        self.sync()?;
        if self.index.any_corrupt() {
            return Ok(());
        }
        self.delete_dead()?;
        if self.rewrite_oldest()? {
            self.sync()?;
            self.delete_dead()?;
        }
        Ok(())
    }

    fn delete_dead(&mut self) -> Result<(), LogError> {
        while let Some((number, _)) = self.sealed.first_key_value() {
            let number = *number;
            if self.index.live.get(&number).is_some_and(|live| live.records > 0) {
                break;
            }
            // One by one, so that no crash leaves a later segment gone and an earlier one there.
            let path = segments::path_of(&self.folder, number);
            let removed = self.files.remove(&path).and_then(|()| self.files.sync_dir(&self.folder));
            if let Err(error) = removed {
                return Err(self.fail(error));
            }
            self.sealed.remove(&number);
            self.index.live.remove(&number);
        }
        Ok(())
    }

    /// Copies live records of the oldest segment to the head, if at least half of a long log is dead. True if any.
    fn rewrite_oldest(&mut self) -> Result<bool, LogError> {
        let stats = self.stats();
        let long = stats.bytes > self.config.keep_segments.saturating_mul(self.config.segment_bytes);
        if !long || stats.live_bytes.saturating_mul(2) > stats.bytes {
            return Ok(false);
        }
        let Some((number, _)) = self.sealed.first_key_value() else {
            return Ok(false);
        };
        let number = *number;
        let path = segments::path_of(&self.folder, number);
        let file = self.files.open(&path, OpenMode::Read).map_err(|error| self.fail(error))?;
        let mut moved = Vec::new();
        let mut bytes = 0;
        for (group, _, place) in self.index.live_in(number) {
            match read_record(file.as_ref(), group, place) {
                Ok(Some(record)) => moved.push(record),
                // Rot in a segment at rest: it stays, and the next start reports the group.
                Ok(None) => return Ok(false),
                Err(error) => return Err(self.fail(error)),
            }
            bytes += place.len;
            if bytes >= self.config.rewrite_bytes {
                break;
            }
        }
        let pending: Vec<Pending<'_>> = moved.iter().map(Moved::pending).collect();
        self.write(&pending)?;
        Ok(!pending.is_empty())
    }
}

impl Moved {
    fn pending(&self) -> Pending<'_> {
        Pending {
            kind: self.kind,
            rewritten: true,
            group: self.group,
            term: self.term,
            index: self.index,
            payload: &self.payload,
        }
    }
}

/// Reads a live record back; `None` if it is not what was written.
fn read_record(file: &dyn OpenFile, group: GroupId, place: Place) -> Result<Option<Moved>, FileError> {
    let mut bytes = vec![0; usize::try_from(place.len).unwrap_or(0)];
    file.read_at(place.offset, &mut bytes)?;
    let HeadRead::Ok(head) = decode_head(&bytes, place.segment, place.offset) else {
        return Ok(None);
    };
    let Some(payload) = bytes.get(RECORD_HEADER..RECORD_HEADER + head.len as usize) else {
        return Ok(None);
    };
    if head.group != group || crc32c::crc32c(payload) != head.payload_crc {
        return Ok(None);
    }
    let payload = payload.to_vec();
    Ok(Some(Moved { kind: head.kind, group, term: head.term, index: head.index, payload }))
}
