//! The opening of a WebSocket for SIP (RFC 6455 §4.2, RFC 7118 §4): what is agreed, and what is refused with which answer.
//!
//! Owns the handshake. Does not own which origins may (`origins`) nor what follows (`websocket`).

use super::origins::Origins;
use super::tally::Failure;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The subprotocol (RFC 7118 §4.1).
const SIP: &str = "sip";
/// Largest request in bytes, with all its headers.
const REQUEST: usize = 8 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;
/// Bytes that a WebSocket reads at once; it keeps them while it is open.
const READ: usize = 2 * 1024;
/// Bytes that may wait inside a WebSocket; its queue is before it.
const UNSENT: usize = 512 * 1024;

/// A refusal: what it counts as, the status, and the reason in words.
type Refusal = (Failure, StatusCode, &'static str);

/// Agrees on a WebSocket for SIP, or answers why not.
///
/// # Errors
/// What was wrong; the answer has been sent.
pub async fn upgrade<S>(stream: S, origins: &Origins, message: usize) -> Result<WebSocketStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let outcome = Mutex::new(Err(Failure::Closed));
    let service = service_fn(|mut request: Request<Incoming>| {
        let (answer, result) = match judge(&request, origins) {
            Ok(accept) => (switch(accept), Ok(hyper::upgrade::on(&mut request))),
            Err((why, status, words)) => (refuse(status, words), Err(why)),
        };
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = result;
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(REQUEST)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    match served {
        Ok(()) => open(outcome?, message).await,
        Err(error) if error.is_parse() || error.is_parse_too_large() => Err(Failure::NotWebSocket),
        Err(_) => Err(outcome.err().unwrap_or(Failure::Closed)),
    }
}

async fn open<S>(upgrade: OnUpgrade, message: usize) -> Result<WebSocketStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgraded = upgrade.await.map_err(|_| Failure::Closed)?;
    let parts = upgraded.downcast::<TokioIo<S>>().map_err(|_| Failure::Closed)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_write_buffer_size(UNSENT)
        .max_message_size(Some(message))
        .max_frame_size(Some(message));
    let (stream, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
    Ok(WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await)
}

/// The words of a comma-separated header.
fn words<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Whether a comma-separated header has that word, in any case.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    words(headers, name).any(|found| found.eq_ignore_ascii_case(word))
}

/// The answer's proof (RFC 6455 §4.2.2) for a request that is right.
fn judge<B>(request: &Request<B>, origins: &Origins) -> Result<String, Refusal> {
    let headers = request.headers();
    let not = |words| (Failure::NotWebSocket, StatusCode::BAD_REQUEST, words);
    if !has(headers, &UPGRADE, "websocket") || !has(headers, &CONNECTION, "upgrade") {
        let words = "This port speaks SIP over WebSocket (RFC 7118) and nothing else.\n";
        return Err((Failure::NotWebSocket, StatusCode::UPGRADE_REQUIRED, words));
    }
    if request.method() != Method::GET {
        return Err(not("A WebSocket is opened with GET.\n"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let words = "Only WebSocket version 13 is spoken here.\n";
        return Err((Failure::NotWebSocket, StatusCode::UPGRADE_REQUIRED, words));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or_else(|| not("Sec-WebSocket-Key is missing or malformed.\n"))?;
    if headers.get_all(ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(|origin| origins.allow(origin))) {
        let words =
            "Pages of that origin may not connect; list it under [sip] origins in the server's configuration.\n";
        return Err((Failure::Origin, StatusCode::FORBIDDEN, words));
    }
    // The one word whose case counts: the answer repeats it, and clients compare (RFC 6455 §4.1).
    if words(headers, &SEC_WEBSOCKET_PROTOCOL).all(|offered| offered != SIP) {
        let words = "The subprotocol \"sip\" must be offered (RFC 7118 section 4.1).\n";
        return Err((Failure::Subprotocol, StatusCode::BAD_REQUEST, words));
    }
    Ok(derive_accept_key(key.as_bytes()))
}

fn switch(accept: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SIP));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

fn refuse(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(words));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    answer
}
