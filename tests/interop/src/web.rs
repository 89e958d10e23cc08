//! A WebSocket by hand (RFC 6455), as a browser's script would use it for SIP (RFC 7118).
//!
//! Owns the few frames that this needs. Does not own the connection underneath.

use std::io::{Read, Write};

/// A WebSocket on some connection.
pub struct Web<S>(S);

impl<S: Read + Write> Web<S> {
    /// Opens it, with further header lines; the answer's head if that is not 101.
    ///
    /// # Errors
    /// The answer.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn open(mut stream: S, extra: &str) -> Result<Web<S>, String> {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: pairline.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the connection takes a request");
        stream.flush().expect("the connection takes a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer ends with a blank line");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        // The proof is RFC 6455's own example.
        let agreed = head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        if agreed { Ok(Web(stream)) } else { Err(head) }
    }

    /// Sends a text.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn send(&mut self, text: &str) {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![0x81];
        match u16::try_from(text.len()).expect("a text of at most 64 KiB") {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).expect("below 126")),
            long => {
                frame.push(0x80 | 126);
                frame.extend(long.to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.0.write_all(&frame).expect("the connection takes a frame");
        self.0.flush().expect("the connection takes a frame");
    }

    /// The next text.
    ///
    /// # Panics
    /// If none comes.
    pub fn receive(&mut self) -> String {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).expect("a frame comes");
            let mut length = usize::from(head[1] & 0x7f);
            if length == 126 {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).expect("a frame has a length");
                length = usize::from(u16::from_be_bytes(long));
            }
            let mut text = vec![0; length];
            self.0.read_exact(&mut text).expect("a frame is whole");
            // Pings are for who stays longer than a case does.
            if head[0] == 0x81 {
                return String::from_utf8(text).expect("a text frame is UTF-8");
            }
        }
    }

    /// The next text that begins so.
    ///
    /// # Panics
    /// If none comes.
    pub fn expect(&mut self, begin: &str) -> String {
        loop {
            let text = self.receive();
            if text.starts_with(begin) {
                return text;
            }
        }
    }
}
