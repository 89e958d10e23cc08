//! The admin API over real HTTPS, with a scripted node behind it.

use crate::temp::Temp;
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::view::{StatusView, UserView};
use pairline_server::api::metrics::render;
use pairline_server::api::serve::bind;
use pairline_server::api::token::Tokens;
use pairline_server::api::{ApiState, CommandFuture, CommandPort, serve};
use pairline_server::capture::{TraceAnswer, TraceError, TraceOrder};
use pairline_server::client::{Access, CallError, Connection, Endpoint, Prefer, Session, TraceClient};
use pairline_server::tls::Credentials;
use pairline_server::up::create;
use pairline_server::up::layout::Layout;
use pairline_topology::demo_topology;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What a test wants answered otherwise than the script does.
type Extra = fn(&Command) -> Option<Result<Reply, Problem>>;

/// Remembers what it was asked and answers from a script.
struct Script(Mutex<Vec<(Actor, Command)>>, Extra);

impl CommandPort for Script {
    fn command(&self, actor: Actor, command: Command) -> CommandFuture {
        let reply = match &command {
            command if (self.1)(command).is_some() => (self.1)(command).expect("checked"),
            Command::ServerStatus => Ok(Reply::Status(StatusView {
                server: "fe1".into(),
                pool: "east".into(),
                healthy: true,
                start: 3,
                drained: false,
                samples: vec![("lag_seconds".into(), vec![("to".into(), "west\"".into())], 0.25)],
            })),
            Command::UserShow { user } if user.contains("alice") => {
                let view = UserView { user: "sip:alice@pairline.test".into(), home: "east".into(), display_name: None };
                Ok(Reply::Users { users: vec![view], next: None })
            }
            Command::UserShow { .. } => Err(Problem {
                status: 404,
                kind: "no-such-user".into(),
                title: "No such user".into(),
                detail: "mallory is not there".into(),
                remedy: "See the list.".into(),
            }),
            _ => Ok(Reply::Ok { message: "done".into() }),
        };
        self.0.lock().expect("no panic").push((actor, command));
        Box::pin(async move { reply })
    }

    fn trace(&self, order: &TraceOrder) -> Result<TraceAnswer, TraceError> {
        match order {
            TraceOrder::Start { .. } => Ok(TraceAnswer::Started { id: 7, server: "fe1".into(), now_us: 1 }),
            TraceOrder::Stop { id: 7 } => Ok(TraceAnswer::Stopped),
            TraceOrder::Read { .. } | TraceOrder::Stop { .. } => Err(TraceError::Unknown),
        }
    }
}

pub struct Api {
    address: String,
    pub access: Access,
    script: Arc<Script>,
    pub stop: watch::Sender<bool>,
    _temp: Temp,
}

pub async fn start() -> Api {
    start_with(|_| None).await
}

pub async fn start_with(extra: Extra) -> Api {
    let temp = Temp::new("api");
    let mut topology = demo_topology();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    topology.server[0].admin = free.local_addr().expect("a port");
    drop(free);
    let layout: Layout = create::create(&temp.path().join("data"), &topology).expect("a deployment");
    let folder = layout.server(&topology.server[0].name);
    let credentials =
        Credentials::load(&folder.join("server.pem"), &folder.join("server.key"), &layout.authority_certificate())
            .expect("credentials");
    let access = Access::find(&[], layout.root(), None, None).expect("access");
    let tokens = Tokens::new(&access.token).expect("a token");
    let script = Arc::new(Script(Mutex::default(), extra));
    let port: Arc<dyn CommandPort> = script.clone();
    let state = Arc::new(ApiState { port, tokens, server: "fe1".into() });
    let listener = bind(topology.server[0].admin).await.expect("a listener");
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(serve(listener, credentials.admin_server().expect("TLS"), state, stopping));
    let address = topology.server[0].admin.to_string();
    let endpoint = Endpoint { address: address.clone(), server: None, pool: Some("east".into()), partner: None };
    Api { address, access: Access { endpoints: vec![endpoint], ..access }, script, stop, _temp: temp }
}

impl Api {
    pub async fn connect(&self) -> Connection {
        Connection::open(&self.address, self.access.tls.clone()).await.expect("a connection")
    }

