//! Where to send a request whose next hop is a name: RFC 3263, our own names first, then the system's resolvers.
//!
//! Owns asking and the bound of two seconds. The choice among answers is `pairline_sip`'s.

use super::cache::Cache;
use super::client;
use super::zone::ZoneView;
use crate::net::peer_names::PeerNames;
use hickory_proto::op::ResponseCode;
use pairline_node::io::ResolveFailed;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::target::{Answers, Locator, Question, Step};
use pairline_sip::uri::{Host, Uri};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Time for one whole location.
const BOUND: Duration = Duration::from_secs(2);

/// One of our listeners, from which a message can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its index in the configuration.
    pub listener: u16,
    /// Its transport.
    pub transport: Transport,
    /// Whether it is of IPv4.
    pub v4: bool,
}

/// The resolver.
#[derive(Clone)]
pub struct Resolver {
    zone: ZoneView,
    servers: Arc<[SocketAddr]>,
    outgoing: Arc<[Outgoing]>,
    cache: Arc<Cache>,
    names: PeerNames,
}

impl Resolver {
    /// Asks the zone for its own names and those resolvers for all others; sends from those listeners, and over TLS only to
    /// who proves the name that was located.
    pub fn new(zone: ZoneView, servers: Vec<SocketAddr>, outgoing: Vec<Outgoing>, names: PeerNames) -> Resolver {
        Resolver { zone, servers: servers.into(), outgoing: outgoing.into(), cache: Arc::default(), names }
    }

    /// Flows to try for a SIP or SIPS URI, in order; empty if there is no way to it.
    ///
    /// # Errors
    /// [`ResolveFailed`] when the resolvers did not answer in time.
    pub async fn locate(&self, uri: &[u8]) -> Result<Vec<Flow>, ResolveFailed> {
        tokio::time::timeout(BOUND, self.locate_unbounded(uri)).await.unwrap_or(Err(ResolveFailed))
    }

    async fn locate_unbounded(&self, uri: &[u8]) -> Result<Vec<Flow>, ResolveFailed> {
        let Ok(uri) = Uri::parse(uri) else { return Ok(Vec::new()) };
        let mut supported: Vec<Transport> = Vec::new();
        for outgoing in self.outgoing.iter() {
            if !supported.contains(&outgoing.transport) {
                supported.push(outgoing.transport);
            }
        }
        let (mut locator, mut step) = Locator::start_with(&uri, &supported);
        let mut unanswered = false;
        loop {
            match step {
                Step::Done(targets) => {
                    let flows = targets.iter().filter_map(|t| self.flow(t.transport, t.addr, &uri.host));
                    return Ok(flows.collect());
                }
                Step::Failed => return if unanswered { Err(ResolveFailed) } else { Ok(Vec::new()) },
                Step::Ask(question) => {
                    let answers = match self.ask(&question).await {
                        Ok(answers) => answers,
                        Err(_) => {
                            unanswered = true;
                            Answers::Missing
                        }
                    };
                    let random = crate::tls::random_u64().map_err(|_| ResolveFailed)?;
                    step = locator.answer(answers, random);
                }
            }
        }
    }

    /// RFC 5922 §4: who is there must be the host that the URI names, whatever names the look-ups led over.
    fn flow(&self, transport: Transport, remote: SocketAddr, host: &Host<'_>) -> Option<Flow> {
        let fits = |o: &&Outgoing| o.transport == transport && o.v4 == remote.is_ipv4();
        let outgoing = self.outgoing.iter().find(fits)?;
        let connection = match host {
            Host::Name(name) if transport == Transport::Tls => self.names.number(&String::from_utf8_lossy(name)),
            _ => 0,
        };
        Some(Flow { transport, listener: outgoing.listener, remote, connection })
    }

    async fn ask(&self, question: &Question) -> Result<Answers, client::AskError> {
        let found = self.zone.now().find(&question.name, client::record_type(question.kind));
        if found.code != ResponseCode::Refused {
            let data: Vec<_> = found.answers.iter().map(hickory_proto::rr::Record::data).collect();
            return Ok(client::from_data(&data, question.kind));
        }
        if let Some(kept) = self.cache.get(&question.name, question.kind) {
            return Ok(kept);
        }
        let (answers, ttl) = client::ask(&self.servers, &question.name, question.kind).await?;
        self.cache.put(&question.name, question.kind, &answers, ttl);
        Ok(answers)
    }
}
