//! One UDP listener: its socket, receiving, and sending in batches.
//!
//! Owns the socket, and who receives from it: the node's thread, while it has turns, takes what has come before each of them; a thread of the
//! listener's waits while the node does not, and looks each millisecond while it is long at something. Does not own what is done with
//! messages; the node's input drops and counts them when it is full.

use super::door::Door;
use super::mmsg::{self, BATCH, ReceiveBuffers};
use crate::dns::ZoneView;
use crate::shell::counters::{Counters, add, count};
use crate::shell::inbox::{Ended, Inbox};
use crate::shell::lanes::{Lane, Place, Sorted};
use bytes::Bytes;
use pairline_sip::flow::Flow;
use pairline_sip::stun;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Kernel buffers in each direction.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;
/// How long a receive waits before it looks whether to stop.
const WAIT: Duration = Duration::from_millis(250);
/// Where datagrams came so soon after each other, or while the node is under load, they are left to the system, and to the node, for a while
/// after some were taken: they come in fewer, larger batches, and one wake-up serves them all. A wake-up from another core costs as much as a
/// datagram, more in a virtual machine.
const LINGER: Duration = Duration::from_millis(1);
/// The same while the node takes what comes, unless it rests before.
const LONGEST: Duration = Duration::from_millis(2);
const OFTEN: Duration = Duration::from_millis(2);
/// Shorter datagrams cannot be SIP: keep-alives, which need no answer on UDP.
const SHORTEST: usize = 16;

/// What whoever receives needs beside the socket.
#[derive(Clone)]
pub struct Reception {
    /// Where messages go.
    pub inbox: Inbox,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What is an emergency call.
    pub zone: ZoneView,
}

/// What one who receives at a time needs for it.
struct Intake {
    buffers: ReceiveBuffers,
    door: Door,
}

impl Default for Intake {
    fn default() -> Intake {
        Intake { buffers: ReceiveBuffers::default(), door: Door::new(Instant::now()) }
    }
}

/// One bound socket.
pub struct UdpListener {
    socket: UdpSocket,
    listener: u16,
    /// Made by who receives first.
    intake: Mutex<Option<Box<Intake>>>,
    /// The thread that waits while the node does not, and whether it leaves what comes to the node for a while.
    waiter: OnceLock<Thread>,
    away: AtomicBool,
    /// Whether the node has taken what had come since then, and has not rested.
    tended: AtomicBool,
}

