//! A ladder: messages in order of time as arrows between columns, one column for each client and each server.
//!
//! Owns the order of columns, the joining of what two servers saw of one message between them, and the drawing. Does not own where
//! messages come from (`trace`).

use crate::capture::Traced;
use pairline_sip::kind::kind_of;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Columns that are drawn each; all further clients share the last.
const COLUMNS: usize = 10;
/// Characters between two columns.
const WIDTH: usize = 25;
/// Characters before the first column's line.
const MARGIN: usize = 20;

/// One message as a server saw it, in the time of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Corrected wall-clock microseconds.
    pub at_us: u64,
    /// The server that saw it.
    pub server: String,
    /// What it saw.
    pub traced: Traced,
}

impl Step {
    /// Whether the server sent it.
    pub fn is_out(&self) -> bool {
        self.traced.direction == "out"
    }

    /// The message in a few words: method and, of an answer, status and reason.
    pub fn words(&self) -> String {
        let message = self.traced.message.trim_start();
        let line = message.lines().next().unwrap_or_default();
        let description = has_description(message);
        let words = match kind_of(message.as_bytes()) {
            Some(seen) if seen.status.is_some() => {
                let method = String::from_utf8_lossy(seen.method);
                let status = line.strip_prefix("SIP/2.0 ").unwrap_or(line);
                format!("{} ({method})", printable(status))
            }
            Some(seen) => String::from_utf8_lossy(seen.method).into_owned(),
            None => printable(line),
        };
        if description { format!("{words} SDP") } else { words }
    }

    /// The other end: a server's name, or an address.
    fn other(&self) -> &str {
        self.traced.server.as_deref().unwrap_or(&self.traced.remote)
    }

    /// What tells the message that one server sent to another from all others.
    fn key(&self) -> String {
        let (from, to) =
            if self.is_out() { (self.server.as_str(), self.other()) } else { (self.other(), self.server.as_str()) };
        let line = self.traced.message.lines().next().unwrap_or_default();
        let header = |name: &str| value_of(&self.traced.message, name).unwrap_or_default();
        [from, to, line, header("via"), header("call-id"), header("cseq")].join("\n")
    }

    /// The user at the other end, as far as a request says.
    fn user(&self) -> Option<String> {
        if kind_of(self.traced.message.as_bytes())?.status.is_some() {
            return None;
        }
        let value = value_of(&self.traced.message, if self.is_out() { "to" } else { "from" })?;
        let at = value.find("sip:").map(|at| at + 4).or_else(|| value.find("sips:").map(|at| at + 5))?;
        let user = value[at..].split(['@', '>', ';', ' ']).next()?;
        (!user.is_empty() && value[at..].contains('@')).then(|| printable(user))
    }
}

fn has_description(message: &str) -> bool {
    ["content-type", "c"].iter().any(|name| {
        value_of(message, name).is_some_and(|value| value.to_ascii_lowercase().starts_with("application/sdp"))
    })
}

/// The first value of a header.
fn value_of<'m>(message: &'m str, name: &str) -> Option<&'m str> {
    let head = message.lines().skip(1).take_while(|line| !line.is_empty());
    head.filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Nothing of a message may move the terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    server: bool,
    user: Option<String>,
}

/// A ladder that grows.
#[derive(Debug, Default)]
pub struct Ladder {
    columns: Vec<Column>,
    begin_us: Option<u64>,
    /// Messages between two servers that one of them has told: sent ones count up, received ones down.
    between: BTreeMap<String, i32>,
    shown: usize,
}

impl Ladder {
    /// A ladder for all of these messages, drawn at once, with its columns known from the start.
    pub fn draw(steps: &[Step]) -> String {
        let mut ladder = Ladder::default();
        steps.iter().for_each(|step| {
            ladder.meet(step);
        });
        let mut text = String::new();
        for step in steps {
            text.push_str(&ladder.add(step));
        }
        text
    }

    /// The lines of one more message: its arrow, and before it the columns' names if they have changed. Empty for a message that
    /// the other server has told already.
    pub fn add(&mut self, step: &Step) -> String {
        let changed = self.meet(step);
        if step.traced.server.is_some() && self.is_told(step) {
            return String::new();
        }
        let mut text = if changed || self.shown == 0 { self.head() } else { String::new() };
        self.shown += 1;
        let begin = *self.begin_us.get_or_insert(step.at_us);
        let (own, other) = (self.place(&step.server), self.place(step.other()));
        let (from, to) = if step.is_out() { (own, other) } else { (other, own) };
        text.push_str(&self.arrow(step, step.at_us.saturating_sub(begin), from, to));
        text
    }

