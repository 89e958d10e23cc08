//! What the generators noted of a round, and what follows from it.
//!
//! Owns the reading of their journals and the arithmetic: when requests were served again, which calls went on, and which bindings
//! and changes must be there. Asks nobody.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// How far a binding's end may be from what was granted, in milliseconds: the API says whole seconds.
const ROUNDING: i64 = 1_500;
/// Seconds that a server grants which does not find the user's group led (`guest_expiry_s` of the topology): such a binding is its own,
/// beside the one that the user has.
const GUEST: u64 = 20;
/// Most broken calls, or losses, that are named.
const NAMED: usize = 20;

/// One line of the SIP generator's journal.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    op: String,
    user: String,
    to: Option<String>,
    server: SocketAddr,
    status: u16,
    at: u64,
    took: u64,
    step: Option<String>,
    why: Option<String>,
    up: Option<u64>,
    made: Option<SocketAddr>,
    reinvite: Option<u16>,
    granted: Option<u64>,
    #[serde(default)]
    refused: u8,
    #[serde(default)]
    silent: u8,
}

/// One line of the journal of changes.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Change {
    /// Its number in the round.
    pub n: u64,
    /// Whose list.
    pub user: String,
    /// 0: no answer.
    pub status: u16,
    at: u64,
}

/// Reads a journal; a line that was cut off at the end of a run is left out.
pub(crate) fn read<T: for<'a> Deserialize<'a>>(text: &str) -> Vec<T> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// When a server was hit and when it was itself again, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// From here on it was dead, frozen or cut off.
    pub hit: u64,
    /// Until here.
    pub repaired: u64,
    /// Where it takes SIP.
    pub victim: SocketAddr,
}

impl Line {
    fn sent(&self) -> u64 {
        self.at.saturating_sub(self.took)
    }

    fn sent_within(&self, window: &Window) -> bool {
        (window.hit..window.repaired).contains(&self.sent())
    }

    /// When it was accepted: a call when it was established.
    fn accepted(&self) -> Option<u64> {
        self.up.or((self.op != "call" && self.status == 200).then_some(self.at))
    }
}

/// First successes after the fault of requests that were sent after it, in milliseconds, of users of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// REGISTER.
    pub register: Option<u64>,
    /// MESSAGE or INVITE from one of them.
    pub from: Option<u64>,
    /// MESSAGE or INVITE to one of them.
    pub to: Option<u64>,
}

impl Served {
    /// Of MESSAGE and INVITE in both directions.
    pub(crate) fn dialog(&self) -> Option<u64> {
        Some(self.from?.max(self.to?))
    }
}

/// By group; a group that nobody was served of is there too.
pub(crate) fn served(lines: &[Line], groups: &BTreeMap<String, String>, window: &Window) -> BTreeMap<String, Served> {
    let mut all: BTreeMap<String, Served> = groups.values().map(|g| (g.clone(), Served::default())).collect();
    let mut first = |user: &str, pick: fn(&mut Served) -> &mut Option<u64>, after: u64| {
        if let Some(served) = groups.get(user).and_then(|group| all.get_mut(group)) {
            let place = pick(served);
            *place = Some(place.map_or(after, |known| known.min(after)));
        }
    };
    for line in lines.iter().filter(|line| line.sent() >= window.hit) {
        let Some(after) = line.accepted().and_then(|at| at.checked_sub(window.hit)) else { continue };
        if line.op == "register" {
            first(&line.user, |served| &mut served.register, after);
        } else {
            first(&line.user, |served| &mut served.from, after);
            first(line.to.as_deref().unwrap_or_default(), |served| &mut served.to, after);
        }
    }
    all
}

/// Failures of requests that were sent during the fault to servers that were well, and the last of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// By step, status and words.
    pub kinds: BTreeMap<String, u32>,
    /// When the last one was sent, in milliseconds after the fault.
    pub last: u64,
}

/// Of new requests only: those of established calls are counted as such.
pub(crate) fn failures(lines: &[Line], window: &Window) -> Failures {
    let mut failures = Failures::default();
    let failed = |line: &&Line| line.accepted().is_none() && line.server != window.victim;
    for line in lines.iter().filter(|line| line.sent_within(window)).filter(failed) {
        let (step, why) = (line.step.as_deref().unwrap_or(&line.op), line.why.as_deref().unwrap_or_default());
        let kind = format!("{step} {} {why}", line.status).trim_end().to_owned();
        *failures.kinds.entry(kind).or_default() += 1;
        failures.last = failures.last.max(line.sent() - window.hit);
    }
    failures
}

/// What became of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// INVITEs that were sent while a server was away.
    pub new: u32,
    /// Of these: not answered by the one that was away.
    pub failed_there: u32,
    /// Of these: refused or not answered by another.
    pub failed_elsewhere: u32,
    /// Calls that were established before the fault and ended after it.
    pub established: u32,
    /// Of these: made through the server that was hit.
    pub made_there: u32,
    /// Of the established: re-INVITE and BYE were accepted.
    pub kept: u32,
    /// Of these: by another server than the one that the call was made through.
    pub kept_elsewhere: u32,
    /// The others, the first of them by name.
    pub broken: Vec<String>,
}

