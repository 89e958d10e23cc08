//! The mirror: packets on their way to a collector, on a thread of its own.
//!
//! Owns socket, queue and what happens when the collector is slow or away: packets are dropped and counted, nobody waits. Does not
//! own what a packet looks like (`hep`).

use crossbeam_channel as channel;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Packets that may wait.
const QUEUE: usize = 4 * 1024;
/// Their bytes, at most: each is a datagram or less.
const QUEUE_BYTES: u64 = 16 * 1024 * 1024;
/// How long connecting, and then each write, may take.
const STALL: Duration = Duration::from_secs(2);
/// How long no connection is tried after one failed.
const PAUSE: Duration = Duration::from_secs(5);

/// What became of packets.
#[derive(Debug, Default)]
pub struct Counts {
    /// Handed to the system.
    pub sent: AtomicU64,
    /// The system refused, or the collector is away.
    pub failed: AtomicU64,
    /// No room in the queue.
    pub dropped: AtomicU64,
    waiting: AtomicU64,
}

/// The sending side; the thread ends with it.
pub struct Mirror {
    queue: channel::Sender<Vec<u8>>,
    counts: Arc<Counts>,
}

/// The thread's side.
pub struct Sending {
    queue: channel::Receiver<Vec<u8>>,
    counts: Arc<Counts>,
    way: Way,
}

enum Way {
    Datagrams(UdpSocket),
    Stream { collector: SocketAddr, open: Option<TcpStream>, failed: Option<Instant> },
}

/// A mirror to a collector, over UDP or over a TCP connection that is made when there is something to send.
///
/// # Errors
/// The system gives no socket.
pub fn mirror(collector: SocketAddr, tcp: bool, counts: Arc<Counts>) -> io::Result<(Mirror, Sending)> {
    let way = if tcp {
        Way::Stream { collector, open: None, failed: None }
    } else {
        let any = if collector.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(collector)?;
        socket.set_nonblocking(true)?;
        Way::Datagrams(socket)
    };
    let (sender, receiver) = channel::bounded(QUEUE);
    Ok((Mirror { queue: sender, counts: counts.clone() }, Sending { queue: receiver, counts, way }))
}

impl Mirror {
    /// Queues one packet, or drops it.
    pub fn send(&self, packet: Vec<u8>) {
        let length = u64::try_from(packet.len()).unwrap_or(u64::MAX);
        let room = self.counts.waiting.load(Ordering::Relaxed).saturating_add(length) <= QUEUE_BYTES;
        self.counts.waiting.fetch_add(length, Ordering::Relaxed);
        if !room || self.queue.try_send(packet).is_err() {
            self.counts.waiting.fetch_sub(length, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Sending {
    /// Sends until the mirror is gone. Runs on a thread of its own.
    pub fn run(mut self) {
        while let Ok(packet) = self.queue.recv() {
            let length = u64::try_from(packet.len()).unwrap_or(u64::MAX);
            self.counts.waiting.fetch_sub(length, Ordering::Relaxed);
            let done = self.way.send(&packet);
            let count = if done.is_ok() { &self.counts.sent } else { &self.counts.failed };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Way {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        match self {
            Way::Datagrams(socket) => match socket.send(packet) {
                // The report of an earlier packet's fate: this one was not sent yet.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(packet).map(|_| ()),
                sent => sent.map(|_| ()),
            },
            Way::Stream { collector, open, failed } => {
                if failed.is_some_and(|since| since.elapsed() < PAUSE) {
                    return Err(io::ErrorKind::NotConnected.into());
                }
                let done = write(*collector, open, packet);
                *failed = done.is_err().then(Instant::now);
                if done.is_err() {
                    *open = None;
                }
                done
            }
        }
    }
}

fn write(collector: SocketAddr, open: &mut Option<TcpStream>, packet: &[u8]) -> io::Result<()> {
    let stream = match open {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&collector, STALL)?;
            stream.set_write_timeout(Some(STALL))?;
            stream.set_nodelay(true)?;
            open.insert(stream)
        }
    };
    stream.write_all(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_nobody_empties_drops_and_counts() {
        let counts = Arc::new(Counts::default());
        let (mirror, sending) = mirror("127.0.0.1:9".parse().unwrap(), true, counts.clone()).unwrap();
        (0..QUEUE + 5).for_each(|_| mirror.send(vec![0; 10]));
        assert_eq!(counts.dropped.load(Ordering::Relaxed), 5);
        drop(sending);
        mirror.send(vec![0; 10]);
        assert_eq!(counts.dropped.load(Ordering::Relaxed), 6);
    }
}
