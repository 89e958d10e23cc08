//! Frozen encodings. A build must read what every earlier build wrote, byte for byte; a change of these files is a change of
//! format and needs a new version byte.

use bytes::Bytes;
use pairline_group::codec::{decode_entry, encode_entry};
use pairline_group::frame::{self, CanaryItem, CopyBody, Frame, FrameError, GroupHello, Hello, LeadBody, MemberBody};
use pairline_group::{
    Body, ChainHash, Class, Effect, Entry, Epoch, GroupId, Handover, Key, Kind, LineageItem, OpId, PoolId, Position,
    Promote, Record, ReplicaBody, ReplicaItem, ReplicaMessage, ServerId, StepRef,
};

const ENTRIES: &str = include_str!("golden/entries.hex");
const FRAMES: &str = include_str!("golden/frames.hex");

fn epoch(number: u64, pool: u16) -> Epoch {
    Epoch { number, granted_by: PoolId(pool) }
}

fn entry(seq: u64, body: Body) -> Entry {
    Entry {
        position: Position { epoch: epoch(3, 2), seq },
        prev: ChainHash([7; 32]),
        time: 1_700_000_000_123,
        op: Some(OpId { session: 0x1234_5678_9abc_def0_1122_3344_5566_7788, counter: 300 }),
        step: Some(StepRef { procedure: 99, step: 4 }),
        body,
    }
}

fn entries() -> Vec<Entry> {
    let key = Key::new("sip:anna@pairline.test", Kind(12), b"item");
    let based_on = Some(Position { epoch: epoch(1, 1), seq: 41 });
    let value = Bytes::from_static(b"\x01value");
    let put = Effect::Put { key: key.clone(), based_on, class: Class::Durable, value: value.clone() };
    let soft =
        Effect::Put { key: key.clone(), based_on: None, class: Class::Soft { expires: 1_700_000_600_000 }, value };
    let delete = Effect::Delete { key: key.clone(), based_on };
    let promote = Promote {
        epoch: epoch(4, 1),
        recovery_point: Position { epoch: epoch(3, 2), seq: 44 },
        soft_extension: 60_000,
        operator: "anna".into(),
        plan: Bytes::from_static(b"plan"),
    };
    vec![
        entry(42, Body::Open { pool: PoolId(1) }),
        entry(43, Body::Effects(vec![put, soft, delete])),
        entry(44, Body::Expire(vec![key])),
        entry(45, Body::Handover(Handover { to: PoolId(2), epoch: epoch(4, 1), digest: [9; 32] })),
        entry(46, Body::Promote(promote)),
    ]
}

fn frames() -> Vec<Frame> {
    let group = GroupId { pool: PoolId(1), index: 31 };
    let position = Position { epoch: epoch(3, 2), seq: 44 };
    let chain = ChainHash([5; 32]);
    let lineage = vec![LineageItem { epoch: epoch(1, 1), first: 1, pool: PoolId(1) }];
    let hello = GroupHello {
        group,
        lineage,
        position,
        chain,
        digest: [6; 32],
        retained_from: 12,
        wants_seed: true,
        credit: 4096,
    };
    let canary = CanaryItem { group, position, chain, digest: [6; 32], time: 77, behind_bytes: 500 };
    vec![
        Frame::Hello(Hello {
            pool: PoolId(1),
            server: ServerId(4),
            incarnation: 2,
            number: 5,
            whole: true,
            ask: false,
            groups: vec![hello],
        }),
        Frame::Entries { group, entries: entries().iter().map(encode_entry).collect() },
        Frame::Ack { group, position, chain, credit: 9 },
        Frame::Pull { group, position, chain },
        Frame::Broken { group, at: position },
        Frame::SeedWant { group, seed: 8, ranges: vec![0, 255] },
        Frame::SeedAck { group, seed: 8, chunks: 3, seq: 44 },
        Frame::SeedEnd { group, seed: 8, position, digest: [6; 32] },
        Frame::Ping { stamp: 1000 },
        Frame::Canary { echo: 1000, wall: 1_700_000_000_000, groups: vec![canary] },
        Frame::VerifyAsk { group },
        Frame::VerifyResult { group, position, equal: false, ranges: vec![17] },
        Frame::Underway { group, position },
    ]
}