/// Of one round.
pub(crate) fn calls(lines: &[Line], window: &Window) -> Calls {
    let mut calls = Calls::default();
    for line in lines.iter().filter(|line| line.op == "call") {
        if line.sent_within(window) {
            calls.new += 1;
            let there = u32::from(line.server == window.victim);
            if line.up.is_none() {
                calls.failed_there += there;
                calls.failed_elsewhere += 1 - there;
            }
        }
        if line.up.is_some_and(|up| up < window.hit) && line.at >= window.hit {
            calls.established += 1;
            calls.made_there += u32::from(line.made == Some(window.victim));
            if line.status == 200 && line.reinvite.is_some_and(|status| (200..300).contains(&status)) {
                calls.kept += 1;
                calls.kept_elsewhere += u32::from(line.made != Some(line.server));
            } else if calls.broken.len() < NAMED {
                calls.broken.push(broken(line, window));
            }
        }
    }
    calls
}

/// New requests of one kind that were sent within a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct New {
    /// All.
    pub sent: u64,
    /// Accepted after a server had refused them with 503.
    pub refused_first: u64,
    /// Accepted after a server had not answered them.
    pub silent_first: u64,
    /// Accepted by none.
    pub failed: u64,
    /// The longest that one waited which was accepted, in milliseconds.
    pub slowest: u64,
}

/// What became of requests and calls while servers were away one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Through {
    /// By kind.
    pub new: BTreeMap<String, New>,
    /// Failures of new requests by step, status, words and server.
    pub failures: BTreeMap<String, u32>,
    /// Calls that were established before the end and ended after the beginning.
    pub established: u64,
    /// Of these: re-INVITE and BYE were accepted.
    pub kept: u64,
    /// The others, the first of them by name.
    pub broken: Vec<String>,
}

/// Of one round; the window's victim is none in particular.
pub(crate) fn through(lines: &[Line], window: &Window) -> Through {
    let mut through = Through::default();
    for line in lines {
        if line.sent_within(window) {
            let new = through.new.entry(line.op.clone()).or_default();
            new.sent += 1;
            if let Some(accepted) = line.accepted() {
                new.refused_first += u64::from(line.refused > 0);
                new.silent_first += u64::from(line.silent > 0);
                new.slowest = new.slowest.max(accepted.saturating_sub(line.sent()));
            } else {
                new.failed += 1;
                let (step, why) = (line.step.as_deref().unwrap_or(&line.op), line.why.as_deref().unwrap_or_default());
                let kind = format!("{step} {} {why} at {}", line.status, line.server);
                *through.failures.entry(kind).or_default() += 1;
            }
        }
        if line.up.is_some_and(|up| up < window.repaired) && line.at >= window.hit {
            through.established += 1;
            if line.status == 200 && line.reinvite.is_some_and(|status| (200..300).contains(&status)) {
                through.kept += 1;
            } else if through.broken.len() < NAMED {
                through.broken.push(broken(line, window));
            }
        }
    }
    through
}

fn broken(line: &Line, window: &Window) -> String {
    let made = line.made.map_or_else(|| "nowhere".to_owned(), |at| at.to_string());
    format!(
        "{} to {}: made through {made} {} ms before the fault, re-INVITE {}, BYE {} at {} {} ms after it",
        line.user,
        line.to.as_deref().unwrap_or_default(),
        window.hit.saturating_sub(line.up.unwrap_or(window.hit)),
        line.reinvite.unwrap_or(0),
        line.status,
        line.server,
        line.at.saturating_sub(window.hit)
    )
}

/// How long accepted requests of one kind took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Took {
    /// How many.
    pub count: u64,
    /// Half of them took no longer.
    pub half: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// The longest.
    pub most: u64,
}

/// By kind, of requests that were sent in that time. One that a server did not answer and another did counts with all of its wait.
pub(crate) fn took(lines: &[Line], window: &Window) -> BTreeMap<String, Took> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.sent_within(window)) {
        if let Some(accepted) = line.accepted() {
            all.entry(line.op.clone()).or_default().push(accepted.saturating_sub(line.sent()));
        }
    }
    let of = |mut times: Vec<u64>| {
        times.sort_unstable();
        let share =
            |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        Took { count: times.len() as u64, half: share(50), p99: share(99), most: share(100) }
    };
    all.into_iter().map(|(kind, times)| (kind, of(times))).collect()
}

/// Successes a second by kind between two times in milliseconds since 1970.
pub(crate) fn rates(lines: &[Line], changes: &[Change], from: u64, to: u64) -> BTreeMap<&'static str, f64> {
    let seconds = to.saturating_sub(from).max(1) as f64 / 1000.0;
    let within = |at: u64| (from..to).contains(&at);
    let of = |kind: &str| lines.iter().filter(|l| l.op == kind && l.accepted().is_some_and(within)).count() as f64;
    let changed = changes.iter().filter(|change| change.status == 200 && within(change.at)).count() as f64;
    BTreeMap::from([
        ("register", of("register") / seconds),
        ("message", of("message") / seconds),
        ("call", of("call") / seconds),
        ("change", changed / seconds),
    ])
}

