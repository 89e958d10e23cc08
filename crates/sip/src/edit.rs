//! Byte-exact forwarding: a message plus a list of span edits, emitted in one gather copy. Bytes
//! that no edit names are never touched, not even to normalise them.

use std::net::IpAddr;

use bytes::Bytes;

use crate::header::Name;
use crate::lines::Line;
use crate::message::{Message, Start};
use crate::values;
use crate::via;

/// One replacement: the message's bytes `start..end` become scratch bytes `from..to`.
#[derive(Clone, Copy)]
struct Splice {
    start: usize,
    end: usize,
    from: usize,
    to: usize,
    /// Order among splices at the same place: pushed values stand before appended ones, and a
    /// value pushed later stands before one pushed earlier.
    rank: i32,
    /// The header that `set` wrote here, so that a later `set` or `remove` takes it back.
    set: Option<Name>,
}

/// Edits of one message. Indices and names always mean the message as it was received; values
/// with line ends are written with spaces instead, so that no value can begin another header.
pub struct Edit<'a> {
    message: &'a Message,
    scratch: Vec<u8>,
    splices: Vec<Splice>,
    /// Elements to take out: line index and element index within the line.
    removed: Vec<(usize, usize)>,
    vias_popped: usize,
    routes_popped: usize,
    next_rank: i32,
}

