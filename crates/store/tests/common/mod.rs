//! What the tests of the store share: a generator, a trace of log operations, and the model that it is held against.
#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use pairline_group::GroupId;
use pairline_group::entry::{Body, ChainHash, Effect, Entry, OpId, StepRef};
use pairline_group::ids::{Epoch, PoolId, Position};
use pairline_group::io::{LogBatch, LogKind, LogRecord};
use pairline_group::record::{Class, Key, Kind};
use pairline_store::log::RecoveredLog;
use pairline_store::{Log, LogConfig, LogError, LogRecovery, MemoryFiles};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Deterministic numbers.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) ^ (self.0 >> 11)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub fn group(n: u16) -> GroupId {
    GroupId { pool: PoolId(1), index: n }
}

pub fn item(g: GroupId, term: u64, index: u64, payload: &[u8]) -> LogRecord {
    LogRecord { group: g, kind: LogKind::Item, term, index, payload: Bytes::copy_from_slice(payload) }
}

pub fn hard_state(g: GroupId, payload: &[u8]) -> LogRecord {
    LogRecord { group: g, kind: LogKind::HardState, term: 0, index: 0, payload: Bytes::copy_from_slice(payload) }
}

pub fn position(number: u64, pool: u16, seq: u64) -> Position {
    Position { epoch: Epoch { number, granted_by: PoolId(pool) }, seq }
}

/// An entry with something of everything in it.
pub fn entry(seq: u64) -> Entry {
    Entry {
        position: position(1, 1, seq),
        prev: ChainHash([u8::try_from(seq % 256).unwrap(); 32]),
        time: 1_000_000 + seq,
        op: Some(OpId { session: 7, counter: seq }),
        step: Some(StepRef { procedure: 9, step: 2 }),
        body: Body::Effects(vec![
            Effect::Put {
                key: Key::new("alice@pairline.test", Kind(3), b"item"),
                based_on: Some(position(1, 1, seq - 1)),
                class: Class::Soft { expires: 77 },
                value: Bytes::from_static(b"\x01value"),
            },
            Effect::Delete { key: Key::new("bob@pairline.test", Kind(4), b""), based_on: None },
        ]),
    }
}

/// What one group's log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelGroup {
    pub items: BTreeMap<u64, (u64, Bytes)>,
    pub hard_state: Option<Bytes>,
    pub purged: u64,
}

/// What the log holds; groups that hold nothing are left out.
pub type Model = BTreeMap<GroupId, ModelGroup>;

/// One step that changes the model.
#[derive(Clone, Debug)]
pub enum Change {
    Record(LogRecord),
    Purge(GroupId, u64),
    Forget(GroupId),
}

/// One call of the log.
#[derive(Clone, Debug)]
pub enum Call {
    Append(Vec<LogRecord>),
    Purge(GroupId, u64),
    Forget(GroupId),
    Sync,
    Mark,
    Collect,
}

impl Call {
    pub fn changes(&self) -> Vec<Change> {
        match self {
            Call::Append(records) => records.iter().cloned().map(Change::Record).collect(),
            Call::Purge(g, through) => vec![Change::Purge(*g, *through)],
            Call::Forget(g) => vec![Change::Forget(*g)],
            Call::Sync | Call::Mark | Call::Collect => Vec::new(),
        }
    }

    /// True if the call made everything before it durable.
    pub fn run(&self, log: &mut Log, batch: u64) -> Result<bool, LogError> {
        match self {
            Call::Append(records) => log.append(&LogBatch { batch, records: records.clone() }).map(|()| false),
            Call::Purge(g, through) => log.purge(*g, *through).map(|()| false),
            Call::Forget(g) => log.forget(*g).map(|()| false),
            Call::Sync => log.sync().map(|_| true),
            Call::Mark => log.mark().map(|()| false),
            Call::Collect => log.collect().map(|()| true),
        }
    }
}

pub fn apply(model: &mut Model, change: &Change) {
    match change {
        Change::Record(record) => {
            let g = model.entry(record.group).or_default();
            match record.kind {
                LogKind::HardState => g.hard_state = Some(record.payload.clone()),
                LogKind::Item => {
                    g.items.split_off(&record.index);
                    g.items.insert(record.index, (record.term, record.payload.clone()));
                }
            }
        }
        Change::Purge(g, through) => {
            let g = model.entry(*g).or_default();
            g.purged = g.purged.max(*through);
            g.items = g.items.split_off(&(g.purged + 1));
        }
        Change::Forget(g) => {
            model.remove(g);
        }
    }
}

