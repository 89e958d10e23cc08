//! Every socket of a server, bound before anything else is touched, so that a port in use changes nothing.
//!
//! Owns binding. Does not own serving.

use super::options::StartError;
use crate::dns::resolver::Outgoing;
use crate::dns::server::DnsSockets;
use crate::net::tcp::{self, BoundStream};
use crate::net::udp::UdpListener;
use pairline_sip::flow::Transport as SipTransport;
use pairline_topology::{Server, Transport};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

/// The bound sockets.
pub struct Sockets {
    /// SIP over UDP.
    pub udp: Vec<Arc<UdpListener>>,
    /// SIP over TCP, TLS and WebSockets.
    pub streams: Vec<BoundStream>,
    /// Links.
    pub link: TcpListener,
    /// DNS, if this server has one.
    pub dns: Option<DnsSockets>,
    names: Vec<(String, u16)>,
}

fn refused(what: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Bind { what, address, source }
}

impl Sockets {
    /// Binds all of a server's. Listeners are numbered from 1 in the order of the topology; the node counts the same way.
    ///
    /// # Errors
    /// [`StartError::Bind`], [`StartError::TooManyListeners`].
    pub fn bind(server: &Server) -> Result<Sockets, StartError> {
        let link = tcp::listen(server.link).map_err(refused("TCP (links)", server.link))?;
        let dns = server.dns.map(|at| DnsSockets::bind(at).map_err(refused("UDP and TCP (DNS)", at))).transpose()?;
        let mut sockets = Sockets { udp: Vec::new(), streams: Vec::new(), link, dns, names: Vec::new() };
        for (n, listener) in server.listener.iter().enumerate() {
            let index = u16::try_from(n + 1).ok().filter(|i| *i < u16::MAX).ok_or(StartError::TooManyListeners)?;
            let address = listener.address;
            match listener.transport {
                Transport::Udp => {
                    let bound = UdpListener::bind(index, address).map_err(refused("UDP (SIP)", address))?;
                    sockets.udp.push(Arc::new(bound));
                }
                Transport::Tcp => sockets.stream(index, SipTransport::Tcp, "TCP (SIP)", address)?,
                Transport::Tls => sockets.stream(index, SipTransport::Tls, "TCP (SIP over TLS)", address)?,
                Transport::Ws => sockets.stream(index, SipTransport::Ws, "TCP (SIP over WebSocket)", address)?,
                Transport::Wss => {
                    sockets.stream(index, SipTransport::Wss, "TCP (SIP over secure WebSocket)", address)?
                }
            }
            sockets.names.push((listener.id.clone(), index));
        }
        Ok(sockets)
    }

    fn stream(
        &mut self,
        listener: u16,
        transport: SipTransport,
        what: &'static str,
        address: SocketAddr,
    ) -> Result<(), StartError> {
        let socket = tcp::listen(address).map_err(refused(what, address))?;
        self.streams.push(BoundStream { listener, transport, socket });
        Ok(())
    }

    /// Where each is bound: listener ids, `link` and `dns`.
    ///
    /// # Errors
    /// The system's.
    pub fn bound(&self) -> io::Result<Vec<(String, SocketAddr)>> {
        let mut all = vec![("link".to_owned(), self.link.local_addr()?)];
        if let Some(dns) = &self.dns {
            all.push(("dns".to_owned(), dns.local_address()?));
        }
        for (name, index) in &self.names {
            if let Some(udp) = self.udp.iter().find(|l| l.listener() == *index) {
                all.push((name.clone(), udp.local_address()?));
            }
            if let Some(stream) = self.streams.iter().find(|l| l.listener == *index) {
                all.push((name.clone(), stream.socket.local_addr()?));
            }
        }
        Ok(all)
    }

    /// Numbers of all SIP listeners with where they are bound.
    ///
    /// # Errors
    /// The system's.
    pub fn listeners(&self) -> io::Result<BTreeMap<u16, SocketAddr>> {
        let datagrams = self.udp.iter().map(|udp| Ok((udp.listener(), udp.local_address()?)));
        let streams = self.streams.iter().map(|stream| Ok((stream.listener, stream.socket.local_addr()?)));
        datagrams.chain(streams).collect()
    }

    /// From which listeners connections can be made: their numbers and addresses.
    ///
    /// # Errors
    /// The system's.
    pub fn local(&self) -> io::Result<Vec<(u16, IpAddr)>> {
        self.streams.iter().map(|stream| Ok((stream.listener, stream.socket.local_addr()?.ip()))).collect()
    }

    /// From which listeners messages can be sent to whoever is located, for the resolver. Nobody connects to WebSockets.
    ///
    /// # Errors
    /// The system's.
    pub fn outgoing(&self) -> io::Result<Vec<Outgoing>> {
        let mut all = Vec::new();
        for udp in &self.udp {
            let v4 = udp.local_address()?.is_ipv4();
            all.push(Outgoing { listener: udp.listener(), transport: SipTransport::Udp, v4 });
        }
        let makes = |stream: &&BoundStream| matches!(stream.transport, SipTransport::Tcp | SipTransport::Tls);
        for stream in self.streams.iter().filter(makes) {
            let v4 = stream.socket.local_addr()?.is_ipv4();
            all.push(Outgoing { listener: stream.listener, transport: stream.transport, v4 });
        }
        Ok(all)
    }
}