impl<'a> Edit<'a> {
    /// An edit without changes: `finish` would give the message's own bytes.
    pub fn new(message: &'a Message) -> Edit<'a> {
        Edit {
            message,
            scratch: Vec::with_capacity(256),
            splices: Vec::with_capacity(8),
            removed: Vec::new(),
            vias_popped: 0,
            routes_popped: 0,
            next_rank: 1,
        }
    }

    /// Replaces the Request-URI; nothing happens to a response.
    pub fn request_uri(&mut self, uri: &[u8]) -> &mut Self {
        if let Start::Request { uri_at, uri_end } = self.message.start {
            self.replace(uri_at as usize, uri_end as usize, uri);
        }
        self
    }

    /// Removes the topmost Via value that is still there.
    pub fn pop_via(&mut self) -> &mut Self {
        let index = self.vias_popped;
        self.vias_popped += 1;
        self.remove_value(Name::Via, index)
    }

    /// Puts a Via value on top.
    pub fn push_via(&mut self, value: &[u8]) -> &mut Self {
        self.push(Name::Via, value)
    }

    /// Sets `received` in the first Via value, and the value of `rport` where the Via has that
    /// parameter (RFC 3261 §18.2.1, RFC 3581 §4). [`Via::fix_for`](crate::Via::fix_for) gives the
    /// arguments.
    pub fn fix_top_via(&mut self, received: Option<IpAddr>, rport: Option<u16>) -> &mut Self {
        if received.is_none() && rport.is_none() {
            return self;
        }
        let Some(line) = self.message.line(Name::Via) else {
            return self;
        };
        let value_at = line.value_range().start;
        let value = self.message.value_of(line);
        let (range, _) = values::element_at(value, 0);
        if let Some(top) = via::Via::trusted(&value[range.clone()]) {
            let from = self.scratch.len();
            via::write_fixed(&top, received, rport, &mut self.scratch);
            self.splice(value_at + range.start, value_at + range.end, from, 0);
        }
        self
    }

    /// Removes the topmost Route value that is still there.
    pub fn pop_route(&mut self) -> &mut Self {
        let index = self.routes_popped;
        self.routes_popped += 1;
        self.remove_value(Name::Route, index)
    }

    /// Puts a Route value on top.
    pub fn push_route(&mut self, value: &[u8]) -> &mut Self {
        self.push(Name::Route, value)
    }

    /// Puts a Record-Route value on top.
    pub fn push_record_route(&mut self, value: &[u8]) -> &mut Self {
        self.push(Name::RecordRoute, value)
    }

    /// Puts a Path value on top (RFC 3327 §5.1).
    pub fn push_path(&mut self, value: &[u8]) -> &mut Self {
        self.push(Name::Path, value)
    }

    /// Puts a value of any header before its first one, or behind the Vias if there is none.
    pub fn push(&mut self, name: Name, value: &[u8]) -> &mut Self {
        let at = match self.message.line(name) {
            Some(line) => line.start(),
            None => self.after_vias(),
        };
        let rank = -self.take_rank();
        self.insert_line(at, rank, name.as_str().as_bytes(), value);
        self
    }

    /// Sets Max-Forwards.
    pub fn set_max_forwards(&mut self, hops: u8) -> &mut Self {
        self.set_number(Name::MaxForwards, u64::from(hops))
    }

    /// Sets Max-Breadth (RFC 5393 §5).
    pub fn set_max_breadth(&mut self, branches: u16) -> &mut Self {
        self.set_number(Name::MaxBreadth, u64::from(branches))
    }

    /// Sets a header that is a number: in its place, or behind the Vias.
    fn set_number(&mut self, name: Name, number: u64) -> &mut Self {
        let mut room = [0; 20];
        let digits = decimal(number, &mut room);
        match self.message.line(name) {
            Some(line) => {
                let range = line.value_range();
                self.replace(range.start, range.end, digits);
            }
            None => {
                let (at, rank) = (self.after_vias(), self.take_rank());
                self.insert_line(at, rank, name.as_str().as_bytes(), digits);
            }
        }
        self
    }

    /// Removes every line of a header that was received, and what `set` wrote; values that were
    /// pushed or appended stay.
    pub fn remove(&mut self, name: Name) -> &mut Self {
        self.splices.retain(|splice| splice.set != Some(name));
        if self.message.has(name) {
            self.remove_lines(|line, _| line.name == name);
        }
        self
    }

    /// Removes every line of a header by its name, in any case, known or not.
    pub fn remove_named(&mut self, name: &str) -> &mut Self {
        match Name::from_bytes(name.as_bytes()) {
            Name::Other => {
                self.remove_lines(|line, found| line.name == Name::Other && found.eq_ignore_ascii_case(name.as_bytes()))
            }
            known => {
                self.remove(known);
            }
        }
        self
    }

    /// Removes one line of a header, counted from 0: for headers whose values contain commas.
    pub fn remove_line(&mut self, name: Name, index: usize) -> &mut Self {
        let found = self.message.lines.as_slice().iter().filter(|line| line.name == name).nth(index);
        if let Some(start) = found.map(Line::start) {
            self.remove_lines(|line, _| line.start() == start);
        }
        self
    }

    /// Removes one comma-separated value of a header, counted across its lines from 0; the line
    /// goes with its last value.
    pub fn remove_value(&mut self, name: Name, index: usize) -> &mut Self {
        let mut before = 0;
        for (at, line) in self.message.lines.as_slice().iter().enumerate() {
            if line.name != name {
                continue;
            }
            let count = values::elements(self.message.value_of(line)).count();
            if index < before + count {
                let element = (at, index - before);
                if !self.removed.contains(&element) {
                    self.removed.push(element);
                }
                break;
            }
            before += count;
        }
        self
    }

    /// Sets a header to one value: in the place of its first line, or behind all others. A later
    /// `set` or `remove` of the same header takes the value back.
    pub fn set(&mut self, name: Name, value: &[u8]) -> &mut Self {
        let first = self.message.line(name).map(Line::start);
        self.remove(name);
        let rank = self.take_rank();
        let at = first.unwrap_or(self.message.body_at as usize - 2);
        self.insert_line(at, rank, name.as_str().as_bytes(), value);
        if let Some(splice) = self.splices.last_mut() {
            splice.set = Some(name);
        }
        self
    }

    /// Adds a header line behind all others.
    pub fn append(&mut self, name: Name, value: &[u8]) -> &mut Self {
        self.append_named(name.as_str(), value)
    }

    /// Adds a header line by its name behind all others.
    pub fn append_named(&mut self, name: &str, value: &[u8]) -> &mut Self {
        // The empty line that ends the headers.
        let at = self.message.body_at as usize - 2;
        let rank = self.take_rank();
        self.insert_line(at, rank, name.as_bytes(), value);
        self
    }

    /// Replaces body, Content-Type and Content-Length; an empty type leaves Content-Type alone.
    pub fn set_body(&mut self, content_type: &str, body: &[u8]) -> &mut Self {
        if !content_type.is_empty() {
            self.set(Name::ContentType, content_type.as_bytes());
        }
        let mut digits = Vec::with_capacity(8);
        crate::write::decimal(&mut digits, body.len() as u64);
        self.set(Name::ContentLength, &digits);
        let from = self.scratch.len();
        self.scratch.extend_from_slice(body);
        let start = self.message.body_at as usize;
        self.splice(start, self.message.buf.len(), from, 0);
        self
    }

    /// The edited message.
    pub fn finish(&mut self) -> Bytes {
        let source = &self.message.buf;
        if self.splices.is_empty() && self.removed.is_empty() {
            return source.clone();
        }
        self.splice_removed();
        self.splices.sort_by_key(|s| (s.start, s.end != s.start, s.rank));
        let mut out = Vec::with_capacity(source.len() + self.scratch.len());
        let mut at = 0;
        for splice in &self.splices {
            // An edit inside a line that is removed as a whole goes with the line.
            if splice.start < at {
                continue;
            }
            out.extend_from_slice(&source[at..splice.start]);
            out.extend_from_slice(&self.scratch[splice.from..splice.to]);
            at = splice.end;
        }
        out.extend_from_slice(&source[at..]);
        Bytes::from(out)
    }

    fn take_rank(&mut self) -> i32 {
        let rank = self.next_rank;
        self.next_rank += 1;
        rank
    }

    fn splice(&mut self, start: usize, end: usize, from: usize, rank: i32) {
        self.splices.push(Splice { start, end, from, to: self.scratch.len(), rank, set: None });
    }

    fn replace(&mut self, start: usize, end: usize, value: &[u8]) {
        // The later of two replacements of the same bytes holds. Rank 0 marks replacements.
        self.splices.retain(|s| s.start != start || s.end != end || s.rank != 0);
        let from = self.scratch.len();
        crate::write::value(&mut self.scratch, value);
        self.splice(start, end, from, 0);
    }

    fn insert_line(&mut self, at: usize, rank: i32, name: &[u8], value: &[u8]) {
        let from = self.scratch.len();
        crate::write::header(&mut self.scratch, name, value);
        self.splice(at, at, from, rank);
    }

    fn remove_lines(&mut self, condemned: impl Fn(&Line, &[u8]) -> bool) {
        let message = self.message;
        let from = self.scratch.len();
        for line in message.lines.as_slice() {
            if condemned(line, &message.buf[line.name_range()]) {
                let (start, end) = (line.start(), line.end());
                // Edits inside the line die with it; insertions before it stay.
                self.splices.retain(|s| s.start == s.end || s.start < start || s.start >= end);
                self.splice(start, end, from, 0);
            }
        }
    }

    /// The place behind the last Via line.
    fn after_vias(&self) -> usize {
        let lines = self.message.lines.as_slice();
        lines
            .iter()
            .rfind(|line| line.name == Name::Via)
            .or(lines.first())
            .map_or(self.message.body_at as usize - 2, Line::end)
    }

    /// Turns removed elements into splices: a whole line if none of its elements stays, else the
    /// element with the comma that joins it to a kept neighbour.
    fn splice_removed(&mut self) {
        self.removed.sort_unstable();
        let removed = std::mem::take(&mut self.removed);
        let from = self.scratch.len();
        let mut rest = removed.as_slice();
        while let Some(&(line_at, _)) = rest.first() {
            let count = rest.iter().take_while(|(at, _)| *at == line_at).count();
            let (here, after) = rest.split_at(count);
            rest = after;
            let line = self.message.lines.as_slice()[line_at];
            let value = self.message.value_of(&line);
            let ranges = element_ranges(value);
            if here.len() == ranges.len() {
                let (start, end) = (line.start(), line.end());
                self.splices.retain(|s| s.start == s.end || s.start < start || s.start >= end);
                self.splice(start, end, from, 0);
                continue;
            }
            let base = line.value_range().start;
            let gone = |index: usize| here.iter().any(|(_, element)| *element == index);
            let first_kept = (0..ranges.len()).find(|&i| !gone(i)).unwrap_or(0);
            for &(_, index) in here {
                let (start, end) = if index < first_kept {
                    (ranges[index].start, ranges[index + 1].start)
                } else {
                    (ranges[index - 1].end, ranges[index].end)
                };
                let (start, end) = (base + start, base + end);
                self.splices.retain(|s| s.start == s.end || s.start < start || s.start >= end);
                self.splice(start, end, from, 0);
            }
        }
    }
}

/// The digits of a number, without allocating.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}

fn element_ranges(value: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::with_capacity(4);
    let mut at = 0;
    while at <= value.len() {
        let (range, next) = values::element_at(value, at);
        ranges.push(range);
        at = next;
    }
    ranges
}
