//! One WebSocket: a SIP message in each of its messages, both ways (RFC 7118 §5).
//!
//! Owns the connection while it lives. Does not own its opening (`upgrade`) nor the table of connections (`streams`).

use super::allowance::Allowance;
use super::context::Context;
use super::stream;
use super::streams::{Place, Shared};
use super::tally::End;
use crate::shell::counters::count;
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use pairline_node::io::Input;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// The keep-alive of RFC 5626 §3.5.1, and its answer.
const PING: &[u8] = b"\r\n\r\n";
const PONG: &[u8] = b"\r\n";

/// Bytes of a frame beside what it carries (RFC 6455 §5.2).
const FRAME: usize = 8;

/// Serves a WebSocket until it ends, then tells the node and gives its place back.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, place: Place, context: Context) {
    let Place { shared, mut queue } = place;
    let (mut sink, mut source) = socket.split();
    let (end, code) = {
        let write = write(&mut sink, &mut queue, &shared, &context);
        tokio::pin!(write);
        tokio::select! {
            ended = read(&mut source, &shared, &context) => ended,
            end = &mut write => (end, CloseCode::Away),
            () = shared.abort.notified() => (End::Closed, CloseCode::Away),
        }
    };
    let stall = context.streams.limits().write_stall;
    let farewell = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }));
    // A peer that has closed already, or does not read, does not get it.
    let _ = tokio::time::timeout(stall, sink.send(farewell)).await;
    stream::finish(&shared, end, &context).await;
}

async fn read<R>(source: &mut R, shared: &Shared, context: &Context) -> (End, CloseCode)
where
    R: Stream<Item = Result<Message, Error>> + Unpin,
{
    let limits = context.streams.limits();
    let mut allowance = Allowance::default();
    let mut last_message = Instant::now();
    loop {
        // Once something was granted, any frame will do: our pings are answered by whoever is still there (RFC 6455 §5.5.3).
        // Until then whole messages count.
        let proven = shared.proven.load(Ordering::Relaxed);
        let (patience, why) = match proven {
            true => {
                let told = shared.patience.limit(limits.flow_grace);
                (told.map_or(limits.ping * 2, |told| told.min(limits.ping * 2)), End::Silent)
            }
            false => (limits.unproven_idle.saturating_sub(last_message.elapsed()), End::Idle),
        };
        if patience.is_zero() {
            return (End::Idle, CloseCode::Policy);
        }
        let message = tokio::select! {
            message = tokio::time::timeout(patience, source.next()) => message,
            // The client has just been told how long it may be silent.
            () = shared.patience.changed() => continue,
        };
        let message = match message {
            // Something was granted while it waited: from then on another time counts.
            Err(_) if proven != shared.proven.load(Ordering::Relaxed) => continue,
            Err(_) => return (why, CloseCode::Policy),
            Ok(None | Some(Ok(Message::Close(_)))) => return (End::Closed, CloseCode::Normal),
            Ok(Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. })))) => {
                return (End::Malformed, CloseCode::Size);
            }
            Ok(Some(Err(Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_)))) => {
                return (End::Malformed, CloseCode::Protocol);
            }
            Ok(Some(Err(_))) => return (End::Closed, CloseCode::Normal),
            Ok(Some(Ok(message))) => message,
        };
        if !allowance.take(message.len() + FRAME, shared, context).await {
            return (End::TooMuch, CloseCode::Policy);
        }
        let message = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            // A ping is answered by the library, with the next read.
            _ => continue,
        };
        match &message[..] {
            PING => {
                // A full queue means that more than this is on its way.
                let _ = context.streams.send(&shared.flow, Bytes::from_static(PONG));
                continue;
            }
            PONG | b"" => continue,
            _ => {}
        }
        last_message = Instant::now();
        count(&context.counters.stream_messages);
        if context.inbox.stream(Input::Sip { flow: shared.flow, message }).await.is_err() {
            return (End::Stopping, CloseCode::Away);
        }
    }
}

async fn write<W>(sink: &mut W, queue: &mut mpsc::Receiver<Bytes>, shared: &Shared, context: &Context) -> End
where
    W: Sink<Message, Error = Error> + Unpin,
{
    let limits = context.streams.limits();
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + limits.ping, limits.ping);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (message, length) = tokio::select! {
            message = queue.recv() => match message {
                // The queue ended: closed in good order, after everything was written.
                None => return End::Closed,
                Some(message) => {
                    let length = message.len();
                    (frame(message), length)
                }
            },
            _ = pings.tick() => (Message::Ping(Bytes::new()), 0),
        };
        match tokio::time::timeout(limits.write_stall, sink.send(message)).await {
            Err(_) => return End::Stalled,
            Ok(Err(_)) => return End::Closed,
            Ok(Ok(())) => {}
        }
        shared.queued.fetch_sub(length, Ordering::Relaxed);
    }
}

/// Text wherever it is text, as scripts in browsers expect it; both kinds are allowed (RFC 7118 §5.1).
fn frame(message: Bytes) -> Message {
    match Utf8Bytes::try_from(message.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(message),
    }
}
