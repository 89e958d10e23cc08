//! Stored and sent encodings of entries and log records: a version byte, then postcard.
//!
//! Owns the bytes of entries, items of the consensus log, hard state and checkpoint meta. Does not own frames (`frame`).

use crate::consensus::{Change, MOST_STEPS, Members, ReplicaId};
use crate::dedup::Dedup;
use crate::digest::RANGES;
use crate::entry::{ChainHash, Entry};
use crate::ids::{Epoch, Millis, PoolId, Position};
use crate::lineage::LineageItem;
use crate::record::{Key, Record};
use crate::state::Steps;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const VERSION: u8 = 1;
const TAG_ENTRY: u8 = 1;
const TAG_SEED_START: u8 = 2;
const TAG_SEED: u8 = 3;
const TAG_SWAP: u8 = 4;
const TAG_SEED_ABORT: u8 = 5;
const TAG_FENCE: u8 = 6;
const TAG_TAIL_STORED: u8 = 7;
const TAG_RESTORED: u8 = 8;
const TAG_CHANGE: u8 = 9;
const TAG_BARE: u8 = 10;
/// Version of a checkpoint's meta; those of version 1 end before `restored`, those of version 2 before `replica`.
const META_VERSION: u8 = 3;
const META_BEFORE: u8 = 2;
/// Version of a hard state that also says whose it is.
const HARD_VERSION: u8 = 2;
/// An element of the consensus log that carries nothing.
const TAG_NOOP: u8 = 0;

/// Largest item that is written or accepted.
pub(crate) const MAX_ITEM: usize = 8 << 20;

/// Why bytes were not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("empty")]
    Empty,
    /// Written by a build that knows more, or not ours.
    #[error("unknown version {0}")]
    Version(u8),
    /// Unknown tag.
    #[error("unknown tag {0}")]
    Tag(u8),
    /// Too large.
    #[error("{0} bytes are more than allowed")]
    TooLarge(usize),
    /// Malformed.
    #[error("malformed: {0}")]
    Malformed(#[from] postcard::Error),
    /// Well-formed, but outside the bounds of its type.
    #[error("out of bounds: {0}")]
    Bounds(&'static str),
}

/// An entry with its bytes and the chain hash that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) entry: Arc<Entry>,
    /// The entry's bytes behind the head of an item: entry and item are encoded once, and share their memory.
    item: Bytes,
    pub(crate) chain: ChainHash,
}

/// What stands before an entry's bytes in an item.
const ENTRY_HEAD: [u8; 2] = [VERSION, TAG_ENTRY];

impl Stored {
    /// Encodes an entry.
    pub(crate) fn new(entry: Entry) -> Stored {
        let mut out = Vec::with_capacity(ENTRY_ROOM + entry.room());
        out.extend_from_slice(&ENTRY_HEAD);
        out.push(VERSION);
        // Writing to memory fails only for types without a known length, and ours have one.
        let item = Bytes::from(postcard::to_extend(&entry, out).expect("replication types serialise into memory"));
        let chain = chain(&entry.prev, &item[ENTRY_HEAD.len()..]);
        Stored { entry: Arc::new(entry), item, chain }
    }

    /// Understands an entry's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Stored, DecodeError> {
        let mut item = Vec::with_capacity(ENTRY_HEAD.len() + bytes.len());
        item.extend_from_slice(&ENTRY_HEAD);
        item.extend_from_slice(bytes);
        Stored::of_item(item.into())
    }

    /// Understands an item that holds an entry.
    pub(crate) fn of_item(item: Bytes) -> Result<Stored, DecodeError> {
        let bytes = item.get(ENTRY_HEAD.len()..).unwrap_or_default();
        if bytes.len() > MAX_ITEM {
            return Err(DecodeError::TooLarge(bytes.len()));
        }
        let entry: Entry = decode(bytes)?;
        let chain = chain(&entry.prev, bytes);
        Ok(Stored { entry: Arc::new(entry), item, chain })
    }

    /// The bytes of the item.
    pub(crate) fn into_item(self) -> Bytes {
        self.item
    }

    /// The entry in an item as it is stored, shipped and hashed.
    pub(crate) fn bytes_in(item: &Bytes) -> Bytes {
        item.slice(ENTRY_HEAD.len().min(item.len())..)
    }

    /// How many bytes these are.
    pub(crate) fn len_in(item: &Bytes) -> usize {
        item.len().saturating_sub(ENTRY_HEAD.len())
    }

    pub(crate) fn seq(&self) -> u64 {
        self.entry.position.seq
    }
}

