//! Stream framing: the same frames however the bytes are cut, and an end to what cannot be framed.

use bytes::Bytes;
use pairline_sip::{Frame, FramingError, StreamFramer};
use proptest::prelude::*;

use crate::bytes_of::wire;

type Frames = Vec<Result<Frame, FramingError>>;

fn frames_of(bytes: &[u8], cuts: &[usize]) -> (Frames, usize) {
    let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
    let mut frames = Vec::new();
    let mut at = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    for cut in cuts {
        framer.push(&bytes[at..cut]);
        at = cut;
        while let Some(frame) = framer.next() {
            frames.push(frame);
        }
    }
    (frames, framer.buffered())
}

fn with_length(length: &str, body: &str) -> Bytes {
    wire(&format!(
        "MESSAGE sip:b@example.com SIP/2.0\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\n{length}From: <sip:a@a>;tag=1\n\n{body}"
    ))
}

fn only_error(bytes: &[u8]) -> FramingError {
    let (frames, buffered) = frames_of(bytes, &[]);
    assert_eq!(buffered, 0, "a failed stream keeps nothing");
    match frames.as_slice() {
        [Err(error)] => *error,
        other => panic!("expected one error, got {other:?}"),
    }
}

#[test]
fn pipelined_messages_come_out_one_by_one() {
    let first = with_length("Content-Length: 5\n", "hello");
    let second = with_length("l : 0\n", "");
    let both = [first.as_ref(), second.as_ref()].concat();
    let (frames, buffered) = frames_of(&both, &[]);
    assert_eq!(frames, vec![Ok(Frame::Message(first)), Ok(Frame::Message(second))]);
    assert_eq!(buffered, 0);
}

#[test]
fn every_cut_position_gives_the_same_frames() {
    let message = with_length("Content-Length: 9\n", "two\r\n\r\nab");
    let stream = [b"\r\n\r\n", message.as_ref(), b"\r\n", message.as_ref()].concat();
    let whole = frames_of(&stream, &[]);
    for cut in 0..=stream.len() {
        assert_eq!(frames_of(&stream, &[cut]), whole, "cut at {cut}");
    }
    let every: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(frames_of(&stream, &every), whole);
}

#[test]
fn keep_alives_are_told_apart() {
    let (frames, _) = frames_of(b"\r\n", &[]);
    assert_eq!(frames, vec![Ok(Frame::Pong)]);
    let (frames, _) = frames_of(b"\r\n\r\n", &[]);
    assert_eq!(frames, vec![Ok(Frame::Pong), Ok(Frame::Ping)]);
    let (frames, _) = frames_of(b"\r\n\r\n\r\n\r\n", &[1, 3, 5]);
    assert_eq!(frames.iter().filter(|f| **f == Ok(Frame::Ping)).count(), 2, "two pairs are two keep-alives");
    let message = with_length("Content-Length: 0\n", "");
    let stream = [b"\r\n", message.as_ref(), b"\r\n"].concat();
    let (frames, _) = frames_of(&stream, &[]);
    assert!(!frames.contains(&Ok(Frame::Ping)), "line ends on both sides of a message are no pair");
}

#[test]
fn content_length_must_be_one_plain_number() {
    let cases = [
        ("", FramingError::NoContentLength),
        ("Content-Length: 1\nl: 1\n", FramingError::DuplicateContentLength),
        ("Content-Length: 1\nContent-Length: 2\n", FramingError::DuplicateContentLength),
        ("Content-Length: -1\n", FramingError::BadContentLength),
        ("Content-Length: +5\n", FramingError::BadContentLength),
        ("Content-Length: 0x5\n", FramingError::BadContentLength),
        ("Content-Length: 5 5\n", FramingError::BadContentLength),
        ("Content-Length: 5,5\n", FramingError::BadContentLength),
        ("Content-Length:\n", FramingError::BadContentLength),
        ("Content-Length: 65537\n", FramingError::MessageTooLong),
        ("Content-Length: 4294967301\n", FramingError::MessageTooLong),
        ("Content-Length: 18446744073709551621\n", FramingError::MessageTooLong),
    ];
    for (line, expected) in cases {
        assert_eq!(only_error(&with_length(line, "hello")), expected, "{line}");
    }
    let folded = with_length("Content-Length  :\n  005\n", "hello");
    assert_eq!(frames_of(&folded, &[]).0, vec![Ok(Frame::Message(folded))]);
}

#[test]
fn stray_line_ends_close_the_stream() {
    for bytes in [
        &b"MESSAGE sip:b SIP/2.0\nContent-Length: 0\r\n\r\n"[..],
        b"MESSAGE sip:b SIP/2.0\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"MESSAGE sip:b SIP/2.0\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"\nMESSAGE",
        b"\rMESSAGE",
    ] {
        assert_eq!(only_error(bytes), FramingError::ControlByte);
    }
}

#[test]
fn limits_hold_before_anything_is_complete() {
    let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
    framer.push(b"MESSAGE sip:b SIP/2.0\r\nX: ");
    framer.push(&vec![b'a'; 16 * 1024]);
    assert_eq!(framer.next(), Some(Err(FramingError::HeaderTooLong)));
    assert_eq!(framer.next(), None, "the error is final");
    framer.push(b"\r\n\r\n");
    assert_eq!(framer.next(), None);
    assert_eq!(framer.buffered(), 0);

    let mut small = StreamFramer::new(200);
    small.push(&with_length("Content-Length: 150\n", ""));
    assert_eq!(small.next(), Some(Err(FramingError::MessageTooLong)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Framing does not depend on segmentation, for streams good and bad.
    #[test]
    fn segmentation_changes_nothing(
        parts in prop::collection::vec(0usize..9, 1..8),
        body in "[ -~\r\n]{0,40}",
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let good = with_length(&format!("Content-Length: {}\n", body.len()), &body.replace("\r\n", "\n"));
        let mut stream = Vec::new();
        for part in parts {
            match part {
                0..=3 => stream.extend_from_slice(&good),
                4 => stream.extend_from_slice(b"\r\n"),
                5 => stream.extend_from_slice(b"\r\n\r\n"),
                6 => stream.extend_from_slice(&with_length("l: 2\n", "ok")),
                7 => stream.extend_from_slice(body.as_bytes()),
                _ => stream.extend_from_slice(&with_length("Content-Length: 2\nContent-Length: 2\n", "ok")),
            }
        }
        prop_assert_eq!(frames_of(&stream, &cuts), frames_of(&stream, &[]));
    }
}

#[test]
fn what_cannot_be_framed_can_still_be_answered() {
    let request = |length: &str| crate::bytes_of::request("MESSAGE", "").replace("Content-Length: 0\n", length);
    for (length, status) in [
        ("Content-Length: 9999999\n", 513),
        ("", 400),
        ("Content-Length: 0\nl: 0\n", 400),
        ("Content-Length: -1\n", 400),
    ] {
        let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
        framer.push(&wire(&request(length)));
        assert!(framer.refused().is_none());
        assert!(matches!(framer.next(), Some(Err(_))));
        let reply = framer.refused().unwrap().reply_to("192.0.2.9:1".parse().unwrap()).unwrap();
        let reply = pairline_sip::Message::parse(reply).unwrap();
        assert_eq!(reply.status(), Some(status), "{length}");
        assert_eq!(reply.via().received(), Some("192.0.2.9".parse().unwrap()));
    }
    let mut garbage = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
    garbage.push(b"\n\n\0");
    assert!(garbage.next().unwrap().is_err());
    assert_eq!(garbage.refused().unwrap().reply(), None);
}
