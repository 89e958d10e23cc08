//! Walks over the bytes of one segment and tells records from damage.
//!
//! Owns the search for the next readable record behind a damaged stretch. Does not judge what damage means.

use super::format::{Head, HeadRead, decode_head, record_len};

/// What the walk meets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A whole record.
    Record { offset: u64, len: u64, head: Head, payload: &'a [u8] },
    /// A readable header whose payload does not match its checksum.
    BadPayload { offset: u64, head: Head },
    /// Bytes that are no record, with a record (or the segment's known end) behind them.
    Damage { offset: u64 },
}

/// The walk. Ends where nothing readable is left.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    segment: u64,
    at: usize,
}

impl<'a> Scan<'a> {
    /// Walks `bytes` (a whole segment) from offset `from`.
    pub(super) fn new(bytes: &'a [u8], segment: u64, from: usize) -> Scan<'a> {
        Scan { bytes, segment, at: from.next_multiple_of(8) }
    }

    /// The header at `at`, if its whole record fits.
    fn head(&self, at: usize) -> Result<Option<(Head, usize)>, u8> {
        let Some(rest) = self.bytes.get(at..) else {
            return Ok(None);
        };
        match decode_head(rest, self.segment, at as u64) {
            HeadRead::Ok(head) => {
                let len = usize::try_from(record_len(head.len as usize)).unwrap_or(usize::MAX);
                Ok(Some((head, len)).filter(|_| len <= rest.len()))
            }
            HeadRead::Newer(version) => Err(version),
            HeadRead::Blank | HeadRead::Bad => Ok(None),
        }
    }

    /// The next event, or the version of a record that is newer than this build.
    pub(super) fn step(&mut self) -> Result<Option<Event<'a>>, u8> {
        let start = self.at;
        if let Some((head, len)) = self.head(start)? {
            self.at = start + len;
            let from = start + super::format::RECORD_HEADER;
            let payload = &self.bytes[from..from + head.len as usize];
            let offset = start as u64;
            if crc32c::crc32c(payload) != head.payload_crc {
                return Ok(Some(Event::BadPayload { offset, head }));
            }
            return Ok(Some(Event::Record { offset, len: len as u64, head, payload }));
        }
        let mut next = start + 8;
        while next < self.bytes.len() {
            if self.head(next)?.is_some() {
                self.at = next;
                return Ok(Some(Event::Damage { offset: start as u64 }));
            }
            next += 8;
        }
        Ok(None)
    }
}
