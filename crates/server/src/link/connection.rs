//! One link while it lives: hello, then frames in both directions until either side ends it.
//!
//! Owns the connection. Does not own which link is current for a server (`links`).

use super::frame::{Decoder, Encoder, FrameError, LARGEST};
use super::hello::{self, HelloError, Levels};
use crate::shell::counters::{Counters, add, count};
use crate::shell::inbox::Inbox;
use crate::tls::PeerIdentity;
use bytes::Bytes;
use pairline_group::LinkId;
use pairline_node::io::Input;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A frame may take this many bytes more on the wire than before: flag and length.
const WIRE: usize = LARGEST + 16;
/// Bytes gathered before they are written.
const GATHER: usize = 64 * 1024;

/// Why a link ended, or was not made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// TCP.
    #[error("cannot reach it: {0}")]
    Connect(io::Error),
    /// TLS; the text is in words.
    #[error("{0}")]
    Tls(String),
    /// Took too long.
    #[error("the handshake took too long")]
    Slow,
    /// Hello.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// What arrived is no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The peer does not read, or the network is gone.
    #[error("nothing can be written: {0}")]
    Write(io::Error),
    /// The peer ended it.
    #[error("the peer closed it")]
    Closed,
    /// A newer link of the same server took its place.
    #[error("replaced by a newer link")]
    Replaced,
    /// The peer did not read what was sent.
    #[error("the peer reads too slowly: more than 64 MiB are waiting")]
    OverBudget,
    /// The topology does not have that server any more.
    #[error("the topology does not name that server any more")]
    Removed,
    /// This server stops.
    #[error("this server is stopping")]
    Stopping,
}

impl LinkError {
    /// Whether somebody should look, rather than wait: the other end is not what it should be.
    pub fn is_rejection(&self) -> bool {
        matches!(self, LinkError::Tls(_) | LinkError::Hello(_) | LinkError::Frame(_) | LinkError::Slow)
    }
}

/// A dead peer is noticed by the system within about five seconds, also when nothing is acknowledged any more.
pub fn watch(stream: &TcpStream, dead_after: Duration) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(2))
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    // Each is a help to notice sooner; the node's heartbeats decide.
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(dead_after));
    let _ = stream.set_nodelay(true);
}

/// Exchanges hellos; gives the highest feature level that the peer knows.
///
/// # Errors
/// [`LinkError`].
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    me: PeerIdentity,
    peer: PeerIdentity,
    levels: Levels,
) -> Result<u16, LinkError> {
    let mut out = Vec::new();
    Encoder::new().map_err(LinkError::Write)?.encode(&hello::encode(me, levels), &mut out)?;
    stream.write_all(&out).await.map_err(tls_error)?;
    stream.flush().await.map_err(tls_error)?;
    let mut decoder = Decoder::new().map_err(LinkError::Write)?;
    match decoder.read(stream, 64).await {
        // The first read after the handshake is where the peer's refusal of our certificate shows.
        Err(FrameError::Io(e)) => Err(tls_error(e)),
        Err(FrameError::TooLong(_)) => Err(HelloError::NotHello.into()),
        Err(e) => Err(e.into()),
        Ok(None) => Err(LinkError::Closed),
        Ok(Some((hello, _))) => Ok(hello::check(&hello, peer, levels)?),
    }
}

/// An error of the TLS layer, in words.
pub fn tls_error(error: io::Error) -> LinkError {
    LinkError::Tls(crate::tls::reason::of_io(&error))
}

/// Gives every frame that arrives to the node until the link ends.
pub async fn read<R: AsyncRead + Unpin>(mut reader: R, link: LinkId, inbox: &Inbox, counters: &Counters) -> LinkError {
    let mut decoder = match Decoder::new() {
        Ok(decoder) => decoder,
        Err(e) => return LinkError::Write(e),
    };
    loop {
        match decoder.read(&mut reader, WIRE).await {
            Ok(Some((frame, wire))) => {
                count(&counters.link_frames_in);
                add(&counters.link_bytes_in, wire);
                let bytes = frame.len();
                if inbox.peer(Input::PeerFrame { link, frame }, bytes).await.is_err() {
                    return LinkError::Stopping;
                }
            }
            Ok(None) => return LinkError::Closed,
            Err(FrameError::Io(e)) if is_end(&e) => return LinkError::Closed,
            Err(FrameError::Io(e)) => return tls_error(e),
            Err(e) => return e.into(),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::TimedOut
    )
}

/// Writes every queued frame until the link ends; the end of the queue closes it in good order.
pub async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Bytes>,
    queued: &AtomicUsize,
    counters: &Counters,
) -> LinkError {
    let mut encoder = match Encoder::new() {
        Ok(encoder) => encoder,
        Err(e) => return LinkError::Write(e),
    };
    let mut out = Vec::with_capacity(GATHER);
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        while let Some(frame) = next {
            queued.fetch_sub(frame.len(), Ordering::Relaxed);
            if let Err(e) = encoder.encode(&frame, &mut out) {
                return e.into();
            }
            count(&counters.link_frames_out);
            next = if out.len() < GATHER { queue.try_recv().ok() } else { None };
        }
        add(&counters.link_bytes_out, out.len());
        if let Err(e) = writer.write_all(&out).await {
            return LinkError::Write(e);
        }
        if let Err(e) = writer.flush().await {
            return LinkError::Write(e);
        }
        out.clear();
        out.shrink_to(1024 * 1024);
    }
    // Whatever the peer makes of it, the link is over.
    let _ = writer.shutdown().await;
    LinkError::Stopping
}
