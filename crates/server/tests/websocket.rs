//! SIP over WebSocket with real sockets: what is agreed at the opening, and what is carried after it.
#![allow(clippy::unwrap_used)]

use super::support;

use futures_util::{SinkExt as _, StreamExt as _};
use pairline_node::io::{Input, Output};
use pairline_server::shell::{RunningServer, Server, ServerOptions};
use pairline_sip::flow::{Flow, Transport};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use support::{Deployment, PATIENCE, echo, scripted, until};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

const REQUEST: &str =
    "OPTIONS sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK1\r\n\r\n";

fn start(options: ServerOptions) -> (RunningServer, mpsc::Receiver<String>) {
    let (told_in, told) = mpsc::sync_channel(1024);
    (Server::start_with(options, echo(told_in)).unwrap(), told)
}

async fn connect(server: &RunningServer) -> TcpStream {
    TcpStream::connect(server.address("ws").unwrap()).await.unwrap()
}

async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<S>, Error> {
    let mut request = "ws://pairline.test/".into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let opened = tokio::time::timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await.unwrap();
    opened.map(|(socket, answer)| {
        assert_eq!(answer.headers()["sec-websocket-protocol"], "sip");
        socket
    })
}

async fn opened(server: &RunningServer) -> WebSocketStream<TcpStream> {
    open(connect(server).await, &[("sec-websocket-protocol", "sip")]).await.unwrap()
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

/// The code of the close frame that ends it, after anything else.
async fn closed<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> CloseCode {
    loop {
        if let Message::Close(Some(frame)) = next(socket).await {
            return frame.code;
        }
    }
}

fn tally(server: &RunningServer, transport: &str, name: &str, word: &str) -> u64 {
    let samples = server.handle().connection_samples();
    let fits = |labels: &[(&str, &str)]| labels[0].1 == transport && labels.get(1).is_none_or(|(_, w)| *w == word);
    samples.iter().find(|(n, labels, _)| *n == name && fits(labels)).unwrap().2
}

async fn counted(server: &RunningServer, name: &str, word: &str, at_least: u64) {
    let end = Instant::now() + PATIENCE;
    while tally(server, "WS", name, word) < at_least {
        assert!(Instant::now() < end, "{name} {word} stays below {at_least}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn text_and_binary_carry_one_message_each_and_keep_alives_are_answered() {
    let (server, _told) = start(Deployment::new().options("east"));
    let mut socket = opened(&server).await;
    socket.send(Message::text(REQUEST)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text(REQUEST));
    socket.send(Message::binary(REQUEST)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text(REQUEST));
    let latin = [REQUEST.as_bytes(), b"\xe9"].concat();
    socket.send(Message::binary(latin.clone())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::binary(latin), "what is no UTF-8 stays binary");
    for answered in ["\r\n\r\n", "\r\n", ""] {
        socket.send(Message::text(answered)).await.unwrap();
    }
    socket.send(Message::Ping("still there?".into())).await.unwrap();
    let mut answers = [next(&mut socket).await, next(&mut socket).await];
    answers.sort_by_key(Message::is_pong);
    assert_eq!(answers, [Message::text("\r\n"), Message::Pong("still there?".into())]);
    let stream_messages = server.handle().shell_samples();
    assert!(stream_messages.contains(&("pairline_stream_messages_total", 3)), "{stream_messages:?}");
    socket.close(None).await.unwrap();
    counted(&server, "pairline_connections_closed_total", "closed", 1).await;
    assert_eq!(tally(&server, "WS", "pairline_connections", ""), 0);
}

#[tokio::test]
async fn a_message_in_fragments_is_one_message() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let (server, _told) = start(Deployment::new().options("east"));
    let mut socket = opened(&server).await;
    let (first, rest) = REQUEST.split_at(20);
    let frame = |text: &'static str, kind, last| Message::Frame(Frame::message(text, OpCode::Data(kind), last));
    socket.send(frame(first, Data::Text, false)).await.unwrap();
    socket.send(Message::Ping("between".into())).await.unwrap();
    socket.send(frame(rest, Data::Continue, true)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("between".into()));
    assert_eq!(next(&mut socket).await, Message::text(REQUEST));
}

#[tokio::test]
async fn an_opening_that_is_not_for_sip_is_refused_with_its_reason() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.config.sip.origins = vec!["https://phone.example.org".to_owned()];
    let (server, _told) = start(options);
    let sip = ("sec-websocket-protocol", "chat, sip");
    let cases: [(&[(&str, &str)], u16); 7] = [
        (&[sip], 101),
        (&[sip, ("origin", "https://phone.example.org")], 101),
        (&[sip, ("origin", "https://PAIRLINE.test:8080")], 101),
        (&[sip, ("origin", "https://evil.example")], 403),
        (&[sip, ("origin", "null")], 403),
        (&[sip, ("origin", "https://pairline.test"), ("origin", "https://evil.example")], 403),
        (&[("sec-websocket-protocol", "chat")], 400),
    ];
    for (headers, expected) in cases {
        let status = match open(connect(&server).await, headers).await {
            Ok(_) => 101,
            Err(Error::Http(answer)) => answer.status().as_u16(),
            Err(other) => panic!("{headers:?}: {other}"),
        };
        assert_eq!(status, expected, "{headers:?}");
    }
    counted(&server, "pairline_handshakes_failed_total", "origin", 3).await;
    counted(&server, "pairline_handshakes_failed_total", "subprotocol", 1).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let raw = [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "HTTP/1.1 426 "),
        (format!("POST / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n{upgrade}{key}\r\n"), "HTTP/1.1 400 "),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 8\r\n{upgrade}{key}\r\n"), "HTTP/1.1 426 "),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n{upgrade}\r\n"), "HTTP/1.1 400 "),
        (REQUEST.to_owned(), "HTTP/1.1 400 "),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000)), "HTTP/1.1 431 "),
    ];
    for (request, expected) in &raw {
        let mut stream = connect(&server).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer, for what was not read, is an end as good as any.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected), "{request:.60}: {answer}");
    }
    counted(&server, "pairline_handshakes_failed_total", "not-websocket", 6).await;
}