impl UdpListener {
    /// Binds; `listener` is its index in the configuration.
    ///
    /// # Errors
    /// The system's: address in use, not ours, not allowed.
    pub fn bind(listener: u16, address: SocketAddr) -> io::Result<UdpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        // Larger buffers are a wish: the system may cap them, and a smaller one still works.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.set_read_timeout(Some(WAIT))?;
        Ok(UdpListener {
            socket: socket.into(),
            listener,
            intake: Mutex::default(),
            waiter: OnceLock::new(),
            away: AtomicBool::new(false),
            tended: AtomicBool::new(false),
        })
    }

    /// Its index in the configuration.
    pub fn listener(&self) -> u16 {
        self.listener
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Receives until `stop` is set or the node has ended, whenever the node does not ([`take`](Self::take)). Runs on a thread of its own.
    pub fn receive_until(&self, stop: &AtomicBool, reception: &Reception) {
        // A second call finds it set; there is none.
        let _ = self.waiter.set(std::thread::current());
        let mut before: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            // Time-outs, signals, and late ICMP errors of earlier sends: none ends the listener.
            match self.socket.peek_from(&mut [0]) {
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
            }
            let now = Instant::now();
            let Ok(taken) = self.take(reception) else { return };
            if taken > 0 {
                reception.inbox.wake_for_client();
            }
            // What was there and is not any more, the node has taken, or is about to.
            let often = taken == 0 || before.is_some_and(|before| now - before < OFTEN);
            before = Some(now);
            // More than a batch is there: the system's buffer is small, and whatever does not fit into it is lost, whatever it is.
            if taken < BATCH && (often || reception.inbox.is_resting()) {
                self.leave_to_the_node();
            }
        }
    }

    /// Waits a little, and longer for as long as the node takes what comes meanwhile.
    fn leave_to_the_node(&self) {
        let mut linger = LINGER;
        loop {
            self.tended.store(false, Ordering::Relaxed);
            self.away.store(true, Ordering::Relaxed);
            std::thread::park_timeout(linger);
            self.away.store(false, Ordering::Relaxed);
            if !self.tended.load(Ordering::Relaxed) {
                return;
            }
            linger = (linger * 2).min(LONGEST);
        }
    }

    /// As [`take`](Self::take), by the node, which does so before each of its turns while it is not behind.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn tend(&self, reception: &Reception) -> Result<usize, Ended> {
        let taken = self.take(reception)?;
        self.tended.store(taken < BATCH, Ordering::Relaxed);
        Ok(taken)
    }

    /// The node rests: what comes now is for the thread that waits.
    pub fn hand_back(&self) {
        self.tended.store(false, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed)
            && let Some(waiter) = self.waiter.get()
        {
            waiter.unpark();
        }
    }

    /// Takes what has come, as far as it fits into a batch, and gives how many datagrams; none if another thread is about it. Never waits,
    /// and does not wake the node.
    ///
    /// # Errors
    /// [`Ended`].
    fn take(&self, reception: &Reception) -> Result<usize, Ended> {
        let Ok(mut intake) = self.intake.try_lock() else { return Ok(0) };
        let Intake { buffers, door } = &mut **intake.get_or_insert_with(Box::default);
        let Reception { inbox, counters, zone } = reception;
        door.begin(Instant::now());
        let mut batch = Sorted::default();
        let (mut short, mut shed) = (0, 0);
        let topology = zone.topology();
        let emergency = &topology.policies.emergency.route;
        let mut answers = Vec::new();
        let received = mmsg::receive(self.socket.as_fd(), buffers, |from, data| {
            if data.len() < SHORTEST {
                short += 1;
            } else if stun::is_stun(data) {
                answers.extend(stun::answer(data, from).map(|answer| (from, answer)));
            } else {
                match inbox.place(data, emergency, || door.let_fall(from, data)) {
                    Place::In(lane) => {
                        if lane == Lane::Calls {
                            door.comes(from, data);
                        }
                        batch[lane as usize].push((Flow::udp(self.listener, from), Bytes::copy_from_slice(data)));
                    }
                    Place::Out => {
                        door.lets_fall(from, data);
                        shed += 1;
                    }
                    Place::Nowhere => {}
                }
            }
        });
        // Nothing is there, or a late error of an earlier send.
        let Ok(received) = received else { return Ok(0) };
        add(&counters.udp_received, received);
        add(&counters.udp_ignored, short);
        add(&counters.udp_shed, shed);
        add(&counters.stun_answered, answers.len());
        // Who cannot be reached does not hear that it is.
        let _ = self.send_all(&mut answers, counters);
        if batch.iter().any(|lane| !lane.is_empty()) {
            let [_, calls, rest, again] = inbox.datagrams(batch)?;
            rest.iter().chain(&again).for_each(|(flow, request)| door.lets_fall(flow.remote, request));
            let refusals = calls.into_iter().filter_map(|(flow, call)| door.turns_back(flow, &call));
            // Who cannot be reached does not hear it.
            let _ = self.send_all(&mut refusals.collect(), counters);
        }
        Ok(received)
    }

    /// Sends all of `batch` and empties it. Returns the destinations that the system refused (no route, not allowed). One
    /// datagram that is too large says nothing of its destination: it is dropped and counted, and so is the rest when the
    /// system's buffer is full, as a network would.
    pub fn send_all(&self, batch: &mut Vec<(SocketAddr, Bytes)>, counters: &Counters) -> Vec<SocketAddr> {
        let mut refused = Vec::new();
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            match mmsg::send(self.socket.as_fd(), rest) {
                Ok(0) => break,
                Ok(n) => {
                    add(&counters.udp_sent, n);
                    rest = &rest[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    add(&counters.udp_send_failed, rest.len());
                    break;
                }
                // The report of an earlier datagram's ICMP error: the one at hand was not sent and may be tried.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(e) => {
                    count(&counters.udp_send_failed);
                    if e.raw_os_error() != Some(libc::EMSGSIZE) {
                        refused.push(rest[0].0);
                    }
                    rest = &rest[1..];
                }
            }
        }
        batch.clear();
        refused
    }
}