/// What a registrar acknowledged last to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    sent: u64,
    at: u64,
    granted: u64,
    /// A later REGISTER has failed and may have been carried out, or the answer did not say until when: only the binding itself is
    /// certain.
    doubtful: bool,
}

/// By user.
pub(crate) fn bindings(lines: &[Line]) -> BTreeMap<String, Binding> {
    let mut all: BTreeMap<String, Binding> = BTreeMap::new();
    let mut registers: Vec<&Line> = lines.iter().filter(|line| line.op == "register").collect();
    registers.sort_by_key(|line| line.at);
    for line in registers {
        if line.status == 200 {
            let (sent, at, granted) = (line.sent(), line.at, line.granted.unwrap_or(0));
            all.insert(line.user.clone(), Binding { sent, at, granted, doubtful: line.granted.is_none() });
        } else if let Some(binding) = all.get_mut(&line.user) {
            binding.doubtful = true;
        }
    }
    all
}

/// REGISTERs that were taken as those of guests, by server.
pub(crate) fn guests(lines: &[Line]) -> BTreeMap<SocketAddr, u32> {
    let mut all = BTreeMap::new();
    for line in lines.iter().filter(|line| line.op == "register" && line.status == 200) {
        if line.granted.is_some_and(|granted| granted <= GUEST) {
            *all.entry(line.server).or_default() += 1;
        }
    }
    all
}

/// REGISTERs whose 200 does not say the binding that it acknowledges (RFC 3261 §10.3 step 8).
pub(crate) fn unsaid(lines: &[Line], window: &Window) -> Vec<String> {
    let unsaid = |line: &&Line| line.op == "register" && line.status == 200 && line.granted.is_none();
    let say = |line: &Line| {
        // Milliseconds since 1970 are far below 2^63.
        let after = line.at as i64 - window.hit as i64;
        format!("200 to a REGISTER of {} by {} without its binding, {after} ms after the fault", line.user, line.server)
    };
    lines.iter().filter(unsaid).map(say).collect()
}

/// What of the acknowledged is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// How many were looked for.
    pub looked_for: u64,
    /// How many are not there.
    pub count: u64,
    /// The first of them.
    pub named: Vec<String>,
}

impl Lost {
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(what());
        }
    }
}

/// Bindings of the API's answers: name, time, body.
pub(crate) fn lost_bindings(expected: &BTreeMap<String, Binding>, answers: &[(String, f64, Value)]) -> Lost {
    let mut lost = Lost { looked_for: expected.len() as u64, ..Lost::default() };
    let answers: BTreeMap<&str, (f64, &Value)> =
        answers.iter().map(|(u, at, body)| (u.as_str(), (*at, body))).collect();
    for (user, binding) in expected {
        let found = answers.get(user.as_str()).and_then(|(at, body)| {
            let list = body["registrations"].as_array()?;
            let left = list.iter().filter_map(|one| one["expires_in"].as_i64()).max()?;
            // Milliseconds since 1970 are far below 2^53.
            Some(*at as i64 + left * 1000)
        });
        let (low, high) = binding.end();
        match found {
            None => lost.note(|| format!("{user}: no binding")),
            // A guest's must last as long as was said; what the user had before may last longer.
            Some(end) if binding.granted <= GUEST && end >= low => {}
            Some(end) if !binding.doubtful && !(low..=high).contains(&end) => {
                let off = end - (low + high) / 2;
                lost.note(|| format!("{user}: its binding ends {off} ms from what the last refresh was granted"));
            }
            Some(_) => {}
        }
    }
    lost
}

impl Binding {
    /// Between which times it ends, in milliseconds since 1970.
    fn end(&self) -> (i64, i64) {
        // Far below 2^63.
        let ends = |from: u64| (from + self.granted * 1000) as i64;
        (ends(self.sent) - ROUNDING, ends(self.at) + ROUNDING)
    }
}

/// Address of the contact that a round's change adds.
pub(crate) fn contact(round: u32, number: &str) -> String {
    format!("sip:c{round}-{number}@pairline.test")
}

/// Contacts of the API's answers.
pub(crate) fn lost_changes(round: u32, changes: &[Change], answers: &[(String, f64, Value)]) -> Lost {
    let mut there: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (user, _, body) in answers {
        let contacts = body["contacts"].as_array().into_iter().flatten();
        there.extend(contacts.filter_map(|one| Some((user.as_str(), one["contact"].as_str()?))));
    }
    let mut lost = Lost::default();
    for change in changes.iter().filter(|change| change.status == 200) {
        lost.looked_for += 1;
        let contact = contact(round, &change.n.to_string());
        if !there.contains(&(change.user.as_str(), contact.as_str())) {
            lost.note(|| format!("{contact} of {}, acknowledged at {} ms since 1970", change.user, change.at));
        }
    }
    lost
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
