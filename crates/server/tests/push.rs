//! Orders to wake clients at a real HTTP gateway: what arrives there, and what becomes of orders that do not.
#![allow(clippy::unwrap_used)]

use pairline_server::shell::counters::Counters;
use pairline_server::shell::push::{Gateway, GatewayError};
use pairline_services::push::Wake;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn wake() -> Wake {
    Wake { provider: "apns".into(), param: "TEAM.app".into(), prid: "abc\"1".into(), method: "INVITE".into() }
}

/// Waits until a counter has that value; the request is under way in the background.
async fn reaches(counters: &Counters, name: &str, value: u64) {
    let until = Instant::now() + Duration::from_secs(10);
    while counters.samples().iter().find(|(n, _)| *n == name).unwrap().1 != value {
        assert!(Instant::now() < until, "{name} is not {value}: {:?}", counters.samples());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Answers one request with a status; what it was.
async fn answer(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    let mut buffer = [0_u8; 1024];
    while !text.ends_with('}') {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(reply.as_bytes()).await.unwrap();
    text
}

#[tokio::test]
async fn an_order_is_posted_and_counted_by_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/wake?x=1", listener.local_addr().unwrap());
    let gateway = Gateway::new(&address, None, Some("secret".into())).unwrap();
    let counters = Arc::new(Counters::default());
    gateway.post(&wake(), &counters);
    let request = answer(&listener, "202 Accepted").await;
    let lower = request.to_ascii_lowercase();
    assert!(request.starts_with("POST /wake?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(lower.contains("content-type: application/json") && lower.contains("authorization: bearer secret"));
    let body: serde_json::Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let wanted = serde_json::json!({"provider": "apns", "param": "TEAM.app", "prid": "abc\"1", "method": "INVITE"});
    assert_eq!(body, wanted);
    reaches(&counters, "pairline_push_sent_total", 1).await;
    gateway.post(&wake(), &counters);
    answer(&listener, "429 Too Many Requests").await;
    reaches(&counters, "pairline_push_refused_total", 1).await;
    drop(listener);
    gateway.post(&wake(), &counters);
    reaches(&counters, "pairline_push_failed_total", 1).await;
}

#[tokio::test]
async fn a_gateway_that_hangs_holds_a_bounded_number_of_orders_for_a_bounded_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::new(&format!("http://{}/", listener.local_addr().unwrap()), None, None).unwrap();
    let counters = Arc::new(Counters::default());
    for _ in 0..70 {
        gateway.post(&wake(), &counters);
    }
    reaches(&counters, "pairline_push_dropped_total", 6).await;
    reaches(&counters, "pairline_push_failed_total", 64).await;
    gateway.post(&wake(), &counters);
    reaches(&counters, "pairline_push_dropped_total", 6).await;
}

#[test]
fn an_address_that_is_none_is_refused_with_what_to_write() {
    for address in ["ftp://x/", "push", "http:///x", ""] {
        let error = Gateway::new(address, None, None).map(|_| ()).unwrap_err();
        assert!(matches!(error, GatewayError::Address(_)) && error.to_string().contains("http://127.0.0.1:9080"));
    }
    let error = Gateway::new("https://push.example/", None, None).map(|_| ()).unwrap_err();
    assert_eq!(error, GatewayError::NoAuthority);
}
