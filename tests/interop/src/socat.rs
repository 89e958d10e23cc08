//! TLS for programs that have none: `socat` takes their plain connection and makes a TLS connection to the server.
//!
//! Owns the process. It ends the connection of a server whose certificate is not of the deployment's authority and of the SIP domain.

use crate::deployment::{DOMAIN, Deployment};
use crate::program::Program;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// Time for it to listen, and for the handshake.
const SOON: Duration = Duration::from_secs(10);
/// What it says before the address that it listens on, which it chooses itself.
const LISTENING: &str = "listening on AF=2 ";

/// The way of one connection.
pub struct Tunnel {
    program: Program,
    address: SocketAddr,
}

impl Tunnel {
    /// Waits for one plain connection on a free port, for a TLS connection to that server.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn to(pairline: &Deployment, server: SocketAddr) -> Tunnel {
        let authority = pairline.authority();
        let mut command = Command::new("socat");
        // Twice `-d`: what it listens on, and what was agreed on.
        command.args(["-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,nodelay"]);
        command.arg(format!(
            "OPENSSL:{server},cafile={},verify=1,commonname={DOMAIN},snihost={DOMAIN},nodelay",
            authority.display()
        ));
        let program = Program::start("socat", &mut command);
        let line = program.expect_line(0, SOON, LISTENING);
        let shown = line.rsplit_once(LISTENING).map(|(_, address)| address.trim());
        let address = shown.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("socat says no address: {line}"));
        Tunnel { program, address }
    }

    /// Where it takes the plain connection.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// That the connection was made, the server's certificate believed, and TLS agreed on.
    ///
    /// # Panics
    /// If it was not.
    pub fn was_tls(&self) {
        self.program.expect_line(0, SOON, "trusting certificate, commonName matches");
        self.program.expect_line(0, SOON, "SSL proto version used: TLSv1.3");
    }
}
