//! The table of header lines of one message: compact spans, inline up to a typical message's
//! count, spilled to a shared vector beyond. Knows spans, not what the headers mean.

use std::sync::Arc;

use crate::header::Name;

/// The most header lines that a message may have.
pub const MAX_HEADERS: usize = 256;

/// Lines kept inside the message itself; typical requests have 12 to 20.
const INLINE: usize = 24;

/// One header line: offsets into the message, all relative to `start` to stay small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    start: u32,
    name_len: u16,
    value_at: u16,
    value_len: u16,
    line_len: u16,
    pub(crate) name: Name,
}

impl Line {
    const EMPTY: Line = Line { start: 0, name_len: 0, value_at: 0, value_len: 0, line_len: 0, name: Name::Other };

    /// `None` if the line is longer than the offsets can say.
    pub(crate) fn new(
        name: Name,
        start: usize,
        name_end: usize,
        value: std::ops::Range<usize>,
        end: usize,
    ) -> Option<Line> {
        Some(Line {
            start: u32::try_from(start).ok()?,
            name_len: u16::try_from(name_end - start).ok()?,
            value_at: u16::try_from(value.start - start).ok()?,
            value_len: u16::try_from(value.end - value.start).ok()?,
            line_len: u16::try_from(end - start).ok()?,
            name,
        })
    }

    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }

    /// The position after the line's CRLF.
    pub(crate) fn end(&self) -> usize {
        self.start() + usize::from(self.line_len)
    }

    pub(crate) fn name_range(&self) -> std::ops::Range<usize> {
        self.start()..self.start() + usize::from(self.name_len)
    }

    pub(crate) fn value_range(&self) -> std::ops::Range<usize> {
        let at = self.start() + usize::from(self.value_at);
        at..at + usize::from(self.value_len)
    }
}

/// The lines in their order.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    inline: [Line; INLINE],
    len: u16,
    spill: Option<Arc<Vec<Line>>>,
}

impl Lines {
    pub(crate) fn new() -> Lines {
        Lines { inline: [Line::EMPTY; INLINE], len: 0, spill: None }
    }

    /// Appends a line; false once the limit is reached.
    pub(crate) fn push(&mut self, line: Line) -> bool {
        let len = usize::from(self.len);
        if len == MAX_HEADERS {
            return false;
        }
        if len < INLINE {
            self.inline[len] = line;
        } else {
            let inline = &self.inline;
            let spill = self.spill.get_or_insert_with(|| {
                let mut all = Vec::with_capacity(64);
                all.extend_from_slice(inline);
                Arc::new(all)
            });
            Arc::make_mut(spill).push(line);
        }
        self.len += 1;
        true
    }

    pub(crate) fn as_slice(&self) -> &[Line] {
        match &self.spill {
            Some(all) => all,
            None => &self.inline[..usize::from(self.len)],
        }
    }
}
