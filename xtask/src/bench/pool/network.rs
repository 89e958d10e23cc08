//! Where the three Front Ends of a pool stand: each in a network of its own behind a cable that can be pulled, or on loopback where
//! that cannot be had.
//!
//! Owns the addresses, the bridge, the namespaces and their end. Does not own the servers in them.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Front Ends of the pool.
pub(crate) const SERVERS: usize = 3;

/// Last number of the partner's first address.
const PARTNER: usize = 11;

/// Addresses of the Front Ends, and the cables.
#[derive(Debug)]
pub(crate) struct Network {
    number: u32,
    /// Why there are no cables; none if there are.
    why_not: Option<String>,
    /// Namespaces that were made.
    made: Vec<String>,
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("ip: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Network {
    /// On loopback, where no cable can be pulled.
    pub(crate) fn loopback() -> Network {
        Self { number: own(), why_not: Some("the servers stand on loopback".to_owned()), made: Vec::new() }
    }

    /// With a bridge, which has the servers' addresses until [`Network::part`]; on loopback where the system refuses that.
    pub(crate) fn with_cables() -> Network {
        let mut network = Self { number: own(), why_not: None, made: Vec::new() };
        if let Err(error) = network.bridge() {
            // What was made is of no use.
            let _ = ip(&format!("link del {}", network.bridge_name()));
            network.why_not = Some(format!("networks of the servers' own cannot be made here: {error}"));
        }
        network
    }

    fn bridge(&self) -> Result<(), String> {
        let bridge = self.bridge_name();
        ip(&format!("link add {bridge} type bridge"))?;
        // The generators' address first: the others go with the first one, and not the other way round.
        let partner = PARTNER..PARTNER + SERVERS;
        for last in std::iter::once(254).chain(1..=SERVERS).chain(partner) {
            ip(&format!("addr add 198.18.{}.{last}/24 dev {bridge}", self.number))?;
        }
        ip(&format!("link set {bridge} up"))
    }

    fn bridge_name(&self) -> String {
        format!("plb{}", self.number)
    }

    fn cable(&self, server: usize) -> String {
        format!("plv{}-{}", self.number, server + 1)
    }

    fn namespace(&self, server: usize) -> String {
        format!("pairline-bench-{}-{}", self.number, server + 1)
    }

    /// Address of a server, by its place from 0.
    pub(crate) fn address(&self, server: usize) -> String {
        match self.why_not {
            // The network that RFC 2544 sets aside for benchmarks.
            None => format!("198.18.{}.{}", self.number, server + 1),
            Some(_) => format!("127.{}.74.{}", self.number, server + 1),
        }
    }

    /// Address of a server of the partner, which has no cable of its own.
    pub(crate) fn partner(&self, server: usize) -> String {
        match self.why_not {
            None => format!("198.18.{}.{}", self.number, PARTNER + server),
            Some(_) => format!("127.{}.75.{}", self.number, server + 1),
        }
    }

    /// Why no cable can be pulled.
    pub(crate) fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// Gives each server a network of its own, with its address.
    pub(crate) fn part(&mut self) -> Result<(), String> {
        if self.why_not.is_some() {
            return Ok(());
        }
        for server in 0..SERVERS {
            let (space, cable, bridge) = (self.namespace(server), self.cable(server), self.bridge_name());
            let address = self.address(server);
            ip(&format!("addr del {address}/24 dev {bridge}"))?;
            ip(&format!("netns add {space}"))?;
            self.made.push(space.clone());
            ip(&format!("link add {cable} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {cable} master {bridge} up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
        }
        Ok(())
    }

    /// What a server's command line begins with.
    pub(crate) fn prefix(&self, server: usize) -> Vec<String> {
        if self.made.is_empty() {
            return Vec::new();
        }
        ["ip", "netns", "exec", &self.namespace(server)].map(str::to_owned).into()
    }

    /// Pulls a server's cable.
    pub(crate) fn cut(&self, server: usize) -> Result<(), String> {
        ip(&format!("link set {} down", self.cable(server)))
    }

    /// Puts it in again.
    pub(crate) fn heal(&self, server: usize) -> Result<(), String> {
        ip(&format!("link set {} up", self.cable(server)))
    }
}

/// A number of this process's, another one each time, so that neither a demo nor another benchmark is in the way, nor what the system has not
/// yet cleared away of the network before.
fn own() -> u32 {
    static MADE: AtomicU32 = AtomicU32::new(0);
    std::process::id().wrapping_add(MADE.fetch_add(1, Ordering::Relaxed)) % 250 + 1
}

impl Drop for Network {
    fn drop(&mut self) {
        // A cable goes with either of its ends. What stays behind would be in nobody's way but its own.
        for space in &self.made {
            let _ = ip(&format!("netns del {space}"));
        }
        if self.why_not.is_none() {
            let _ = ip(&format!("link del {}", self.bridge_name()));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Names and addresses.

    use super::*;

    #[test]
    fn servers_have_addresses_of_their_own_and_no_prefix_before_they_are_parted() {
        let mut network = Network::loopback();
        network.number = 7;
        assert_eq!((network.address(0), network.partner(2)), ("127.7.74.1".to_owned(), "127.7.75.3".to_owned()));
        assert!(network.prefix(0).is_empty() && network.why_not().is_some());
        assert!(network.part().is_ok() && network.made.is_empty(), "nothing is made on loopback");
        // Names of interfaces are 15 characters at most.
        network.number = 250;
        assert!(network.cable(2).len() <= 15 && network.bridge_name().len() <= 15);
    }
}
