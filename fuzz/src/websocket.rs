//! Frames of a WebSocket as the server reads them: the library's reader with the server's limits, a SIP message in each of
//! its messages.
//!
//! Owns no rule of the server's; its limits are repeated here, since they are what keeps a length from claiming memory.

use bytes::Bytes;
use pairline_sip::{Message, StreamFramer};
use std::io::{Cursor, Read, Write};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message as Frame, WebSocket};

/// Bytes in, nothing out; gives them in pieces of a few bytes.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(61);
        self.0.read(&mut buffer[..most])
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All frames of one connection.
pub fn frames(data: &[u8]) {
    let limit = StreamFramer::DEFAULT_LIMIT;
    let config = WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(512 * 1024)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(data.to_vec())), Role::Server, Some(config));
    loop {
        let message = match socket.read() {
            Ok(Frame::Text(text)) => Bytes::from(text),
            Ok(Frame::Binary(bytes)) => bytes,
            Ok(Frame::Close(_)) | Err(_) => return,
            Ok(_) => continue,
        };
        assert!(message.len() <= limit, "no message is longer than allowed");
        if let Err(error) = Message::parse(message.clone()) {
            assert!(error.reply().is_none_or(|reply| reply.len() <= message.len() + 512));
        }
    }
}
