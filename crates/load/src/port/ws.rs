//! WebSocket as a SIP client opens it and speaks it (RFC 7118, RFC 6455): one SIP message in each text frame.
//!
//! Owns the words of the opening and the frames. Does not own the connection (`tls`). Fragments, extensions and compression are not
//! spoken: no SIP server sends them to a client that has not offered them.

use std::io;

/// Longest frame that is read: more than any SIP message.
const LONGEST: usize = 1 << 20;
/// Key of the opening. The server only has to repeat it in its hash; nobody caches a connection of a load generator.
const KEY: &str = "cGFpcmxpbmUtbG9hZC1rZXk=";

/// What a frame is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message, which lies at these bytes.
    Message(usize, usize),
    /// A ping with these bytes: it wants a pong.
    Ping(usize, usize),
    /// Something that needs no answer.
    Other,
    /// The other end closes.
    Close,
}

/// The opening request to that host.
pub fn opening(host: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )
}

/// The length of the answer to the opening, if it is there as a whole.
///
/// # Errors
/// If it is no consent.
pub fn opened(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if bytes.len() > LONGEST { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if head.starts_with("HTTP/1.1 101 ") { Ok(Some(end + 4)) } else { Err(io::Error::other(head)) }
}

/// Writes a frame of a client: masked with `mask`, as RFC 6455 §5.3 wants it.
pub fn write(out: &mut Vec<u8>, opcode: u8, message: &[u8], mask: u32) {
    out.push(0x80 | opcode);
    match message.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = mask.to_be_bytes();
    out.extend_from_slice(&mask);
    out.extend(message.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Opcode of a text frame.
pub const TEXT: u8 = 1;
/// Opcode of a pong.
pub const PONG: u8 = 10;

/// The next whole frame of a server, with its length.
///
/// # Errors
/// If it is too long, masked or a fragment.
pub fn read(bytes: &[u8]) -> io::Result<Option<(Frame, usize)>> {
    let (Some(first), Some(second)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
    let (length, at) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(length) => (usize::from(u16::from_be_bytes([length[0], length[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|length| <[u8; 8]>::try_from(length).ok()) {
            Some(length) => (usize::try_from(u64::from_be_bytes(length)).unwrap_or(usize::MAX), 10),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    if second & 0x80 != 0 || first & 0x80 == 0 || length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let end = at + length;
    if bytes.len() < end {
        return Ok(None);
    }
    let frame = match first & 0x0f {
        1 | 2 => Frame::Message(at, end),
        8 => Frame::Close,
        9 => Frame::Ping(at, end),
        _ => Frame::Other,
    };
    Ok(Some((frame, end)))
}

#[cfg(test)]
mod tests {
    //! Frames there and back.

    use super::*;

    /// What a client writes, unmasked and as a server would have written it.
    fn as_server(message: &[u8], opcode: u8) -> Vec<u8> {
        let mut masked = Vec::new();
        write(&mut masked, opcode, message, 0x0102_0304);
        let head = match message.len() {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        };
        assert_eq!(masked[head..head + 4], [1, 2, 3, 4]);
        let body = masked[head + 4..].iter().zip([1, 2, 3, 4].iter().cycle()).map(|(a, b)| a ^ b);
        let mut plain: Vec<u8> = masked[..head].to_vec();
        plain[1] &= 0x7f;
        plain.extend(body);
        plain
    }

    #[test]
    fn frames_of_every_length_are_read_as_they_were_written() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let message: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let bytes = as_server(&message, TEXT);
            let (frame, end) = read(&bytes).unwrap().unwrap();
            let Frame::Message(from, to) = frame else { panic!("{frame:?}") };
            assert_eq!((&bytes[from..to], end), (&message[..], bytes.len()));
            for cut in [0, 1, 2, 3, 9, bytes.len() - 1] {
                assert!(cut >= bytes.len() || read(&bytes[..cut]).unwrap().is_none(), "{length} cut at {cut}");
            }
        }
        assert_eq!(read(&as_server(b"x", 9)).unwrap(), Some((Frame::Ping(2, 3), 3)));
        assert_eq!(read(&as_server(b"", 8)).unwrap(), Some((Frame::Close, 2)));
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        assert!(read(&[0x81, 0x81, 0, 0, 0, 0, 1]).is_err(), "masked");
        assert!(read(&[0x01, 0x01, 1]).is_err(), "a fragment");
        assert!(read(&[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0]).is_err(), "too long");
    }

    #[test]
    fn the_opening_is_over_when_the_server_consents() {
        assert!(opening("pairline.test").starts_with("GET / HTTP/1.1\r\nHost: pairline.test\r\n"));
        assert_eq!(opened(b"HTTP/1.1 101 Switching").unwrap(), None);
        assert_eq!(opened(b"HTTP/1.1 101 Switching\r\n\r\nx").unwrap(), Some(26));
        assert!(opened(b"HTTP/1.1 403 No\r\n\r\n").is_err());
    }
}
