//! The virtual network: the link between two sites, with delay, cuts in one or both directions, and breaks.
//!
//! Owns connections and frames under way. A link is a stream: frames on one connection keep their order; a break loses what
//! is under way, and a cut that lasts breaks the connection on each side when that side notices.

use bytes::Bytes;
use pairline_group::LinkId;
use std::collections::VecDeque;

/// Milliseconds of silence after which a side gives its connection up.
pub const GIVE_UP_MS: u64 = 1_500;

/// One direction between the two sites.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    /// Nothing passes while set.
    pub cut: bool,
    /// One-way delay in milliseconds.
    pub delay: u64,
    /// Frames under way: (arrival, connection of the receiver, frame).
    pub under_way: VecDeque<(u64, LinkId, Bytes)>,
    /// Since when nothing could pass.
    pub cut_since: Option<u64>,
}

/// State of the one connection between the sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its id on each side; `None` where that side has given it up or its server is down.
    pub ends: [Option<LinkId>; 2],
}

/// The network between site 0 and site 1.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// `directions[0]` carries frames from site 0 to site 1.
    pub directions: [Direction; 2],
    /// The connection, if one is there.
    pub connection: Option<Connection>,
    next_link: u64,
    /// When the next try to connect is due.
    pub retry_at: u64,
}

impl Network {
    /// A healthy network with this one-way delay.
    pub fn new(delay: u64) -> Network {
        let mut network = Network::default();
        for direction in &mut network.directions {
            direction.delay = delay;
        }
        network
    }

    /// Cuts or heals a direction.
    pub fn set_cut(&mut self, from: usize, cut: bool, now: u64) {
        let direction = &mut self.directions[from];
        direction.cut = cut;
        direction.cut_since = cut.then_some(now);
    }

    /// Whether both directions pass.
    pub fn whole(&self) -> bool {
        !self.directions[0].cut && !self.directions[1].cut
    }

    /// Breaks the connection for the ends given; what is under way is lost when both ends are gone.
    pub fn drop_end(&mut self, site: usize) -> Option<LinkId> {
        let connection = self.connection.as_mut()?;
        let end = connection.ends[site].take();
        self.directions[1 - site].under_way.clear();
        if connection.ends == [None, None] {
            self.connection = None;
            self.directions[0].under_way.clear();
            self.directions[1].under_way.clear();
        }
        end
    }

    /// Makes a new connection; both directions must pass and no old one may be left.
    pub fn connect(&mut self) -> Option<[LinkId; 2]> {
        if self.connection.is_some() || !self.whole() {
            return None;
        }
        self.next_link += 2;
        let ends = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        self.connection = Some(Connection { ends: [Some(ends[0]), Some(ends[1])] });
        Some(ends)
    }

    /// A site sends a frame on its end of a connection; frames on an end that is gone are lost.
    pub fn send(&mut self, from: usize, on: LinkId, frame: Bytes, now: u64) {
        let Some(connection) = self.connection else { return };
        if connection.ends[from] != Some(on) {
            return;
        }
        let Some(to) = connection.ends[1 - from] else { return };
        let direction = &mut self.directions[from];
        let last = direction.under_way.back().map_or(0, |(at, _, _)| *at);
        let at = (now + direction.delay).max(last);
        direction.under_way.push_back((at, to, frame));
    }

    /// When the next frame arrives, over both directions that pass.
    pub fn next_arrival(&self) -> Option<u64> {
        let front = |direction: &Direction| {
            if direction.cut { None } else { direction.under_way.front().map(|(at, _, _)| *at) }
        };
        self.directions.iter().filter_map(front).min()
    }

    /// Takes one frame that has arrived by `now`: (receiving site, its connection, frame).
    pub fn arrived(&mut self, now: u64) -> Option<(usize, LinkId, Bytes)> {
        for from in 0..2 {
            let direction = &mut self.directions[from];
            if !direction.cut && direction.under_way.front().is_some_and(|(at, _, _)| *at <= now) {
                let (_, link, frame) = direction.under_way.pop_front()?;
                return Some((1 - from, link, frame));
            }
        }
        None
    }
}
