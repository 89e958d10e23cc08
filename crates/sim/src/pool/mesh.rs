//! The virtual network of one pool: a connection between each two servers, with delay, cuts by direction, and breaks.
//!
//! Owns connections and frames under way. A connection is a stream: frames keep their order, wait while their direction is cut, and
//! are lost when an end gives the connection up.

use bytes::Bytes;
use pairline_group::LinkId;
use std::collections::{BTreeMap, VecDeque};

/// One direction between two servers.
#[derive(Clone, Debug, Default)]
struct Way {
    cut: bool,
    /// Frames under way: (arrival, connection as the receiver knows it, frame).
    under_way: VecDeque<(u64, LinkId, Bytes)>,
}

/// A connection: its id at each end, the server with the lower number first; `None` where that end has given it up.
type Connection = [Option<LinkId>; 2];

/// The network.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    ways: BTreeMap<(usize, usize), Way>,
    connections: BTreeMap<(usize, usize), Connection>,
    next_link: u64,
}

fn ends(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Mesh {
    /// A healthy network of so many servers, without connections.
    pub fn new(servers: usize) -> Mesh {
        let pairs = (0..servers).flat_map(|a| (0..servers).map(move |b| (a, b))).filter(|(a, b)| a != b);
        Mesh { ways: pairs.map(|pair| (pair, Way::default())).collect(), ..Mesh::default() }
    }

    /// Cuts or heals a direction.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        if let Some(way) = self.ways.get_mut(&(from, to)) {
            way.cut = cut;
        }
    }

    /// Whether a direction is cut.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.ways.get(&(from, to)).is_none_or(|way| way.cut)
    }

    /// Whether both directions pass.
    pub fn whole(&self, a: usize, b: usize) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    /// The end of a connection at a server, if it holds one to that other server.
    pub fn end(&self, at: usize, other: usize) -> Option<LinkId> {
        self.connections.get(&ends(at, other))?[usize::from(at > other)]
    }

    /// Whether some end of a connection between two servers is left.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.connections.contains_key(&ends(a, b))
    }

    /// A new connection: its id for each of the two, in the order given.
    pub fn connect(&mut self, a: usize, b: usize) -> [LinkId; 2] {
        self.next_link += 2;
        let (first, second) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.connections.insert(ends(a, b), [Some(first), Some(second)]);
        if a < b { [first, second] } else { [second, first] }
    }

    /// A server gives its end up: what is on its way to it is lost, and the rest with the other end.
    pub fn drop_end(&mut self, at: usize, other: usize) -> Option<LinkId> {
        let connection = self.connections.get_mut(&ends(at, other))?;
        let end = connection[usize::from(at > other)].take();
        let gone = connection.iter().all(Option::is_none);
        self.clear(other, at);
        if gone {
            self.clear(at, other);
            self.connections.remove(&ends(at, other));
        }
        end
    }

    fn clear(&mut self, from: usize, to: usize) {
        if let Some(way) = self.ways.get_mut(&(from, to)) {
            way.under_way.clear();
        }
    }

    /// The server at the other end of a connection.
    pub fn other_end(&self, at: usize, link: LinkId) -> Option<usize> {
        let found = self.connections.iter().find(|((a, b), connection)| {
            (*a == at && connection[0] == Some(link)) || (*b == at && connection[1] == Some(link))
        });
        found.map(|((a, b), _)| a + b - at)
    }

    /// Sends a frame; gives back whom it goes to and when it arrives. Frames on an end that is gone are lost.
    pub fn send(&mut self, from: usize, link: LinkId, frame: Bytes, arrival: u64) -> Option<(usize, u64)> {
        let to = self.other_end(from, link)?;
        let there = self.end(to, from)?;
        let way = self.ways.get_mut(&(from, to))?;
        let at = way.under_way.back().map_or(arrival, |(last, _, _)| arrival.max(*last));
        way.under_way.push_back((at, there, frame));
        Some((to, at))
    }

    /// Takes what has arrived by `now` in one direction.
    pub fn arrived(&mut self, from: usize, to: usize, now: u64) -> Vec<(LinkId, Bytes)> {
        let Some(way) = self.ways.get_mut(&(from, to)).filter(|way| !way.cut) else { return Vec::new() };
        let mut frames = Vec::new();
        while way.under_way.front().is_some_and(|(at, _, _)| *at <= now) {
            frames.extend(way.under_way.pop_front().map(|(_, link, frame)| (link, frame)));
        }
        frames
    }

    /// Frames on their way to a server.
    pub fn on_the_way_to(&self, to: usize) -> impl Iterator<Item = &Bytes> {
        let ways = self.ways.iter().filter(move |((_, end), _)| *end == to);
        ways.flat_map(|(_, way)| way.under_way.iter().map(|(_, _, frame)| frame))
    }
}
