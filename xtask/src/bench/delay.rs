//! A longer way for a link: a TCP proxy that hands on everything after a fixed time.
//!
//! Owns its threads, which end with their connections, and the accepting one with the process. Order is kept; nothing is lost.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Parts of at most 64 KiB on their way; beyond that the sender waits, as with a full window.
const PARTS: usize = 1024;

type Part = (Instant, Vec<u8>);

/// Accepts at one address and hands on to another, each direction after `delay`.
pub(crate) fn start(at: SocketAddr, to: SocketAddr, delay: Duration) -> Result<(), String> {
    let listener = TcpListener::bind(at).map_err(|e| format!("proxy at {at}: {e}"))?;
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // A server that is not there is noticed by the other one, whose connection ends.
            if let Ok(far) = TcpStream::connect(to) {
                let _ = join(&near, &far, delay);
            }
        }
    });
    Ok(())
}

fn join(near: &TcpStream, far: &TcpStream, delay: Duration) -> std::io::Result<()> {
    for (from, to) in [(near, far), (far, near)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        to.set_nodelay(true)?;
        let (tell, parts) = sync_channel(PARTS);
        thread::spawn(move || read(from, &tell, delay));
        thread::spawn(move || write(to, &parts));
    }
    Ok(())
}

fn read(mut from: TcpStream, tell: &SyncSender<Part>, delay: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let part = buffer.get(..count).unwrap_or_default().to_vec();
        if tell.send((Instant::now() + delay, part)).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, parts: &Receiver<Part>) {
    while let Ok((due, part)) = parts.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&part).is_err() {
            break;
        }
    }
    // The other direction learns of the end by its own reads.
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    //! Everything arrives, in order, and not before its time.

    use super::*;

    #[test]
    fn what_is_sent_arrives_later_and_whole() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        start(at, server.local_addr().unwrap(), Duration::from_millis(30)).unwrap();
        let mut client = TcpStream::connect(at).unwrap();
        let began = Instant::now();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        client.write_all(&sent).unwrap();
        let mut accepted = server.accept().unwrap().0;
        let mut first = [0; 1];
        accepted.read_exact(&mut first).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(30));
        client.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        accepted.read_to_end(&mut rest).unwrap();
        assert_eq!([&first[..], &rest].concat(), sent);
    }
}