    fn is_told(&mut self, step: &Step) -> bool {
        let told = self.between.entry(step.key()).or_default();
        let before = *told;
        *told += if step.is_out() { 1 } else { -1 };
        if step.is_out() { before < 0 } else { before > 0 }
    }

    /// Makes the columns of a message's ends; whether any is new, or is known better than before.
    fn meet(&mut self, step: &Step) -> bool {
        let before = self.columns.clone();
        self.meet_server(&step.server);
        match &step.traced.server {
            Some(name) => self.meet_server(name),
            None => self.meet_client(step),
        }
        before != self.columns
    }

    fn meet_server(&mut self, name: &str) {
        if self.columns.iter().any(|column| column.name == name) {
            return;
        }
        let column = Column { name: name.to_owned(), server: true, user: None };
        let at = self.columns.iter().rposition(|column| column.server).map_or(self.columns.len(), |last| last + 1);
        self.columns.insert(at, column);
    }

    /// The first client of the first server stands left, and its further ones where other servers part both sides; all others
    /// stand right.
    fn meet_client(&mut self, step: &Step) {
        let (name, user) = (step.traced.remote.as_str(), step.user());
        if let Some(column) = self.columns.iter_mut().find(|column| column.name == name) {
            column.user = column.user.take().or(user);
            return;
        }
        if self.columns.len() >= COLUMNS {
            return;
        }
        let column = Column { name: name.to_owned(), server: false, user };
        let servers = self.columns.iter().filter(|column| column.server).count();
        let first = self.columns.iter().position(|column| column.server).unwrap_or(0);
        let left = self.columns.get(first).is_some_and(|column| column.name == step.server);
        if left && (first == 0 || servers > 1) {
            self.columns.insert(0, column);
        } else {
            self.columns.push(column);
        }
    }

    fn place(&self, name: &str) -> usize {
        let last = self.columns.len().saturating_sub(1);
        self.columns.iter().position(|column| column.name == name).unwrap_or(last)
    }

    /// Where a column's line stands.
    fn at(column: usize) -> usize {
        MARGIN + column * WIDTH
    }

