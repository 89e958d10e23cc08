//! The node's thread at the sockets: before a turn it takes what datagrams have come, so that no other thread is woken for them.
//!
//! Owns how much is taken. Does not own how (`net::udp`), nor who waits for datagrams while the node has no turns.

use crate::net::mmsg::BATCH;
use crate::net::udp::{Reception, UdpListeners};
use std::sync::Arc;

/// All sockets that receive datagrams, and what that takes.
pub struct Receives {
    /// The sockets.
    pub listeners: Arc<UdpListeners>,
    /// Where it goes.
    pub reception: Reception,
}

impl Receives {
    /// Takes what has come, of each socket as much as makes `enough` and a batch at most: more waits where it is until this is handled.
    pub fn take(&self, enough: usize) {
        for listener in self.listeners.iter() {
            let mut taken = 0;
            while taken < enough {
                // The node has not ended: this is its thread.
                match listener.tend(&self.reception) {
                    Ok(few) if few < BATCH => break,
                    Ok(many) => taken += many,
                    Err(_) => return,
                }
            }
        }
    }

    /// The node rests, and what comes now wakes it.
    pub fn hand_back(&self) {
        self.listeners.iter().for_each(|listener| listener.hand_back());
    }
}
