//! The crate beside the second reader of [`reference`](crate::reference): the same pieces of a stream, the same verdict on a
//! message, the same values of its fields. Owns the comparison, not the inputs.

use bytes::Bytes;
use pairline_sip::{Frame, Message, Name, StreamFramer};

use crate::reference::{self, Piece, Seen, Start, Stream};

/// Reads a message with both and panics where they differ; gives whether it was accepted.
pub fn message(bytes: &[u8]) -> bool {
    let ours = Message::parse(Bytes::copy_from_slice(bytes));
    let theirs = reference::read(bytes);
    match (&ours, &theirs) {
        (Err(_), None) => false,
        (Ok(ours), Some(theirs)) => {
            assert_eq!(&seen(ours), theirs, "{}", show(bytes));
            true
        }
        (ours, theirs) => panic!(
            "verdicts differ: ours {:?}, the reference {}:\n{}",
            ours.as_ref().map(|_| "accepts").map_err(|error| error.kind),
            if theirs.is_some() { "accepts" } else { "refuses" },
            show(bytes)
        ),
    }
}

/// Cuts a stream with both, ours as it comes in the given lengths (cycled; none: at once); gives the whole messages.
pub fn stream(bytes: &[u8], lengths: &[usize], limit: usize) -> Vec<Vec<u8>> {
    let theirs = reference::cut(bytes, limit);
    let ours = pieces(bytes, lengths, limit);
    assert_eq!(ours, theirs, "{}", show(bytes));
    let messages = theirs.pieces.into_iter().filter_map(|piece| match piece {
        Piece::Message(bytes) => Some(bytes),
        Piece::LineEnd => None,
    });
    messages.collect()
}

fn pieces(bytes: &[u8], lengths: &[usize], limit: usize) -> Stream {
    let mut framer = StreamFramer::new(limit);
    let mut out = Stream { pieces: Vec::new(), broken: false, rest: 0 };
    let (mut at, mut turn) = (0, 0);
    while at < bytes.len() {
        let length = lengths.get(turn % lengths.len().max(1)).copied().unwrap_or(bytes.len()).max(1);
        let end = (at + length).min(bytes.len());
        framer.push(&bytes[at..end]);
        (at, turn) = (end, turn + 1);
        while let Some(frame) = framer.next() {
            match frame {
                Ok(Frame::Message(bytes)) => out.pieces.push(Piece::Message(bytes.to_vec())),
                Ok(Frame::Ping | Frame::Pong) => out.pieces.push(Piece::LineEnd),
                Err(_) => out.broken = true,
            }
        }
    }
    out.rest = framer.buffered();
    out
}

/// What our parser says of a message, in the reference's words.
fn seen(message: &Message) -> Seen {
    let start = match message.status() {
        Some(status) => Start::Response(status, message.reason().to_vec()),
        None => Start::Request(message.method().as_str().into(), message.request_uri().to_vec()),
    };
    let owned = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
    let uris = |name: Name| match message.is_request() {
        true => message.addresses(name).map(|addr| addr.uri.to_vec()).collect(),
        false => Vec::new(),
    };
    let (number, method) = message.cseq();
    Seen {
        start,
        headers: message.headers_raw().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect(),
        body: message.body().to_vec(),
        cseq: (number, method.as_str().into()),
        tags: [owned(message.from().tag()), owned(message.to().tag())],
        branches: message.vias().filter_map(|via| owned(via.branch())).collect(),
        uris: [uris(Name::Route), uris(Name::Contact)],
    }
}

fn show(bytes: &[u8]) -> String {
    let end = bytes.len().min(4096);
    bytes[..end].escape_ascii().to_string().replace("\\r\\n", "\\r\\n\n")
}