#[tokio::test]
async fn a_slow_opening_and_a_silent_client_lose_their_place() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.handshake = Duration::from_millis(100);
    options.streams.unproven_idle = Duration::from_millis(100);
    let (server, told) = start(options);
    let mut slow = connect(&server).await;
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut rest)).await.unwrap();
    counted(&server, "pairline_handshakes_failed_total", "timeout", 1).await;
    let mut socket = opened(&server).await;
    assert_eq!(closed(&mut socket).await, CloseCode::Policy);
    counted(&server, "pairline_connections_closed_total", "idle", 1).await;
    until(&told, |t| t.starts_with("FlowClosed"));
}

#[tokio::test]
async fn who_was_granted_something_is_asked_whether_it_is_still_there() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.ping = Duration::from_millis(100);
    let grant = scripted(|_, input| match input {
        Input::Sip { flow, .. } => {
            vec![Output::Sip { flow, message: "SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\n\r\n".into() }]
        }
        _ => vec![],
    });
    let server = Server::start_with(options, grant).unwrap();
    let mut socket = opened(&server).await;
    socket.send(Message::text(REQUEST)).await.unwrap();
    assert!(next(&mut socket).await.is_text());
    // Reading answers: it stays for many times what silence is allowed.
    let begun = Instant::now();
    let mut pings = 0;
    while begun.elapsed() < Duration::from_millis(600) {
        pings += u32::from(next(&mut socket).await.is_ping());
    }
    assert!(pings >= 3, "{pings}");
    assert_eq!(tally(&server, "WS", "pairline_connections", ""), 1);
    // Nobody reads, so nobody answers.
    counted(&server, "pairline_connections_closed_total", "silent", 1).await;
}

#[tokio::test]
async fn frames_that_are_wrong_or_too_large_close_with_their_code() {
    let (server, _told) = start(Deployment::new().options("east"));
    let mut socket = opened(&server).await;
    socket.send(Message::binary(vec![b'x'; 64 * 1024 + 1])).await.unwrap();
    assert_eq!(closed(&mut socket).await, CloseCode::Size);
    // An unmasked frame, a reserved opcode, a text that is no UTF-8 (each of its own connection).
    for bytes in [&b"\x81\x01x"[..], &b"\x83\x80\0\0\0\0"[..], &b"\x81\x81\0\0\0\0\xff"[..]] {
        let mut socket = opened(&server).await;
        socket.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(closed(&mut socket).await, CloseCode::Protocol, "{bytes:?}");
    }
    counted(&server, "pairline_connections_closed_total", "malformed", 4).await;
    let mut good = opened(&server).await;
    good.send(Message::text(REQUEST)).await.unwrap();
    assert_eq!(next(&mut good).await, Message::text(REQUEST));
}

#[tokio::test]
async fn over_tls_the_same() {
    let deployment = Deployment::new();
    let (server, _told) = start(deployment.options("east"));
    let roots = pairline_server::tls::config::roots(deployment.authority.certificate_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.address("wss").unwrap()).await.unwrap();
    let name = ServerName::try_from("pairline.test").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let mut socket =
        open(stream, &[("sec-websocket-protocol", "sip"), ("origin", "https://pairline.test")]).await.unwrap();
    socket.send(Message::text(REQUEST)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text(REQUEST));
    assert_eq!(tally(&server, "WSS", "pairline_connections_opened_total", "in"), 1);
}

#[tokio::test]
async fn a_browser_is_reached_on_its_own_connection_only() {
    let deployment = Deployment::new();
    let (told_in, told) = mpsc::sync_channel(64);
    let script = scripted(move |_, input| match input {
        Input::Sip { flow, message } if flow.transport == Transport::Ws => {
            let lost = Flow { connection: 0, ..flow };
            vec![Output::Sip { flow: lost, message: message.clone() }, Output::Sip { flow, message }]
        }
        Input::FlowClosed { flow } => {
            let _ = told_in.try_send(flow);
            vec![]
        }
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let mut socket = opened(&server).await;
    socket.send(Message::text(REQUEST)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text(REQUEST));
    assert_eq!(until(&told, |_| true).connection, 0, "nobody connects to a browser");
    socket.close(None).await.unwrap();
    assert_ne!(until(&told, |_| true).connection, 0);
    assert_eq!(tally(&server, "WS", "pairline_connections_opened_total", "in"), 1);
}