fn append(rng: &mut Rng, model: &Model, groups: u64) -> Call {
    let mut model = model.clone();
    let mut records = Vec::new();
    for _ in 0..=rng.below(4) {
        let g = group(u16::try_from(rng.below(groups)).unwrap());
        let payload: Vec<u8> = (0..rng.below(120)).map(|_| rng.next().to_le_bytes()[0]).collect();
        let known = model.entry(g).or_default();
        let last = known.items.keys().next_back().copied().unwrap_or(known.purged);
        let record = match rng.below(8) {
            0 | 1 => hard_state(g, &payload),
            2 if last > known.purged => item(g, 9, known.purged + 1 + rng.below(last - known.purged), &payload),
            _ => item(g, rng.below(9), last + 1, &payload),
        };
        apply(&mut model, &Change::Record(record.clone()));
        records.push(record);
    }
    Call::Append(records)
}

/// A legal trace of so many calls. The last group is written rarely, so that its data must be rewritten.
pub fn trace(seed: u64, calls: usize) -> Vec<Call> {
    let (mut rng, mut model, mut trace) = (Rng(seed), Model::new(), Vec::new());
    trace.push(Call::Append(vec![item(group(9), 1, 1, b"idle"), hard_state(group(9), b"idle state")]));
    while trace.len() < calls {
        let call = match rng.below(40) {
            0..=19 => append(&mut rng, &model, 4),
            20..=27 => Call::Sync,
            28..=33 => {
                let g = group(u16::try_from(rng.below(4)).unwrap());
                let known = model.get(&g).cloned().unwrap_or_default();
                let last = known.items.keys().next_back().copied().unwrap_or(known.purged);
                Call::Purge(g, known.purged + rng.below(last - known.purged + 2))
            }
            34 if rng.below(8) == 0 => Call::Forget(group(u16::try_from(rng.below(4)).unwrap())),
            34 | 35 => Call::Mark,
            _ => Call::Collect,
        };
        for change in call.changes() {
            apply(&mut model, &change);
        }
        trace.push(call);
    }
    trace
}

/// The models after each change of a trace, the empty one first.
pub fn models(trace: &[Call]) -> Vec<Model> {
    let mut model = Model::new();
    let mut all = vec![model.clone()];
    for change in trace.iter().flat_map(Call::changes) {
        apply(&mut model, &change);
        all.push(model.clone());
    }
    all
}

fn model_group(log: &RecoveredLog) -> ModelGroup {
    let mut g = ModelGroup { purged: log.purged, ..ModelGroup::default() };
    for record in &log.records {
        match record.kind {
            LogKind::HardState => g.hard_state = Some(record.payload.clone()),
            LogKind::Item => {
                assert!(g.items.keys().next_back().is_none_or(|last| last + 1 == record.index), "a hole in the log");
                g.items.insert(record.index, (record.term, record.payload.clone()));
            }
        }
    }
    g
}

/// What a recovery found, as a model.
pub fn recovered(recovery: &LogRecovery) -> Model {
    let found = recovery.groups.iter().map(|(g, log)| (*g, model_group(log)));
    found.filter(|(_, g)| *g != ModelGroup::default()).collect()
}

/// A model without groups that hold nothing.
pub fn trimmed(model: &Model) -> Model {
    model.iter().filter(|(_, g)| **g != ModelGroup::default()).map(|(id, g)| (*id, g.clone())).collect()
}

pub fn tiny() -> LogConfig {
    LogConfig { segment_bytes: 4096, keep_segments: 3, rewrite_bytes: 2048 }
}

pub fn folder() -> PathBuf {
    PathBuf::from("/data/log")
}

pub fn open(files: &MemoryFiles, config: LogConfig) -> (Log, LogRecovery) {
    Log::open(Arc::new(files.clone()), folder(), config).unwrap()
}

pub fn batch(number: u64, records: Vec<LogRecord>) -> LogBatch {
    LogBatch { batch: number, records }
}