/// All UDP listeners of a server, by index.
#[derive(Default)]
pub struct UdpListeners(Vec<Arc<UdpListener>>);

impl UdpListeners {
    /// From bound listeners.
    pub fn new(listeners: Vec<Arc<UdpListener>>) -> UdpListeners {
        UdpListeners(listeners)
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<UdpListener>> {
        self.0.iter()
    }

    /// The one with this index, or else the first of the same address family: a message is better sent from another of
    /// our addresses than not at all.
    pub fn for_flow(&self, flow: &Flow) -> Option<&Arc<UdpListener>> {
        self.0.iter().find(|l| l.listener == flow.listener).or_else(|| {
            let v4 = flow.remote.is_ipv4();
            self.0.iter().find(|l| l.local_address().is_ok_and(|a| a.is_ipv4() == v4))
        })
    }
}

#[cfg(test)]
mod tests {
    //! Whoever takes datagrams, the node or the thread that waits while it does not: each comes once, and none is left.

    use super::*;
    use crate::shell::inbox::{Outlet, inbox};
    use crate::shell::lanes::Lane;
    use std::collections::BTreeSet;

    fn listener() -> (Arc<UdpListener>, Reception, Outlet) {
        let listener = UdpListener::bind(0, "127.0.0.1:0".parse().unwrap()).unwrap();
        let counters = Arc::<Counters>::default();
        let (inbox, outlet) = inbox(counters.clone());
        outlet.bind_thread();
        let zone = ZoneView::new(Arc::new(pairline_topology::demo_topology()));
        (Arc::new(listener), Reception { inbox, counters, zone }, outlet)
    }

    /// A client that sends requests with these numbers, which are there when it has.
    fn send(client: &UdpSocket, to: &UdpListener, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let text = format!("OPTIONS sip:{number} SIP/2.0\r\n\r\n");
            client.send_to(text.as_bytes(), to.local_address().unwrap()).unwrap();
        }
    }

    fn client() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    /// The numbers of what the node has been given.
    fn given(outlet: &mut Outlet) -> Vec<usize> {
        let batches = std::iter::from_fn(|| outlet.datagrams(Lane::Rest));
        let number = |message: &[u8]| {
            let text = std::str::from_utf8(message).unwrap();
            text.split([':', ' ']).nth(2).unwrap().parse().unwrap()
        };
        batches
            .flat_map(|(_, batch)| batch.into_iter().map(|(_, message)| number(&message)).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn the_node_takes_a_batch_of_what_is_there_and_never_waits() {
        let (listener, reception, mut outlet) = listener();
        assert_eq!(listener.tend(&reception), Ok(0));
        send(&client(), &listener, 0..BATCH + 5);
        assert_eq!([(); 3].map(|()| listener.tend(&reception).unwrap()), [BATCH, 5, 0]);
        assert_eq!(given(&mut outlet), (0..BATCH + 5).collect::<Vec<_>>());
        let _busy = listener.intake.lock().unwrap();
        send(&client(), &listener, 0..1);
        assert_eq!(listener.tend(&reception), Ok(0), "another thread is about it");
    }

    #[test]
    fn what_the_node_does_not_take_wakes_it() {
        let (listener, reception, mut outlet) = listener();
        let stop = AtomicBool::new(false);
        let (mut seen, mut twice, mut next) = (BTreeSet::new(), Vec::new(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| listener.receive_until(&stop, &reception));
            let client = client();
            for round in 0..200 {
                // One at a time, few and more than a batch; the node takes some of them, and then rests.
                let many = [1, 3, BATCH + 8][round % 3];
                send(&client, &listener, next..next + many);
                next += many;
                if round % 2 == 0 {
                    listener.tend(&reception).unwrap();
                }
                listener.hand_back();
                let until = Instant::now() + Duration::from_secs(20);
                loop {
                    twice.extend(given(&mut outlet).into_iter().filter(|number| !seen.insert(*number)));
                    if seen.len() >= next || Instant::now() > until {
                        break;
                    }
                    std::thread::park_timeout(WAIT);
                }
                // What did not come will not.
                if seen.len() < next {
                    break;
                }
            }
            // Whatever was seen: the other thread has to end.
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!((seen, twice), ((0..next).collect(), Vec::new()));
    }
}
