//! Frames on a link: length, flag, bytes; compressed when that pays.
//!
//! Owns the wire form: `u32` length of what follows, one flag byte, then the bytes (flag 0), or the `u32` length of the
//! original and its zstd form (flag 1). All numbers big-endian. Knows nothing of what frames mean.

use bytes::Bytes;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Largest frame before compression, and largest as sent.
pub const LARGEST: usize = 16 * 1024 * 1024;
/// Frames up to this size are not compressed: that costs more processor time than all else that the registrations in them need.
/// Larger ones are seeds and imports.
const PLAIN: usize = 16 * 1024;
/// Level of zstd: higher ones buy nothing on such data.
const LEVEL: i32 = 1;

const FLAG_PLAIN: u8 = 0;
const FLAG_ZSTD: u8 = 1;

/// Why a frame cannot be read or sent.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than allowed.
    #[error("frame of {0} bytes exceeds the limit of 16 MiB")]
    TooLong(usize),
    /// No room even for the flag.
    #[error("empty frame")]
    Empty,
    /// A flag of no meaning.
    #[error("unknown frame flag {0}")]
    UnknownFlag(u8),
    /// The compressed form is broken, or not of the stated length.
    #[error("compressed frame is damaged")]
    Damaged,
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Turns frames into bytes.
pub struct Encoder(zstd::bulk::Compressor<'static>);

impl Encoder {
    /// With a compressor that is reused.
    ///
    /// # Errors
    /// No memory for it.
    pub fn new() -> io::Result<Encoder> {
        Ok(Encoder(zstd::bulk::Compressor::new(LEVEL)?))
    }

    /// Appends the wire form of a frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`].
    pub fn encode(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let original = u32::try_from(frame.len()).map_err(|_| FrameError::TooLong(frame.len()))?;
        if frame.len() >= LARGEST {
            return Err(FrameError::TooLong(frame.len()));
        }
        if frame.len() > PLAIN {
            let packed = self.0.compress(frame)?;
            if packed.len() + 4 < frame.len() {
                out.extend_from_slice(&length(packed.len() + 5)?);
                out.push(FLAG_ZSTD);
                out.extend_from_slice(&original.to_be_bytes());
                out.extend_from_slice(&packed);
                return Ok(());
            }
        }
        out.extend_from_slice(&length(frame.len() + 1)?);
        out.push(FLAG_PLAIN);
        out.extend_from_slice(frame);
        Ok(())
    }
}

fn length(n: usize) -> Result<[u8; 4], FrameError> {
    u32::try_from(n).map(u32::to_be_bytes).map_err(|_| FrameError::TooLong(n))
}

/// Reads frames from a connection.
pub struct Decoder(zstd::bulk::Decompressor<'static>);

impl Decoder {
    /// With a decompressor that is reused.
    ///
    /// # Errors
    /// No memory for it.
    pub fn new() -> io::Result<Decoder> {
        Ok(Decoder(zstd::bulk::Decompressor::new()?))
    }

    /// Reads one frame; `None` if the connection ended before it began. With it, the bytes that it took on the wire.
    ///
    /// # Errors
    /// [`FrameError`]; the connection is of no more use then.
    pub async fn read<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        limit: usize,
    ) -> Result<Option<(Bytes, usize)>, FrameError> {
        let mut head = [0_u8; 4];
        match reader.read_exact(&mut head).await {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if length > limit {
            return Err(FrameError::TooLong(length));
        }
        // Grows as bytes arrive, so a length alone claims no memory.
        let mut body = Vec::with_capacity(length.min(64 * 1024));
        reader.take(u64::try_from(length).unwrap_or(0)).read_to_end(&mut body).await?;
        if body.len() != length {
            return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Some((self.decode(body, limit)?, length + 4)))
    }

    /// Undoes the flag.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(&mut self, body: Vec<u8>, limit: usize) -> Result<Bytes, FrameError> {
        match body.first() {
            None => Err(FrameError::Empty),
            Some(&FLAG_PLAIN) => Ok(Bytes::from(body).slice(1..)),
            Some(&FLAG_ZSTD) => {
                let stated: [u8; 4] = body.get(1..5).and_then(|b| b.try_into().ok()).ok_or(FrameError::Damaged)?;
                let original = usize::try_from(u32::from_be_bytes(stated)).unwrap_or(usize::MAX);
                if original > limit {
                    return Err(FrameError::TooLong(original));
                }
                let frame = self.0.decompress(&body[5..], original).map_err(|_| FrameError::Damaged)?;
                if frame.len() == original { Ok(Bytes::from(frame)) } else { Err(FrameError::Damaged) }
            }
            Some(&flag) => Err(FrameError::UnknownFlag(flag)),
        }
    }
}
