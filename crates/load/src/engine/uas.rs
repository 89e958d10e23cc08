//! The called side: answers what a server delivers to our users.
//!
//! Owns the replies and the repetition of a 200 to INVITE until its ACK (RFC 3261 §13.3.1.4). Every user accepts everything.

use crate::wire::{build, scan};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Body of the answer to an INVITE: no sound is sent.
const SDP: &[u8] =
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=inactive\r\n";
/// First delay of the repetition.
const T1: u64 = 500_000_000;
/// When the repetition ends.
const GIVE_UP: u64 = 32_000_000_000;
/// Calls that may wait for their ACK; beyond it a 200 is not repeated.
const PENDING: usize = 100_000;

#[derive(Debug)]
struct Pending {
    /// CSeq of the INVITE that it answers.
    cseq: Vec<u8>,
    port: usize,
    to: SocketAddr,
    reply: Vec<u8>,
    since: u64,
    delay: u64,
}

/// The called side of one thread.
#[derive(Debug, Default)]
pub struct Uas {
    pending: HashMap<Vec<u8>, Pending>,
    queue: VecDeque<(u64, Vec<u8>)>,
    tags: u64,
}

impl Uas {
    /// Answers one request; `send` gets each reply.
    pub fn receive(&mut self, now: u64, port: usize, from: SocketAddr, request: &[u8], mut send: impl FnMut(&[u8])) {
        let Some((method, uri)) = scan::request_line(request) else {
            return;
        };
        let Some(call_id) = scan::header(request, "call-id", "i") else {
            return;
        };
        let mut reply = Vec::with_capacity(request.len());
        self.tags += 1;
        match method {
            b"ACK" => {
                self.pending.remove(call_id);
            }
            b"INVITE" => {
                // A re-INVITE is another one, also where the ACK of the first was lost with a server.
                let cseq = scan::header(request, "cseq", "").unwrap_or_default().to_vec();
                if let Some(known) = self.pending.get(call_id).filter(|known| known.cseq == cseq) {
                    send(&known.reply);
                    return;
                }
                let contact = [b"<", uri, b">"].concat();
                build::reply(&mut reply, request, (180, "Ringing"), self.tags, Some(&contact), None);
                send(&reply);
                build::reply(
                    &mut reply,
                    request,
                    (200, "OK"),
                    self.tags,
                    Some(&contact),
                    Some(("application/sdp", SDP)),
                );
                send(&reply);
                if self.pending.len() < PENDING {
                    self.queue.push_back((now + T1, call_id.to_vec()));
                    let pending = Pending { cseq, port, to: from, reply, since: now, delay: T1 };
                    self.pending.insert(call_id.to_vec(), pending);
                }
            }
            _ => {
                build::reply(&mut reply, request, (200, "OK"), self.tags, None, None);
                send(&reply);
            }
        }
    }

    /// Repeats what is due; `send` gets port, address and reply.
    pub fn on_time(&mut self, now: u64, mut send: impl FnMut(usize, SocketAddr, &[u8])) {
        while self.queue.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, call_id)) = self.queue.pop_front() else {
                return;
            };
            let Some(pending) = self.pending.get_mut(&call_id) else {
                continue;
            };
            if now.saturating_sub(pending.since) >= GIVE_UP {
                self.pending.remove(&call_id);
                continue;
            }
            send(pending.port, pending.to, &pending.reply);
            pending.delay = (pending.delay * 2).min(8 * T1);
            // Not strictly in order once delays differ; a repetition that is late by one delay does no harm.
            self.queue.push_back((now + pending.delay, call_id));
        }
    }

    /// When the next repetition is due.
    pub fn due(&self) -> Option<u64> {
        self.queue.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    //! An INVITE that comes again, and one that is another.

    use super::*;

    #[test]
    fn a_repeated_invite_gets_its_reply_again_and_a_re_invite_one_of_its_own() {
        let (mut uas, from) = (Uas::default(), "127.0.0.1:9".parse().unwrap());
        let mut replies = |branch: &str, cseq: u32| {
            let request = format!(
                "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch={branch}\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: c\r\n\
                 CSeq: {cseq} INVITE\r\nContent-Length: 0\r\n\r\n"
            );
            let mut all = Vec::new();
            uas.receive(0, 0, from, request.as_bytes(), |reply| all.push(String::from_utf8_lossy(reply).into_owned()));
            all
        };
        let first = replies("z9hG4bK1", 1);
        assert!(first.len() == 2 && first[1].starts_with("SIP/2.0 200"), "{first:?}");
        assert_eq!(replies("z9hG4bK1", 1), [first[1].clone()]);
        let other = replies("z9hG4bK2", 2);
        assert!(other.len() == 2 && other[1].contains("branch=z9hG4bK2") && other[1].contains("CSeq: 2"), "{other:?}");
    }
}