/// Encodes an entry as it is stored, shipped and hashed.
pub fn encode_entry(entry: &Entry) -> Bytes {
    Bytes::from(encode(entry))
}

/// Understands an entry's bytes.
///
/// # Errors
/// If they are of an unknown version, malformed or more than 8 MiB.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    if bytes.len() > MAX_ITEM {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    decode(bytes)
}

/// The chain hash after an entry.
pub(crate) fn chain(prev: &ChainHash, bytes: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&prev.0);
    hasher.update(bytes);
    ChainHash(*hasher.finalize().as_bytes())
}

/// What a seed begins with: the source's state at one position, without its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedOffer {
    /// The seed's number at its source, rising.
    pub seed: u64,
    /// Where the source stood.
    pub position: Position,
    /// Chain hash there.
    pub chain: ChainHash,
    /// Group time there.
    pub time: Millis,
    /// Lineage there.
    pub lineage: Vec<LineageItem>,
    /// Digest of each of the 256 ranges there.
    pub ranges: Vec<[u8; 32]>,
    /// De-duplication table there.
    pub dedup: Dedup,
    /// Applied steps there.
    pub steps: Steps,
    /// Records there, for progress.
    pub records: u64,
}

impl SeedOffer {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        if self.ranges.len() != RANGES {
            return Err(DecodeError::Bounds("ranges of a seed"));
        }
        if !crate::lineage::sound(&self.lineage) {
            return Err(DecodeError::Bounds("lineage of a seed"));
        }
        // Two bytes more make a log record of it.
        if plain(self).len() + 2 > MAX_ITEM {
            return Err(DecodeError::Bounds("size of a seed's beginning"));
        }
        Ok(())
    }
}

/// A part of a seed: records of the wanted ranges whose keys follow the previous chunk's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedChunk {
    /// Which seed.
    pub seed: u64,
    /// From 0, without gaps.
    pub number: u64,
    /// The records, ordered by key.
    pub records: Vec<(Key, Record)>,
}

/// About what an entry takes without its effects; one that takes more grows.
const ENTRY_ROOM: usize = 72;

/// Most that the fixed parts of a record take in a chunk.
const RECORD_FRAME: usize = 96;

impl SeedChunk {
    /// Whether the chunk and each of its records can be stored.
    pub(crate) fn fits(&self) -> bool {
        fit(&self.records)
    }
}

/// Whether these records can be stored, each and together.
pub(crate) fn fit(records: &[(Key, Record)]) -> bool {
    let size = |(key, record): &(Key, Record)| key.owner.len() + key.item.len() + record.value.len() + RECORD_FRAME;
    records.iter().all(|(key, _)| key.fits()) && records.iter().map(size).sum::<usize>() <= MAX_ITEM - 64
}

/// Makes a shadow copy the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Swap {
    pub(crate) seed: u64,
    pub(crate) position: Position,
    pub(crate) digest: [u8; 32],
}

/// A higher epoch was learned of: the copy must not serve, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fence {
    pub(crate) epoch: Epoch,
    pub(crate) pool: PoolId,
    /// First sequence that is not shared.
    pub(crate) fork: u64,
    /// Whether the entries from there on are stored.
    pub(crate) tail_stored: bool,
}

/// The entries after the fork are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TailMark {
    pub(crate) epoch: Epoch,
    pub(crate) entries: u64,
}

/// The entry in the payload of a log record of kind `Item`, if it holds one: for checkers and tools that read a log.
pub fn entry_in_item(payload: &Bytes) -> Option<Entry> {
    match decode_item(payload) {
        Ok(Item::Entry(stored)) => Some((*stored.entry).clone()),
        _ => None,
    }
}

/// An element of a group's consensus log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Noop,
    Entry(Stored),
    SeedStart(Arc<SeedOffer>),
    Seed(Arc<SeedChunk>),
    Swap(Swap),
    SeedAbort,
    Fence(Fence),
    TailStored(TailMark),
    /// What stood in this log at this index and after it is void: a copy of the state was taken over. Only in the log on disk.
    Restored,
    /// A change of the configuration.
    Change(Change),
    /// An item of which a witness knows only where it stands: what it says is with those that hold data.
    Bare,
}

