//! One stream connection: framing what arrives, writing what is queued, ending on idleness, garbage or a stall.
//!
//! Owns the connection while it lives. Does not own the table of connections (`streams`).

use super::streams::{Place, Shared, Streams};
use crate::shell::counters::{Counters, count};
use crate::shell::inbox::Inbox;
use bytes::Bytes;
use pairline_node::io::Input;
use pairline_sip::flow::Flow;
use pairline_sip::framing::{Frame, StreamFramer};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Bytes read at once.
const READ: usize = 16 * 1024;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the peer, the network, or us.
    Closed,
    /// Nothing arrived for the idle limit.
    Idle,
    /// What arrived is not framed SIP.
    Malformed,
    /// The peer does not read.
    Stalled,
    /// The node has ended.
    Stopping,
}

/// What every connection needs.
#[derive(Clone)]
pub struct Context {
    /// The table.
    pub streams: Arc<Streams>,
    /// The node's input.
    pub inbox: Inbox,
    /// Counters.
    pub counters: Arc<Counters>,
}

/// Serves a connection until it ends, then tells the node and gives its place back.
pub async fn serve<S: AsyncRead + AsyncWrite>(stream: S, place: Place, context: Context) -> End {
    let Place { shared, queue } = place;
    let (reader, writer) = tokio::io::split(stream);
    let end = {
        let read = read(reader, &shared, &context);
        let write = write(writer, queue, &shared, &context);
        tokio::pin!(read, write);
        tokio::select! {
            end = &mut read => end,
            end = &mut write => end,
            () = shared.abort.notified() => End::Closed,
        }
    };
    match end {
        End::Idle => count(&context.counters.stream_idle),
        End::Malformed => count(&context.counters.stream_malformed),
        End::Stalled => count(&context.counters.stream_over_budget),
        End::Closed | End::Stopping => {}
    }
    ended(&shared, &context).await;
    end
}

/// Gives the place back and tells the node, for the connection and for its address if it was used by address.
pub async fn ended(shared: &Shared, context: &Context) {
    context.streams.remove(shared);
    // If the node has ended, nobody needs to know.
    let _ = context.inbox.stream(Input::FlowClosed { flow: shared.flow }).await;
    if shared.by_address.load(Ordering::Relaxed) {
        let flow = Flow { connection: 0, ..shared.flow };
        let _ = context.inbox.stream(Input::FlowClosed { flow }).await;
    }
}

async fn read<R: AsyncRead + Unpin>(mut reader: R, shared: &Shared, context: &Context) -> End {
    let limits = context.streams.limits();
    let mut framer = StreamFramer::new(limits.message);
    let mut buffer = vec![0_u8; READ];
    let mut last_frame = Instant::now();
    loop {
        // Until something was granted, whole frames count, not bytes: a message sent byte by byte holds no place for ever.
        let idle = match shared.proven.load(Ordering::Relaxed) {
            true => limits.idle,
            false => limits.unproven_idle.saturating_sub(last_frame.elapsed()),
        };
        let got = match tokio::time::timeout(idle, reader.read(&mut buffer)).await {
            Err(_) => return End::Idle,
            Ok(Err(_) | Ok(0)) => return End::Closed,
            Ok(Ok(n)) => n,
        };
        framer.push(&buffer[..got]);
        while let Some(frame) = framer.next() {
            last_frame = Instant::now();
            match frame {
                Ok(Frame::Message(message)) => {
                    count(&context.counters.stream_messages);
                    let input = Input::Sip { flow: shared.flow, message };
                    if context.inbox.stream(input).await.is_err() {
                        return End::Stopping;
                    }
                }
                Ok(Frame::Ping) => {
                    // RFC 5626 §4.4.1: answered by one CRLF. A full queue means that more than a CRLF is on its way.
                    let _ = context.streams.send(&shared.flow, Bytes::from_static(b"\r\n"));
                }
                Ok(Frame::Pong) => {}
                Err(_) => return End::Malformed,
            }
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Bytes>,
    shared: &Shared,
    context: &Context,
) -> End {
    let stall = context.streams.limits().write_stall;
    while let Some(message) = queue.recv().await {
        match tokio::time::timeout(stall, writer.write_all(&message)).await {
            Err(_) => return End::Stalled,
            Ok(Err(_)) => return End::Closed,
            Ok(Ok(())) => {}
        }
        shared.queued.fetch_sub(message.len(), Ordering::Relaxed);
    }
    // The queue ended: closed in good order, after everything was written.
    let _ = tokio::time::timeout(stall, writer.shutdown()).await;
    End::Closed
}