    async fn get(&self, path: &str, token: &str) -> (u16, String) {
        let mut connection = self.connect().await;
        let (status, body) = connection.get(path, token, Duration::from_secs(5)).await.expect("an answer");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    pub fn asked(&self) -> Vec<(Actor, Command)> {
        self.script.0.lock().expect("no panic").clone()
    }
}

#[tokio::test]
async fn a_command_goes_through_and_a_refusal_names_its_remedy() {
    let api = start().await;
    let mut session = Session::new(api.access.clone());
    let command = Command::PoolSync { pool: "east".into() };
    let reply = session.call(&command, &Prefer::Any).await.expect("a reply");
    assert_eq!(reply, Reply::Ok { message: "done".into() });
    assert_eq!(api.asked().last().expect("asked").1, command);
    let refused = session.call(&Command::UserShow { user: "mallory".into() }, &Prefer::Any).await;
    let Err(CallError::Refused(problem)) = refused else { panic!("refused, not {refused:?}") };
    assert_eq!(
        (problem.status, problem.kind.as_str(), problem.remedy.as_str()),
        (404, "no-such-user", "See the list.")
    );
    api.stop.send_replace(true);
}

#[tokio::test]
async fn a_stranger_gets_nothing_but_signs_of_life() {
    let api = start().await;
    for token in ["", "wrong", "u1.616c696365.99999999999.00"] {
        let (status, body) = api.get("/api/v1/users", token).await;
        assert_eq!(status, 401, "{body}");
        assert!(body.contains("urn:pairline:problem:unauthorised"), "{body}");
    }
    assert!(api.asked().is_empty(), "the node was never asked");
    assert_eq!(api.get("/health", "").await.0, 200);
    assert_eq!(api.get("/openapi.json", "").await.0, 200);
    assert_eq!(api.get("/no/such/route", "").await.0, 404);
}

#[tokio::test]
async fn metrics_are_free_on_this_machine() {
    let api = start().await;
    let (status, text) = api.get("/metrics", "").await;
    assert_eq!(status, 200);
    assert!(text.contains("pairline_lag_seconds{to=\"west\\\"\"} 0.25"), "{text}");
    assert!(text.contains("pairline_healthy 1"), "{text}");
}

#[tokio::test]
async fn a_users_token_reaches_its_own_contacts_and_no_more() {
    let api = start().await;
    let mut session = Session::new(api.access.clone());
    let Reply::Text { text: token } = session.user_token("alice", 1).await.expect("a token") else { panic!("a token") };
    assert!(
        matches!(session.user_token("mallory", 1).await, Err(CallError::Refused(problem)) if problem.status == 404)
    );
    assert_eq!(api.get("/api/v1/users/alice/contacts", &token).await.0, 200);
    let (actor, command) = api.asked().last().cloned().expect("asked");
    assert_eq!(actor, Actor::User("sip:alice@pairline.test".into()));
    assert_eq!(command, Command::ContactList { user: "alice".into() });
    for path in ["/api/v1/users/bob/contacts", "/api/v1/users", "/api/v1/pools", "/api/v1/users/alice/where"] {
        assert_eq!(api.get(path, &token).await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn bad_and_oversized_bodies_are_refused() {
    let api = start().await;
    let token = api.access.token.clone();
    let mut connection = Connection::open(&api.address, api.access.tls.clone()).await.expect("a connection");
    let limit = Duration::from_secs(10);
    for body in ["", "[]", "{", "{\"command\":\"fly\"}"] {
        let (status, _) = connection.post("/api/v1/command", &token, body.into(), limit).await.expect("an answer");
        assert_eq!(status, 400, "{body}");
    }
    let large = vec![b' '; 5 * 1024 * 1024];
    // The server may close before all of it is sent; it may not take it.
    let answer = connection.post("/api/v1/command", &token, large.into(), limit).await;
    assert!(!matches!(answer, Ok((200, _))), "{answer:?}");
    assert!(api.asked().is_empty());
}

#[test]
fn a_histogram_is_one_family_with_its_buckets_in_order() {
    let bucket = |le: &str, n: f64| ("pairline_x_seconds_bucket".to_owned(), vec![("le".to_owned(), le.to_owned())], n);
    let samples = vec![
        bucket("0.1", 1.0),
        bucket("+Inf", 3.0),
        ("pairline_x_seconds_sum".to_owned(), vec![], 0.5),
        ("pairline_x_seconds_count".to_owned(), vec![], 3.0),
        ("pairline_y_total".to_owned(), vec![], 7.0),
    ];
    let text = render(&StatusView { samples, ..StatusView::default() });
    let expected = "# TYPE pairline_x_seconds histogram\n\
        pairline_x_seconds_bucket{le=\"0.1\"} 1\npairline_x_seconds_bucket{le=\"+Inf\"} 3\n\
        pairline_x_seconds_sum 0.5\npairline_x_seconds_count 3\n# TYPE pairline_y_total counter\npairline_y_total 7\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn user_tokens_end_and_cannot_be_changed() {
    let tokens = Tokens::new("0123456789abcdef0123456789abcdef").expect("long enough");
    let token = tokens.issue("sip:alice@pairline.test", 1_000);
    assert!(tokens.check(&token, 999).is_some());
    assert!(tokens.check(&token, 1_000).is_none(), "expired");
    let others = Tokens::new("f123456789abcdef0123456789abcdef").expect("long enough");
    assert!(others.check(&token, 0).is_none(), "another deployment's");
    let later = token.replace(".1000.", ".9000.");
    assert!(tokens.check(&later, 0).is_none(), "a later end");
    for cut in 0..token.len() {
        assert!(tokens.check(&token[..cut], 0).is_none(), "{cut}");
    }
    assert!(Tokens::new("short").is_err());
}

#[tokio::test]
async fn traces_are_the_administrators_alone() {
    let api = start().await;
    let mut session = Session::new(api.access.clone());
    let Reply::Text { text: token } = session.user_token("alice", 1).await.expect("a token") else { panic!("a token") };
    let asked = api.asked().len();
    let limit = Duration::from_secs(5);
    let mut connection = api.connect().await;
    for (token, status) in [(token.as_str(), 403), ("wrong", 401), ("", 401)] {
        let body = || "{\"user\":\"alice\",\"seconds\":5}".into();
        let started = connection.post("/api/v1/traces", token, body(), limit).await.expect("an answer");
        assert_eq!(started.0, status, "not even of oneself");
        assert_eq!(connection.get("/api/v1/traces/7", token, limit).await.expect("an answer").0, status);
        assert_eq!(connection.delete("/api/v1/traces/7", token, limit).await.expect("an answer").0, status);
    }
    let token = &api.access.token;
    for body in ["{}", "{\"user\":7}", "{\"user\":\"alice\",\"seconds\":\"long\"}"] {
        let (status, _) = connection.post("/api/v1/traces", token, body.into(), limit).await.expect("an answer");
        assert_eq!(status, 400, "{body}");
    }
    for path in ["/api/v1/traces/seven", "/api/v1/traces/7?after=x"] {
        assert_eq!(connection.get(path, token, limit).await.expect("an answer").0, 400, "{path}");
    }
    let mut client = TraceClient::new(api.access.clone(), api.address.clone());
    let started = client.start("alice", 5).await.expect("an answer");
    assert!(matches!(started.answer, TraceAnswer::Started { id: 7, .. }) && started.asked_us <= started.got_us);
    let Err(CallError::Refused(problem)) = client.read(7, 0).await else { panic!("the script knows no messages") };
    assert_eq!((problem.status, problem.kind.as_str()), (404, "no-such-trace"));
    assert_eq!(client.stop(7).await.expect("an answer").answer, TraceAnswer::Stopped);
    assert_eq!(api.asked().len(), asked, "the node never hears of traces");
    api.stop.send_replace(true);
}

#[test]
fn every_counter_and_histogram_is_explained() {
    let named = |name: &str| (name.to_owned(), vec![], 1.0);
    let samples = vec![named("pairline_udp_received_total"), named("pairline_register_new_total"), named("pairline_z")];
    let text = render(&StatusView { samples, ..StatusView::default() });
    for line in [
        "# HELP pairline_udp_received_total Datagrams received.\n# TYPE pairline_udp_received_total counter\n",
        "# HELP pairline_register_new_total A REGISTER that made a new binding.\n",
        "# HELP pairline_healthy 1 if",
        "# TYPE pairline_z gauge\npairline_z 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