/// Encodes an item; the bytes are the payload of a log record.
pub(crate) fn encode_item(item: &Item) -> Bytes {
    let framed = |tag: u8, rest: Vec<u8>| {
        let mut out = Vec::with_capacity(rest.len() + 2);
        out.extend_from_slice(&[VERSION, tag]);
        out.extend_from_slice(&rest);
        Bytes::from(out)
    };
    match item {
        Item::Noop => Bytes::from_static(&[VERSION, TAG_NOOP]),
        Item::Entry(stored) => stored.item.clone(),
        Item::SeedStart(offer) => framed(TAG_SEED_START, plain(offer.as_ref())),
        Item::Seed(chunk) => framed(TAG_SEED, plain(chunk.as_ref())),
        Item::Swap(swap) => framed(TAG_SWAP, plain(swap)),
        Item::Restored => Bytes::from_static(&[VERSION, TAG_RESTORED]),
        Item::SeedAbort => Bytes::from_static(&[VERSION, TAG_SEED_ABORT]),
        Item::Change(change) => encode_change(change),
        Item::Bare => bare(),
        Item::Fence(fence) => framed(TAG_FENCE, plain(fence)),
        Item::TailStored(mark) => framed(TAG_TAIL_STORED, plain(mark)),
    }
}

/// Understands an item.
pub(crate) fn decode_item(bytes: &Bytes) -> Result<Item, DecodeError> {
    let (version, tag) = match (bytes.first(), bytes.get(1)) {
        (Some(version), Some(tag)) => (*version, *tag),
        _ => return Err(DecodeError::Empty),
    };
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let rest = bytes.slice(2..);
    Ok(match tag {
        TAG_NOOP => Item::Noop,
        TAG_ENTRY => Item::Entry(Stored::of_item(bytes.clone())?),
        TAG_SEED_START => {
            let offer: SeedOffer = postcard::from_bytes(&rest)?;
            offer.check()?;
            Item::SeedStart(Arc::new(offer))
        }
        TAG_SEED => Item::Seed(Arc::new(postcard::from_bytes(&rest)?)),
        TAG_SWAP => Item::Swap(postcard::from_bytes(&rest)?),
        TAG_SEED_ABORT => Item::SeedAbort,
        TAG_FENCE => Item::Fence(postcard::from_bytes(&rest)?),
        TAG_TAIL_STORED => Item::TailStored(postcard::from_bytes(&rest)?),
        TAG_RESTORED => Item::Restored,
        TAG_BARE => Item::Bare,
        TAG_CHANGE => {
            let change: Change = postcard::from_bytes(&rest)?;
            if change.steps.len() > MOST_STEPS {
                return Err(DecodeError::Bounds("steps of a change"));
            }
            Item::Change(change)
        }
        other => return Err(DecodeError::Tag(other)),
    })
}

/// The bytes of an item that is a change of the configuration.
pub(crate) fn encode_change(change: &Change) -> Bytes {
    [&[VERSION, TAG_CHANGE][..], &plain(change)].concat().into()
}

/// The bytes of an item without its content.
pub(crate) fn bare() -> Bytes {
    Bytes::from_static(&[VERSION, TAG_BARE])
}

/// Whether an item is one without its content.
pub(crate) fn is_bare(item: &[u8]) -> bool {
    item.starts_with(&[VERSION, TAG_BARE])
}

/// Whether an item is a change of the configuration.
pub(crate) fn is_change(item: &[u8]) -> bool {
    item.starts_with(&[VERSION, TAG_CHANGE])
}

/// Consensus hard state as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hard {
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) commit: u64,
}

/// A hard state in the log, with whose it is and what its log began with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HardOf {
    pub(crate) hard: Hard,
    /// 0: the server's first one.
    pub(crate) replica: ReplicaId,
    /// The configuration before the first item of the log; not needed once there is a checkpoint.
    pub(crate) origin: Option<Members>,
}

/// The bytes of a hard state.
pub(crate) fn encode_hard(hard: &HardOf) -> Vec<u8> {
    let mut out = encode(hard);
    out[0] = HARD_VERSION;
    out
}

/// Understands a hard state, of this version or the one before.
pub(crate) fn decode_hard(bytes: &[u8]) -> Result<HardOf, DecodeError> {
    match bytes.split_first() {
        Some((&HARD_VERSION, rest)) => decode(&[&[VERSION], rest].concat()),
        _ => Ok(HardOf { hard: decode(bytes)?, ..HardOf::default() }),
    }
}

