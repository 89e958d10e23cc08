//! Commands, events and the end of a server, with a scripted node.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_group::io::{LogBatch, LogKind, LogRecord};
use pairline_group::{GroupId, PoolId};
use pairline_node::command::{Actor, Command, Reply};
use pairline_node::event::{Event, Level};
use pairline_node::io::{Input, Output};
use pairline_server::shell::{Ended, Next, Server};
use std::sync::mpsc;
use std::time::Duration;
use support::{Deployment, event, scripted, until};

fn administrator() -> Actor {
    Actor::Administrator("test".to_owned())
}

#[tokio::test]
async fn commands_are_answered_each_to_its_own() {
    let deployment = Deployment::new();
    let script = scripted(|_, input| match input {
        Input::Admin { request, command: Command::UserShow { user }, .. } => {
            vec![Output::AdminReply { request, reply: Ok(Reply::Ok { message: user }) }]
        }
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let handle = server.handle();
    let asks = (0..50).map(|n| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.command(administrator(), Command::UserShow { user: format!("u{n}") }).await })
    });
    for (n, ask) in asks.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(ask.await.unwrap(), Ok(Reply::Ok { message: format!("u{n}") }));
    }
    drop(server);
    let problem = handle.command(administrator(), Command::ProcedureList).await.unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (503, "server-stopping"));
}

#[tokio::test]
async fn a_command_without_answer_says_that_its_outcome_is_unknown() {
    let deployment = Deployment::new();
    let server = Server::start_with(deployment.options("east"), scripted(|_, _| vec![])).unwrap();
    let handle = server.handle().with_patience(Duration::from_millis(20));
    let problem = handle.command(administrator(), Command::ProcedureList).await.unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (504, "no-answer"));
    assert!(problem.detail.contains("unknown"), "{problem:?}");
}

#[tokio::test]
async fn events_reach_subscribers_and_a_slow_one_is_told_what_it_missed() {
    let deployment = Deployment::new();
    let script = scripted(|_, input| match input {
        Input::Admin { request, command: Command::UserList { limit, .. }, .. } => (0..limit)
            .map(|n| Output::Event(Event { level: Level::Info, name: "test", text: format!("event {n}") }))
            .chain([Output::AdminReply { request, reply: Ok(Reply::Ok { message: String::new() }) }])
            .collect(),
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let mut events = server.handle().events();
    let handle = server.handle();
    let ask = |limit| handle.command(administrator(), Command::UserList { after: None, limit });
    ask(1).await.unwrap();
    assert_eq!(event(&mut events, "test").await, "event 0");
    ask(5000).await.unwrap();
    let mut missed = 0;
    let last = loop {
        match events.next().await.unwrap() {
            Next::Missed(n) => missed += n,
            Next::Event(e) if e.text == "event 4999" => break e.text.clone(),
            Next::Event(_) => {}
        }
    };
    assert_eq!(last, "event 4999");
    assert!(missed >= 3000, "{missed}");
}

#[test]
fn a_stop_waits_until_the_disk_has_what_was_begun() {
    let deployment = Deployment::new();
    let group = GroupId { pool: PoolId(1), index: 0 };
    let (told_in, told) = mpsc::sync_channel(64);
    let mut last = 0;
    let script = scripted(move |_, input| match input {
        Input::Admin { .. } if last == 0 => (1..=20)
            .map(|n| {
                last = n;
                let payload = bytes::Bytes::from(vec![1; 100_000]);
                let record = LogRecord { group, kind: LogKind::Item, term: 1, index: n, payload };
                Output::Append(LogBatch { batch: n, records: vec![record] })
            })
            .collect(),
        Input::Synced { batch } => {
            let _ = told_in.try_send(batch);
            vec![]
        }
        _ => vec![],
    });
    // The liveness task's question is the command that starts the appends.
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    until(&told, |batch| *batch >= 1);
    assert_eq!(server.stop(), Ended::Stopped);
    let seen: Vec<u64> = told.try_iter().collect();
    assert!(seen.last().is_none_or(|last| *last == 20), "{seen:?}");
    let config = pairline_store::StoreConfig::new(deployment.folder.path().join("east/store"));
    let (_, recovered, report) =
        pairline_store::Store::open(&config, std::sync::Arc::new(pairline_store::RealFiles)).unwrap();
    assert_eq!((recovered[0].log.len(), report.torn_bytes), (20, 0));
}

#[tokio::test]
async fn facts_are_told_at_the_start() {
    let deployment = Deployment::new();
    let (told_in, told) = mpsc::sync_channel(4);
    let script = scripted(move |_, input| {
        if let Input::Facts(facts) = input {
            let _ = told_in.try_send(facts);
        }
        vec![]
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let facts = tokio::task::spawn_blocking(move || until(&told, |_| true)).await.unwrap();
    assert!(facts.disk_total > 0 && facts.disk_free <= facts.disk_total);
    assert!((396..=397).contains(&facts.certificate_days), "{facts:?}");
    assert_eq!(facts.version, env!("CARGO_PKG_VERSION"));
    drop(server);
}
