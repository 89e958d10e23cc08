//! The way to a deployment: a connection to one of its servers, made anew to the next one when it fails.
//!
//! Owns which server is asked. Does not own the requests.

use super::connection::{Answer, Connection, HttpsError, Target};
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection and the servers that it may go to.
#[derive(Debug)]
pub struct Way {
    targets: Arc<[Target]>,
    at: usize,
    open: Option<Connection>,
    tries: usize,
}

impl Way {
    /// Connects to one of the servers, by its place modulo their number.
    ///
    /// # Errors
    /// The connection or TLS, or there are no servers.
    pub fn new(targets: &Arc<[Target]>, place: usize) -> Result<Self, HttpsError> {
        let at = place % targets.len().max(1);
        let target = targets.get(at).ok_or(HttpsError::Answer("there is no server to ask"))?;
        Ok(Self { targets: Arc::clone(targets), at, open: Some(Connection::open(target)?), tries: 0 })
    }

    /// Asks the present server, and the others after it if there is no answer.
    ///
    /// # Errors
    /// That of the last server, if none answered.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer, HttpsError> {
        self.tries = 0;
        loop {
            self.tries += 1;
            match self.once(method, path, body) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.at = (self.at + 1) % self.targets.len();
                    if self.tries >= self.targets.len() {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn once(&mut self, method: &str, path: &str, body: &str) -> Result<Answer, HttpsError> {
        let target = &self.targets[self.at];
        let mut open = self.open.take().map_or_else(|| Connection::open(target), Ok)?;
        let answer = open.exchange(target, method, path, body)?;
        self.open = Some(open);
        Ok(answer)
    }

    /// The server that was asked last.
    pub fn server(&self) -> SocketAddr {
        self.targets[self.at].server()
    }

    /// How many servers the last request went to.
    pub fn tries(&self) -> usize {
        self.tries
    }
}