/// What servers of one pool say to each other.
fn frames_within() -> Vec<Frame> {
    let group = GroupId { pool: PoolId(1), index: 31 };
    let position = Position { epoch: epoch(3, 2), seq: 44 };
    let replica = |body| {
        let message = ReplicaMessage { from: (4 << 16) | 1, to: (5 << 16) | 2, term: 4, body };
        Frame::Replica { group, message: Box::new(message) }
    };
    let copy = |body| Frame::Copy { group, from: (4 << 16) | 1, to: (5 << 16) | 2, body };
    let key = Key::new("sip:anna@pairline.test", Kind(12), b"item");
    let record = (key, Record { version: position, class: Class::Durable, value: Bytes::from_static(b"\x01value") });
    vec![
        replica(ReplicaBody::Append {
            index: 41,
            log_term: 3,
            commit: 40,
            items: vec![
                ReplicaItem { term: 3, payload: Bytes::from_static(b"\x01\x00") },
                ReplicaItem { term: 4, payload: Bytes::new() },
            ],
        }),
        replica(ReplicaBody::Appended { index: 43, log_term: 2, commit: 40, rejected: true, hint: 39 }),
        replica(ReplicaBody::Heartbeat { commit: 40, context: Bytes::from_static(b"read") }),
        replica(ReplicaBody::HeartbeatAnswer { commit: 40, context: Bytes::from_static(b"read") }),
        replica(ReplicaBody::AskVote {
            pre: true,
            transfer: false,
            index: 43,
            log_term: 4,
            commit: 40,
            commit_term: 3,
        }),
        replica(ReplicaBody::Vote { pre: false, granted: true, commit: 40, commit_term: 3 }),
        replica(ReplicaBody::TimeoutNow),
        replica(ReplicaBody::ReadIndex { context: Bytes::from_static(b"read") }),
        replica(ReplicaBody::ReadIndexAnswer { index: 43, context: Bytes::from_static(b"read") }),
        copy(CopyBody::Begin { copy: 7, meta: Bytes::from_static(b"\x02meta") }),
        copy(CopyBody::Part { copy: 7, part: 1, records: vec![record], last: Some(4) }),
        copy(CopyBody::Have { copy: 7, parts: 2 }),
        Frame::Leads { groups: vec![group, GroupId::CMS] },
        Frame::Lead { group, from: (4 << 16) | 1, to: (5 << 16) | 2, body: LeadBody::Yes },
        Frame::Member { group, body: MemberBody::Ask { replica: (4 << 16) | 1, incarnation: 2, blank: true } },
        Frame::Member { group, body: MemberBody::Gone { replica: (4 << 16) | 1 } },
        Frame::Member { group, body: MemberBody::Old { incarnation: 3 } },
        Frame::Member { group, body: MemberBody::Nothing },
        replica_of_witness(),
        Frame::Survived {
            group,
            replica: (1 << 56) | (4 << 16) | 1,
            lineage: vec![
                LineageItem { epoch: epoch(1, 1), first: 1, pool: PoolId(1) },
                LineageItem { epoch: epoch(2, 1), first: 44, pool: PoolId(1) },
            ],
        },
    ]
}

/// What a leader tells a witness: an item without its content.
fn replica_of_witness() -> Frame {
    let items = vec![ReplicaItem { term: 4, payload: Bytes::from_static(b"\x01\x0a") }];
    let body = ReplicaBody::Append { index: 41, log_term: 3, commit: 40, items };
    let message = ReplicaMessage { from: (4 << 16) | 1, to: (1 << 63) | (6 << 16) | 1, term: 4, body };
    Frame::Replica { group: GroupId { pool: PoolId(1), index: 31 }, message: Box::new(message) }
}

fn all_frames() -> Vec<Frame> {
    frames().into_iter().chain(frames_within()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    (0..line.len() / 2).map(|n| u8::from_str_radix(&line[2 * n..2 * n + 2], 16).expect("hex")).collect()
}

#[test]
fn entries_are_encoded_as_ever() {
    let now: Vec<String> = entries().iter().map(|entry| hex(&encode_entry(entry))).collect();
    assert_eq!(now.join("\n"), ENTRIES.trim(), "\n{}\n", now.join("\n"));
    for (line, entry) in ENTRIES.trim().lines().zip(entries()) {
        assert_eq!(decode_entry(&unhex(line)), Ok(entry));
    }
}

#[test]
fn frames_are_encoded_as_ever() {
    let now: Vec<String> = all_frames().iter().map(|frame| hex(&frame::encode(frame))).collect();
    assert_eq!(now.join("\n"), FRAMES.trim(), "\n{}\n", now.join("\n"));
    for (line, frame) in FRAMES.trim().lines().zip(all_frames()) {
        assert_eq!(frame::decode(&unhex(line)), Ok(frame));
    }
}

#[test]
fn newer_versions_and_trailing_bytes_are_refused() {
    let mut bytes = frame::encode(&Frame::Ping { stamp: 1 }).to_vec();
    bytes.push(0);
    assert!(matches!(frame::decode(&bytes), Err(FrameError::Decode(_))));
    bytes.pop();
    bytes[0] = 2;
    assert!(matches!(frame::decode(&bytes), Err(FrameError::Decode(_))));
    assert!(matches!(frame::decode(&vec![1; frame::MAX_FRAME + 1]), Err(FrameError::TooLarge(_))));
}
