//! Heartbeats between paired pools: what they carry, their encoding, and the clock offset that they reveal.
//!
//! Owns the frame and the estimate. Missing heartbeats are counted by `mode`; when to send is the shell's timer.

use crate::codec::{self, CodecError};
use crate::mode::Mode;
use bytes::Bytes;
use pairline_group::{Epoch, Millis, PoolId, ServerId};
use serde::{Deserialize, Serialize};

/// Longest encoded heartbeat.
pub const MAX_HEARTBEAT: usize = 4 * 1024;
/// Samples kept by the clock estimate.
const SAMPLES: usize = 8;

/// What a pool says of itself at each heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who.
    pub pool: PoolId,
    /// Its server that speaks.
    pub server: ServerId,
    /// Rises by one from the start of the process.
    pub number: u64,
    /// Its mode as it sees itself.
    pub mode: Mode,
    /// Its mode of the receiver's pool, as it sees that.
    pub mode_of_partner: Mode,
    /// What it serves.
    pub serves: Serves,
    /// Wall clock at sending, milliseconds since 1970.
    pub wall: Millis,
    /// Monotonic clock at sending.
    pub mono: Millis,
    /// The last heartbeat that it heard from the receiver.
    pub echo: Option<Echo>,
    /// Load in thousandths of what it can do.
    pub load_permille: u16,
    /// Free disk in per cent.
    pub free_disk_percent: u8,
    /// Users whose home it is.
    pub users: u32,
    /// Days until its first certificate expires; 0 when expired.
    pub certificate_days: u16,
    /// Release, `major.minor.patch`.
    pub version: Box<str>,
}

/// Summary of the epochs at the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serves {
    /// Groups active here and confirmed.
    pub active: u16,
    /// Groups active here and not confirmed since the restart.
    pub unconfirmed: u16,
    /// Of the active ones, those whose home is the receiver.
    pub of_partner: u16,
    /// Whether the management store is active here.
    pub cms: bool,
    /// Highest epoch of any group here.
    pub highest_epoch: Epoch,
}

/// The receiver's own last heartbeat, sent back: gives round trip and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Its number.
    pub number: u64,
    /// Its wall clock at its sending.
    pub wall: Millis,
    /// Its monotonic clock at its sending.
    pub mono: Millis,
    /// This side's wall clock when it arrived.
    pub arrived_wall: Millis,
    /// Milliseconds that this side held it.
    pub held: Millis,
}

impl Heartbeat {
    /// The bytes on the link.
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Reads bytes from the link.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Heartbeat, CodecError> {
        codec::decode(bytes, MAX_HEARTBEAT)
    }

    /// The echo to put into this side's next heartbeat, which is sent `held` milliseconds after this one arrived.
    pub fn echo(&self, arrived_wall: Millis, held: Millis) -> Echo {
        Echo { number: self.number, wall: self.wall, mono: self.mono, arrived_wall, held }
    }
}

/// Offset of the partner's wall clock, from the sample with the shortest round trip of the last eight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockEstimate {
    samples: Vec<(Millis, i64)>,
    next: usize,
}

impl ClockEstimate {
    /// No sample yet.
    pub fn new() -> ClockEstimate {
        ClockEstimate::default()
    }

    /// Takes a heartbeat that arrived at this monotonic and wall time. The round trip is measured on the monotonic clock,
    /// so a jump of the wall clock shows as an offset, never as a short path.
    pub fn heard(&mut self, heartbeat: &Heartbeat, mono: Millis, wall: Millis) {
        let Some(echo) = heartbeat.echo else { return };
        let Some(away) = mono.checked_sub(echo.mono) else {
            return;
        };
        let Some(round_trip) = away.checked_sub(echo.held) else {
            return;
        };
        // NTP's four times (RFC 5905 §8): ((t1 - t0) + (t2 - t3)) / 2.
        let there = difference(echo.arrived_wall, echo.wall);
        let back = difference(heartbeat.wall, wall);
        let offset = there.saturating_add(back) / 2;
        if self.samples.len() < SAMPLES {
            self.samples.push((round_trip, offset));
        } else {
            self.samples[self.next] = (round_trip, offset);
            self.next = (self.next + 1) % SAMPLES;
        }
    }

    /// Partner's clock minus ours in milliseconds; true within half of [`ClockEstimate::round_trip`].
    pub fn offset(&self) -> Option<i64> {
        self.best().map(|(_, offset)| offset)
    }

    /// Shortest round trip of the samples.
    pub fn round_trip(&self) -> Option<Millis> {
        self.best().map(|(round_trip, _)| round_trip)
    }

    fn best(&self) -> Option<(Millis, i64)> {
        self.samples.iter().min_by_key(|(round_trip, _)| *round_trip).copied()
    }
}

fn difference(a: Millis, b: Millis) -> i64 {
    let signed = |n: Millis| i64::try_from(n).unwrap_or(i64::MAX);
    signed(a).saturating_sub(signed(b))
}