/// Everything of a checkpoint but the records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) applied: u64,
    pub(crate) applied_term: u64,
    pub(crate) hard: Hard,
    pub(crate) position: Position,
    pub(crate) chain: ChainHash,
    pub(crate) time: Millis,
    pub(crate) lineage: Vec<LineageItem>,
    pub(crate) dedup: Dedup,
    pub(crate) steps: Steps,
    pub(crate) digest: [u8; 32],
    pub(crate) fence: Option<Fence>,
    pub(crate) tail: u64,
    /// Highest epoch number that this copy ever heard of.
    pub(crate) heard: Epoch,
    /// The state was taken over from another replica: what the log has from before is void, unless the mark that says so is there.
    pub(crate) restored: bool,
    /// Whose it is; 0: the server's first one.
    pub(crate) replica: ReplicaId,
    /// The configuration there; nothing in older ones.
    pub(crate) members: Option<Members>,
}

/// The bytes of a meta.
pub(crate) fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut out = encode(meta);
    out[0] = META_VERSION;
    out
}

/// Understands a meta, of this version or those before.
pub(crate) fn decode_meta(bytes: &[u8]) -> Result<Meta, DecodeError> {
    match bytes.split_first() {
        Some((&META_VERSION, rest)) => decode(&[&[VERSION], rest].concat()),
        // The fields that came since are false, 0 and nothing.
        Some((&META_BEFORE, rest)) => decode(&[&[VERSION], rest, &[0, 0]].concat()),
        Some((&VERSION, _)) => decode(&[bytes, &[0, 0, 0]].concat()),
        Some((version, _)) => Err(DecodeError::Version(*version)),
        None => Err(DecodeError::Empty),
    }
}

/// A version byte, then postcard.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_into(value, Vec::with_capacity(128))
}

/// [`encode`] in a buffer that has had its use.
pub(crate) fn encode_into<T: Serialize>(value: &T, mut out: Vec<u8>) -> Vec<u8> {
    out.clear();
    out.push(VERSION);
    // Writing to memory fails only for types without a known length, and ours have one.
    postcard::to_extend(value, out).expect("replication types serialise into memory")
}

fn plain<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("replication types serialise into memory")
}

/// The inverse of [`encode`].
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    let (value, left) = postcard::take_from_bytes(rest)?;
    if left.is_empty() { Ok(value) } else { Err(DecodeError::Bounds("trailing bytes")) }
}

#[cfg(test)]
mod tests {
    //! What an earlier build wrote is read.

    use super::*;

    #[test]
    fn a_meta_of_the_version_before_is_read_and_a_later_one_is_not() {
        let meta = Meta {
            applied: 90,
            applied_term: 3,
            hard: Hard { term: 4, vote: 5, commit: 90 },
            position: Position::default(),
            chain: ChainHash([7; 32]),
            time: 1_700_000_000_123,
            lineage: Vec::new(),
            dedup: Dedup::default(),
            steps: Steps::default(),
            digest: [9; 32],
            fence: None,
            tail: 2,
            heard: Epoch { number: 3, granted_by: PoolId(2) },
            restored: false,
            replica: 0,
            members: None,
        };
        let bytes = encode_meta(&meta);
        assert_eq!(decode_meta(&bytes), Ok(meta.clone()));
        let mut before = bytes.clone();
        before.truncate(before.len() - 2);
        before[0] = 2;
        assert_eq!(decode_meta(&before), Ok(meta.clone()), "version 2 ends before whose it is");
        before[0] = 1;
        assert_eq!(before.pop(), Some(0), "what version 1 did not have");
        assert_eq!(decode_meta(&before), Ok(meta.clone()));
        let hard = Hard { term: 7, vote: 8, commit: 6 };
        assert_eq!(decode_hard(&encode(&hard)), Ok(HardOf { hard, ..HardOf::default() }), "of the version before");
        let of = HardOf { hard, replica: 65_537, origin: Some(Members::of([65_537])) };
        assert_eq!(decode_hard(&encode_hard(&of)), Ok(of));
        let restored = Meta { restored: true, replica: 9, members: Some(Members::of([9, 65_537])), ..meta };
        assert_eq!(decode_meta(&encode_meta(&restored)), Ok(restored));
        let mut later = bytes;
        later[0] = 4;
        assert_eq!(decode_meta(&later), Err(DecodeError::Version(4)));
        assert_eq!(decode_meta(&[]), Err(DecodeError::Empty));
    }
}
