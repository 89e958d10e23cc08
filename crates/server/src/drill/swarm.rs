//! All simulated users of a drill: started, ordered about, counted.
//!
//! Owns their tasks. Does not own what they do (`agent`).

use super::agent::{Agent, Order, Persona};
use super::board::{Board, Side};
use pairline_sip::Transport;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Orders that may wait at one user.
const ORDERS: usize = 32;

/// Longest wait for the outcome of one ordered request: 64 × T1 for the request, its hold, and as long for the BYE.
const OUTCOME: Duration = Duration::from_secs(70);

/// The swarm.
pub struct Swarm {
    /// Who its members are.
    pub people: Vec<Persona>,
    /// Counts.
    pub board: Arc<Board>,
    orders: Vec<mpsc::Sender<Order>>,
    random: AtomicU64,
    _tasks: JoinSet<()>,
}

impl Swarm {
    /// Starts every user; they sign in spread over `spread` milliseconds.
    pub fn start(people: Vec<Persona>, seed: u64, spread: u64) -> Swarm {
        let board = Arc::new(Board::new(people.len()));
        let mut tasks = JoinSet::new();
        let count = u64::try_from(people.len()).unwrap_or(1).max(1);
        let orders = (1_u64..)
            .zip(&people)
            .map(|(number, who)| {
                let (send, receive) = mpsc::channel(ORDERS);
                let agent =
                    Agent::new(who.clone(), Arc::clone(&board), seed.wrapping_add(number), spread * number / count);
                tasks.spawn(agent.run(receive));
                send
            })
            .collect();
        Swarm { people, board, orders, random: AtomicU64::new(seed | 1), _tasks: tasks }
    }

    /// A number below `below` (at least 1).
    pub fn random(&self, below: usize) -> usize {
        // SplitMix64: any sequence will do, and it needs no lock.
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let below = u64::try_from(below.max(1)).unwrap_or(1);
        usize::try_from((z ^ (z >> 31)) % below).unwrap_or(0)
    }

    /// Two different users that are signed in, if they are found in a few tries.
    pub fn pair(&self) -> Option<(usize, usize)> {
        let one = self.any()?;
        let other = self.any()?;
        (one != other).then_some((one, other))
    }

    fn any(&self) -> Option<usize> {
        (0..16).map(|_| self.random(self.people.len())).find(|user| self.board.side_of(*user).is_some())
    }

    /// Gives an order without waiting; false if the user has too many.
    pub fn order(&self, user: usize, order: Order) -> bool {
        self.orders.get(user).is_some_and(|orders| orders.try_send(order).is_ok())
    }

    /// Has one user call another; how it went.
    pub async fn call(&self, from: usize, to: usize, hold: u64) -> Result<(), String> {
        let (done, outcome) = oneshot::channel();
        let order = Order::Call { callee: to, to: self.aor(to), hold, done: Some(done) };
        self.outcome(from, order, outcome).await
    }

    /// Has one user send another a message; how it went.
    pub async fn message(&self, from: usize, to: usize) -> Result<(), String> {
        let (done, outcome) = oneshot::channel();
        let order = Order::Message { callee: to, to: self.aor(to), done: Some(done) };
        self.outcome(from, order, outcome).await
    }

    /// A user's address of record.
    pub fn aor(&self, user: usize) -> String {
        self.people.get(user).map(Persona::aor).unwrap_or_default()
    }

    async fn outcome(
        &self,
        from: usize,
        order: Order,
        outcome: oneshot::Receiver<Result<(), String>>,
    ) -> Result<(), String> {
        if !self.order(from, order) {
            return Err("the user has too many orders".into());
        }
        match tokio::time::timeout(OUTCOME, outcome).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("dropped".into()),
            Err(_) => Err("no outcome in time".into()),
        }
    }

    /// Numbers of users at home on a side, and on a kind of transport (`Some(true)` = streams, whose loss is noticed).
    pub fn of(&self, home: Side, streams: Option<bool>) -> Vec<usize> {
        self.people
            .iter()
            .filter(|who| {
                who.home == home && streams.is_none_or(|streams| streams == (who.transport != Transport::Udp))
            })
            .map(|who| who.number)
            .collect()
    }

    /// Users that are signed in at one server now.
    pub fn at_server(&self, server: u32) -> Vec<usize> {
        let there = |user: &usize| self.board.at(*user).is_some_and(|at| at.server == server);
        (0..self.people.len()).filter(there).collect()
    }

    /// How many of these users are signed in now, at a side if one is named.
    pub fn signed_in(&self, users: &[usize], at: Option<Side>) -> usize {
        users
            .iter()
            .filter(|user| self.board.side_of(**user).is_some_and(|side| at.is_none_or(|wanted| wanted == side)))
            .count()
    }
}
