//! How long a client may be silent on its flow: what the registrar has told it (Flow-Timer, RFC 5626 §4.4), and some time more.
//!
//! Owns the reading of that from the answers that leave on a connection, and the word that it has changed. Does not own what the
//! registrar tells (`pairline_services::registrar`), nor the connection (`stream`, `websocket`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest Flow-Timer that is believed, in seconds: no flow is kept longer without a word than this.
const LONGEST_S: u32 = 24 * 3_600;

/// Of one connection.
#[derive(Debug, Default)]
pub struct Patience {
    /// Seconds; 0 while nothing was told.
    told: AtomicU32,
    changed: Notify,
}

impl Patience {
    /// A message leaves on the connection.
    pub fn note(&self, message: &[u8]) {
        if let Some(seconds) = told(message)
            && self.told.swap(seconds, Ordering::Relaxed) != seconds
        {
            self.changed.notify_one();
        }
    }

    /// How long the client may be silent, if it was told; `grace` is what it has beyond that, `None`: it may be silent for ever.
    pub fn limit(&self, grace: Option<Duration>) -> Option<Duration> {
        let told = self.told.load(Ordering::Relaxed);
        grace.filter(|_| told > 0).map(|grace| Duration::from_secs(told.into()) + grace)
    }

    /// Waits until the client is told another time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// The value of the first header of that name.
pub(super) fn header<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let lines = message.split(|b| *b == b'\n').take_while(|line| line.len() > 1);
    lines.skip(1).find_map(|line| {
        let value = line.get(name.len()..)?.strip_prefix(b":")?;
        line[..name.len()].eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// The method in the CSeq of a message that this deployment wrote.
pub(super) fn method(message: &[u8]) -> Option<&[u8]> {
    header(message, b"CSeq")?.rsplit(u8::is_ascii_whitespace).next()
}

/// The seconds that a registrar tells a client. The answer to anything but a REGISTER is somebody else's, who decides nothing
/// here.
fn told(message: &[u8]) -> Option<u32> {
    let answer = message.starts_with(b"SIP/2.0 200 ") && method(message) == Some(b"REGISTER");
    let value = header(message, b"Flow-Timer").filter(|_| answer)?;
    let seconds: u32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (1..=LONGEST_S).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::{Patience, told};
    use std::time::Duration;

    fn answer(status: &str, method: &str, line: &str) -> String {
        format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/TCP a;branch=b\r\ncseq: 7  {method}\r\n{line}\r\n\r\nFlow-Timer: 9\r\n"
        )
    }

    #[test]
    fn only_the_registrars_word_counts() {
        assert_eq!(told(answer("200 OK", "REGISTER", "Flow-Timer: 120").as_bytes()), Some(120));
        assert_eq!(told(answer("200 OK", "REGISTER", "flow-timer:120").as_bytes()), Some(120));
        for (status, method, line) in [
            ("200 OK", "INVITE", "Flow-Timer: 1"),
            ("401 No", "REGISTER", "Flow-Timer: 1"),
            ("200 OK", "REGISTER", "Flow-Timer: 0"),
            ("200 OK", "REGISTER", "Flow-Timer: 99999999999"),
            ("200 OK", "REGISTER", "Flow-Timer: -1"),
            ("200 OK", "REGISTER", "X-Flow-Timer: 1"),
            ("200 OK", "REGISTER", "Supported: path"),
        ] {
            assert_eq!(told(answer(status, method, line).as_bytes()), None, "{status} {method} {line}");
        }
        assert_eq!(told(b"REGISTER sip:a SIP/2.0\r\nCSeq: 1 REGISTER\r\nFlow-Timer: 1\r\n\r\n"), None);
    }

    #[test]
    fn the_grace_is_added_and_a_policy_can_let_everybody_be_silent() {
        let patience = Patience::default();
        let grace = Some(Duration::from_secs(15));
        assert_eq!(patience.limit(grace), None, "nothing was told");
        patience.note(answer("200 OK", "REGISTER", "Flow-Timer: 120").as_bytes());
        assert_eq!(patience.limit(grace), Some(Duration::from_secs(135)));
        assert_eq!(patience.limit(None), None);
        patience.note(answer("200 OK", "INVITE", "Flow-Timer: 1").as_bytes());
        assert_eq!(patience.limit(grace), Some(Duration::from_secs(135)));
    }
}