    fn head(&self) -> String {
        let mut text = String::from("\n");
        let names = |pick: &dyn Fn(&Column) -> String| {
            let mut line = vec![' '; Ladder::at(self.columns.len())];
            for (n, column) in self.columns.iter().enumerate() {
                let name: Vec<char> = pick(column).chars().take(WIDTH - 1).collect();
                let start = Ladder::at(n).saturating_sub(name.len() / 2);
                line.iter_mut().skip(start).zip(name).for_each(|(place, c)| *place = c);
            }
            line.into_iter().collect::<String>().trim_end().to_owned()
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", names(&|column| column.name.clone()));
        let users = names(&|column| column.user.clone().unwrap_or_default());
        if !users.is_empty() {
            let _ = writeln!(text, "{users}");
        }
        text
    }

    fn arrow(&self, step: &Step, after_us: u64, from: usize, to: usize) -> String {
        let mut line = vec![' '; Ladder::at(self.columns.len().saturating_sub(1)) + 1];
        for n in 0..self.columns.len() {
            line[Ladder::at(n)] = '|';
        }
        let time = format!("{:>6}.{:03}", after_us / 1_000_000, after_us / 1_000 % 1_000);
        line.iter_mut().zip(time.chars()).for_each(|(place, c)| *place = c);
        let (low, high) = (Ladder::at(from.min(to)), Ladder::at(from.max(to)));
        let words: Vec<char> = step.words().chars().collect();
        if low < high {
            line[low + 1..high].fill('-');
            if from < to {
                line[high - 1] = '>';
            } else {
                line[low + 1] = '<';
            }
            let room = high - low - 5;
            let words = &words[..words.len().min(room)];
            let start = low + 3 + (room - words.len()) / 2;
            line[start..start + words.len()].copy_from_slice(words);
        }
        let mut text: String = line.into_iter().collect();
        if low == high {
            let _ = write!(text, "  {}", words.into_iter().collect::<String>());
        }
        let _ = writeln!(text, "  {}", step.traced.transport);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at_us: u64, server: &str, direction: &str, remote: &str, message: &str) -> Step {
        let (address, name) = match remote.strip_prefix("fe1.") {
            Some(_) => ("10.0.0.9:7000", Some(remote.to_owned())),
            None => (remote, None),
        };
        let traced = Traced {
            number: 1,
            at_us,
            direction: direction.to_owned(),
            transport: if name.is_some() { "link" } else { "UDP" }.to_owned(),
            local: "10.0.0.1:5060".to_owned(),
            remote: address.to_owned(),
            server: name,
            message: message.to_owned(),
        };
        Step { at_us, server: server.to_owned(), traced }
    }

    const INVITE: &str = "INVITE sip:bob@x SIP/2.0\r\nVia: a\r\nFrom: <sip:alice@x>;tag=1\r\nTo: <sip:bob@x>\r\nCall-ID: 1\r\n\
                          CSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n";
    const RINGING: &str = "SIP/2.0 180 Ringing\r\nVia: a\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";

    fn call() -> Vec<Step> {
        vec![
            step(1_000_000, "fe1.east", "in", "10.0.1.1:5060", INVITE),
            step(1_001_000, "fe1.east", "out", "fe1.west", INVITE),
            step(1_001_500, "fe1.west", "in", "fe1.east", INVITE),
            step(1_002_000, "fe1.west", "out", "10.0.2.1:5060", INVITE),
            step(2_500_000, "fe1.west", "in", "10.0.2.1:5060", RINGING),
            step(2_500_900, "fe1.east", "in", "fe1.west", RINGING),
            step(2_500_950, "fe1.west", "out", "fe1.east", RINGING),
            step(2_501_000, "fe1.east", "out", "10.0.1.1:5060", RINGING),
        ]
    }

    #[test]
    fn a_call_across_two_servers_is_one_ladder_and_the_link_is_drawn_once() {
        let text = Ladder::draw(&call());
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let place = |line: &str, word: &str| line.find(word).unwrap_or_else(|| panic!("{word} in {line}"));
        let order = ["10.0.1.1", "fe1.east", "fe1.west", "10.0.2.1"].map(|name| place(lines[0], name));
        assert!(order.is_sorted(), "{text}");
        assert!(place(lines[1], "alice") < place(lines[1], "bob"), "{text}");
        assert_eq!(lines.len(), 2 + 6, "{text}");
        assert!(
            lines[2].starts_with("     0.000") && lines[2].contains("INVITE SDP") && lines[2].contains('>'),
            "{text}"
        );
        assert!(lines[3].ends_with("link") && lines[4].ends_with("UDP"), "{text}");
        assert!(lines[5].starts_with("     1.500") && lines[5].contains("180 Ringing (INVITE)"), "{text}");
        assert!(lines[5].contains('<') && !lines[5].contains('>'), "{text}");
    }

    #[test]
    fn names_are_told_again_when_somebody_new_comes() {
        let mut ladder = Ladder::default();
        let steps = call();
        assert!(ladder.add(&steps[0]).contains("fe1.east"));
        assert!(ladder.add(&steps[1]).contains("fe1.west"));
        assert_eq!(ladder.add(&steps[2]), "");
        assert!(ladder.add(&steps[3]).contains("10.0.2.1"));
        assert!(!ladder.add(&steps[4]).contains("10.0.2.1"));
    }

    #[test]
    fn the_same_message_sent_twice_between_servers_is_drawn_twice() {
        let steps = [&call()[1..3], &call()[1..3]].concat();
        let drawn = Ladder::draw(&steps);
        assert_eq!(drawn.lines().filter(|line| line.contains("INVITE")).count(), 2, "{drawn}");
    }

    #[test]
    fn many_clients_and_hostile_words_are_drawn_within_bounds() {
        let mut steps: Vec<Step> =
            (0..30).map(|n| step(n, "fe1.east", "in", &format!("10.0.0.{n}:1"), "\x1b[2Jx\x07\r\n\r\n")).collect();
        steps.push(step(40, "fe1.east", "out", "10.0.0.29:1", ""));
        let drawn = Ladder::draw(&steps);
        assert!(!drawn.contains('\x1b') && !drawn.contains('\x07'));
        let longest = drawn.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(longest <= Ladder::at(COLUMNS) + 40, "{longest}");
    }
}
