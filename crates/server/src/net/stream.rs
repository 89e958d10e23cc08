//! One TCP or TLS connection: framing what arrives, writing what is queued, ending on idleness, garbage or a stall.
//!
//! Owns the connection while it lives. Does not own the table of connections (`streams`) nor handshakes (`accept`, `dial`).

use super::allowance::Allowance;
use super::context::Context;
use super::streams::{Place, Shared};
use super::tally::End;
use crate::shell::counters::count;
use bytes::Bytes;
use pairline_node::io::Input;
use pairline_sip::flow::Transport;
use pairline_sip::framing::{Frame, StreamFramer};
use pairline_sip::message::Message;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;

/// Bytes read at once.
const READ: usize = 16 * 1024;
/// How long a connection that is closed after an answer is still read.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
const LINGER_BYTES: usize = 1024 * 1024;

/// Serves a connection until it ends, then tells the node and gives its place back.
pub async fn serve<S: AsyncRead + AsyncWrite>(stream: S, place: Place, context: Context) {
    let Place { shared, queue } = place;
    let (mut reader, writer) = tokio::io::split(stream);
    let end = {
        let write = write(writer, queue, &shared, &context);
        tokio::pin!(write);
        let end = tokio::select! {
            end = read(&mut reader, &shared, &context) => end,
            end = &mut write => end,
            () = shared.abort.notified() => End::Closed,
        };
        if end == End::Malformed {
            // The answer is written before the end; reading on for a moment, since unread bytes would turn the end into a
            // reset that may overtake it.
            context.streams.close(&shared.flow);
            write.await;
            let _ = tokio::time::timeout(LINGER, discard(&mut reader)).await;
        }
        end
    };
    finish(&shared, end, &context).await;
}

/// Counts the end of a connection that carried SIP, gives its place back and tells the node.
pub async fn finish(shared: &Shared, end: End, context: &Context) {
    context.counters.connections.ended(shared.flow.transport, end);
    match end {
        End::Idle | End::Silent => count(&context.counters.stream_idle),
        End::Malformed | End::TooMuch => count(&context.counters.stream_malformed),
        End::Stalled => count(&context.counters.stream_over_budget),
        End::Closed | End::Stopping => {}
    }
    ended(shared, context).await;
}

/// Gives the place back and tells the node, for the connection and for each destination as which it was used.
pub async fn ended(shared: &Shared, context: &Context) {
    context.streams.remove(shared);
    // If the node has ended, nobody needs to know.
    let _ = context.inbox.stream(Input::FlowClosed { flow: shared.flow }).await;
    for flow in shared.destinations() {
        let _ = context.inbox.stream(Input::FlowClosed { flow }).await;
    }
}

async fn read<R: AsyncRead + Unpin>(reader: &mut R, shared: &Shared, context: &Context) -> End {
    let limits = context.streams.limits();
    let mut framer = StreamFramer::new(limits.message);
    let mut allowance = Allowance::default();
    let mut last_message = Instant::now();
    let mut aliasing = shared.incoming && shared.flow.transport == Transport::Tls && shared.names().is_some();
    loop {
        // Until something was granted, whole messages count, not bytes or keep-alives: neither holds a place for ever.
        let proven = shared.proven.load(Ordering::Relaxed);
        let idle = match proven {
            true => shared.patience.limit(limits.flow_grace).map_or(limits.idle, |told| told.min(limits.idle)),
            false => limits.unproven_idle.saturating_sub(last_message.elapsed()),
        };
        // Over, even if something is there to be read.
        if idle.is_zero() {
            return End::Idle;
        }
        let got = tokio::select! {
            got = tokio::time::timeout(idle, receive(reader, &mut framer)) => got,
            // The client has just been told how long it may be silent.
            () = shared.patience.changed() => continue,
        };
        let got = match got {
            // Something was granted while it waited: from then on another time counts.
            Err(_) if proven != shared.proven.load(Ordering::Relaxed) => continue,
            Err(_) => return End::Idle,
            // The system has asked and got no answer, or what was sent was never acknowledged.
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => return End::Silent,
            Ok(Err(_) | Ok(0)) => return End::Closed,
            Ok(Ok(n)) => n,
        };
        if !allowance.take(got, shared, context).await {
            return End::TooMuch;
        }
        while let Some(frame) = framer.next() {
            match frame {
                Ok(Frame::Message(message)) => {
                    last_message = Instant::now();
                    count(&context.counters.stream_messages);
                    if aliasing {
                        aliasing = !alias(shared, &message, context);
                    }
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
                Err(_) => {
                    let reply = framer.refused().and_then(|error| error.reply_to(shared.flow.remote));
                    // A full queue means that this client does not read anyway.
                    let _ = reply.map(|reply| context.streams.send(&shared.flow, reply));
                    return End::Malformed;
                }
            }
        }
    }
}

thread_local! {
    /// Where all connections of this thread read into, since one that waits needs no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Reads what there is, at least a byte, into the framer; 0 at the end. Safe to drop at the await.
async fn receive<R: AsyncRead + Unpin>(reader: &mut R, framer: &mut StreamFramer) -> io::Result<usize> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *reader).poll_read(cx, &mut buffer))?;
            framer.push(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

/// Takes the offer to send requests back on this connection, if the message makes it (RFC 5923 §5); true if it did.
fn alias(shared: &Shared, message: &Bytes, context: &Context) -> bool {
    let Ok(message) = Message::parse(message.clone()) else { return false };
    let offered = message.is_request().then(|| message.via()).filter(|via| via.param("alias").is_some());
    let port = offered.map(|via| via.port.unwrap_or(shared.flow.transport.default_port()));
    port.is_some_and(|port| {
        context.streams.alias(shared, port);
        true
    })
}

/// Reads up to [`LINGER_BYTES`] of what still comes.
async fn discard<R: AsyncRead + Unpin>(reader: &mut R) {
    let mut buffer = vec![0_u8; READ];
    let mut left = LINGER_BYTES;
    while let Ok(got @ 1..) = reader.read(&mut buffer).await {
        left = left.saturating_sub(got);
        if left == 0 {
            return;
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
