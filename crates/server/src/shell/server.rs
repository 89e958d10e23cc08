//! The start of a server.
//!
//! Owns the order: check, bind everything, open the store, make the node, serve. Whatever fails, what was begun is undone.

use super::boot;
use super::certificates;
use super::checkpoint;
use super::clock::Clock;
use super::counters::Counters;
use super::events::EventHub;
use super::facts::FactFinder;
use super::handle::{NodeHandle, Waiting};
use super::inbox::{self, Inbox, Outlet};
use super::liveness;
use super::node_like::{MakeNode, NodeLike};
use super::node_loop::NodeLoop;
use super::options::{ServerOptions, StartError};
use super::ports::{Errand, Outgoing, Ports};
use super::receives::Receives;
use super::running::RunningServer;
use super::signals::{Deafens, Ended, Signals, Threads};
use super::sockets::Sockets;
use super::storage::{self, Storage};
use super::upkeep::{self, Upkeep};
use crate::capture::{Capture, CaptureParts, Consumers, Places, Tap};
use crate::dns::{Resolver, ZoneView, client};
use crate::link::Links;
use crate::link::links::LinkSetup;
use crate::net::dial::Dialler;
use crate::net::origins::Origins;
use crate::net::peer_names::PeerNames;
use crate::net::udp::{Reception, UdpListeners};
use crate::net::{Context, Streams, accept};
use crate::tls::reload::Reloader;
use crate::tls::{PeerIdentity, SipTls};
use pairline_group::io::RecoveredGroup;
use pairline_node::Node;
use pairline_node::config::{NodeConfig, SipConfig};
use pairline_node::event::Level;
use pairline_services::push::PushPolicy;
use pairline_sip::uri::Aor;
use pairline_store::{OpenReport, RealFiles, Store, StoreConfig};
use pairline_topology::Topology;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc as std_mpsc};
use tokio::sync::{Notify, mpsc};

/// Errands that may wait for the runtime.
const ERRANDS: usize = 1024;

/// Starts servers.
pub struct Server;

/// What every part of a starting server needs.
struct Parts {
    options: ServerOptions,
    /// With this machine's overrides.
    topology: Topology,
    me: pairline_topology::Server,
    inbox: Inbox,
    counters: Arc<Counters>,
    events: EventHub,
    signals: Arc<Signals>,
    waiting: Arc<Waiting>,
    log_bytes: Arc<AtomicU64>,
    /// Asks for a look at the certificates on disk.
    renew: Arc<Notify>,
}

impl Server {
    /// Starts a server with the real node.
    ///
    /// # Errors
    /// [`StartError`]; everything that was begun is undone by then.
    pub fn start(options: ServerOptions) -> Result<RunningServer, StartError> {
        let (topology, me) = effective(&options)?;
        let data = options.config.data.clone();
        let mut seed = [0_u8; 32];
        crate::tls::fill_random(&mut seed)?;
        let config = NodeConfig { sip: sip_config(&options)?, ..node_config(&options, topology, me.id, seed) };
        let make: MakeNode = Box::new(move |now, recovered| {
            // Taken only here, so that a start that fails before leaves the file as it was.
            let boot = boot::next(&data).map_err(|e| e.to_string())?;
            let node = Node::start_up(NodeConfig { boot, ..config }, now, recovered).map_err(|e| e.to_string())?;
            Ok(Box::new(node) as Box<dyn NodeLike>)
        });
        Server::start_with(options, make)
    }

    /// Starts a server with that node.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(options: ServerOptions, make: MakeNode) -> Result<RunningServer, StartError> {
        let (topology, me) = effective(&options)?;
        let expected = PeerIdentity { pool: me.pool, server: me.id };
        let found = options.credentials.identity();
        if found != expected {
            return Err(StartError::WrongCertificate { found, expected });
        }
        let sockets = Sockets::bind(&me)?;
        let store = StoreConfig::new(options.config.data.join("store"));
        let (mut store, recovered, report) = Store::open(&store, Arc::new(RealFiles))?;
        give_up_corrupt(&mut store, &report, options.resync_corrupt)?;
        let counters = Arc::new(Counters::default());
        let (inbox, outlet) = inbox::inbox(counters.clone());
        let events = EventHub::default();
        let signals = Arc::new(Signals::new(inbox.clone(), events.clone(), options.on_fatal));
        let (waiting, log_bytes, renew) = (Arc::default(), Arc::default(), Arc::default());
        let parts = Parts { options, topology, me, inbox, counters, events, signals, waiting, log_bytes, renew };
        parts.report(&report);
        parts.start(outlet, sockets, (store, recovered), make)
    }
}

/// Damaged groups end the start, unless the operator has said that they are to be taken anew from the partner.
fn give_up_corrupt(store: &mut Store, report: &OpenReport, resync: bool) -> Result<(), StartError> {
    if !report.corrupt.is_empty() && !resync {
        return Err(StartError::Corrupt(report.corrupt.clone()));
    }
    for (group, _) in &report.corrupt {
        store.forget(*group)?;
    }
    Ok(())
}

fn effective(options: &ServerOptions) -> Result<(Topology, pairline_topology::Server), StartError> {
    let me = options.config.effective(&options.topology).map_err(StartError::Config)?;
    let mut topology = options.topology.clone();
    for server in topology.server.iter_mut().filter(|s| s.id == me.id) {
        *server = me.clone();
    }
    Ok((topology, me))
}

/// What this server's own text says of SIP.
fn sip_config(options: &ServerOptions) -> Result<SipConfig, StartError> {
    let push = options
        .config
        .push
        .as_ref()
        .map(|push| PushPolicy { providers: push.providers.clone(), wait_ms: u64::from(push.wait_s) * 1_000 });
    let watcher = |text: &String| Aor::parse(text).ok_or_else(|| StartError::Watcher(text.clone()));
    let watchers = options.config.watchers.iter().map(watcher).collect::<Result<_, _>>()?;
    Ok(SipConfig { push: push.unwrap_or_default(), watchers })
}

fn node_config(
    options: &ServerOptions,
    topology: Topology,
    server: pairline_group::ServerId,
    seed: [u8; 32],
) -> NodeConfig {
    NodeConfig {
        topology,
        server,
        boot: 0,
        seed,
        secrets: pairline_node::config::Secrets {
            sealing_key: pairline_services::settings::Secret(options.secrets.sealing),
            nonce_keys: pairline_sip::auth::NonceKeys::new(
                options.secrets.nonce_current,
                options.secrets.nonce_previous,
            ),
        },
        sip: SipConfig::default(),
        order: pairline_node::executor::Order::Fifo,
        limits: pairline_group::Limits::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        watch: false,
    }
}

impl Parts {
    fn report(&self, report: &OpenReport) {
        if report.torn_bytes > 0 {
            let bytes = report.torn_bytes;
            let text = format!("{bytes} bytes of an interrupted write were dropped; they were never acknowledged");
            self.events.emit(Level::Info, "log-torn", text);
        }
        if let Some(reason) = &report.checkpoint_discarded {
            let text = format!("the checkpoint could not be used and was set aside; groups resynchronise: {reason:?}");
            self.events.emit(Level::Error, "checkpoint-discarded", text);
        }
        for (group, reason) in &report.corrupt {
            self.events.emit(Level::Error, "group-corrupt", format!("group {group} is not to be believed: {reason}"));
        }
    }

    fn start(
        self,
        outlet: Outlet,
        sockets: Sockets,
        (store, recovered): (Store, Vec<RecoveredGroup>),
        make: MakeNode,
    ) -> Result<RunningServer, StartError> {
        let bound = sockets.bound()?;
        let outgoing = sockets.outgoing()?;
        // From here on, an early return stops and joins whatever runs.
        let mut threads = Threads::start(self.signals.clone())?;
        let runtime = threads.runtime().clone();
        let names = PeerNames::default();
        let context = self.stream_context(names.clone())?;
        let streams = context.streams.clone();
        let dialler = Dialler::new(context.clone(), threads.streams().clone(), sockets.local()?);
        let listeners = self.seen_listeners(sockets.listeners()?);
        let (capture, tap, captured) = self.capture(&mut threads)?;
        accept::start(sockets.streams, &context, threads.streams())?;
        let links = Links::start(sockets.link, self.link_setup(&runtime))?;
        let places = Places { listeners, link: self.me.link, streams: streams.clone(), links: links.clone() };
        threads.add("capture", move || captured(places))?;
        let udp = Arc::new(UdpListeners::new(sockets.udp));
        let (errands_in, errands) = mpsc::channel(ERRANDS);
        let (disk, requests) = crossbeam_channel::bounded(storage::QUEUE);
        let ports = Ports {
            udp: udp.clone(),
            streams: dialler,
            links: links.clone(),
            disk,
            errands: errands_in,
            waiting: self.waiting.clone(),
            events: self.events.clone(),
            counters: self.counters.clone(),
            signals: self.signals.clone(),
        };
        self.start_store(&mut threads, store, requests)?;
        let zone = ZoneView::new(Arc::new(self.topology.clone()));
        let reception = Reception { inbox: self.inbox.clone(), counters: self.counters.clone(), zone: zone.clone() };
        let receives = Receives { listeners: udp.clone(), reception: reception.clone() };
        self.start_node(&mut threads, outlet, (ports, tap, receives), recovered, make)?;
        self.start_udp(&mut threads, &udp, &reception)?;
        let handle = self.handle(capture);
        self.start_tasks(&runtime, &links, &zone, &handle, (errands, outgoing, names, streams.clone()));
        if let Some(dns) = sockets.dns {
            dns.serve(zone.clone(), self.counters.clone(), &runtime)?;
        }
        Ok(RunningServer {
            handle,
            signals: self.signals,
            links,
            streams,
            zone,
            credentials: self.options.credentials,
            server: self.me,
            renew: self.renew,
            bound,
            threads,
        })
    }

    fn handle(&self, capture: Capture) -> NodeHandle {
        let (inbox, waiting) = (self.inbox.clone(), self.waiting.clone());
        NodeHandle::new(inbox, waiting, self.events.clone(), self.counters.clone(), capture)
    }

    fn capture(&self, threads: &mut Threads) -> Result<(Capture, Tap, crate::capture::Pending), StartError> {
        let consumers = Consumers { config: self.options.config.capture.clone(), key: self.options.hep_key.clone() };
        let server = (self.me.name.as_str(), self.me.id.0);
        let parts = CaptureParts { consumers: &consumers, data: &self.options.config.data, server };
        Capture::prepare(&parts, threads).map_err(StartError::Capture)
    }

    /// Where listeners are as others see them: one that is bound to every address of the machine shows the one that it tells.
    fn seen_listeners(&self, mut bound: BTreeMap<u16, SocketAddr>) -> BTreeMap<u16, SocketAddr> {
        for (number, address) in bound.iter_mut().filter(|(_, address)| address.ip().is_unspecified()) {
            let listener = self.me.listener.get(usize::from(*number).saturating_sub(1));
            *address = listener.and_then(|listener| listener.advertise_address).unwrap_or(*address);
        }
        bound
    }

    fn stream_context(&self, names: PeerNames) -> Result<Context, StartError> {
        let options = &self.options;
        let ask = options.config.sip.client_certificates;
        let origins = Origins::new(self.topology.own_names(self.me.id), &options.config.sip.origins);
        Ok(Context {
            streams: Arc::new(Streams::new(options.streams.clone(), names, self.counters.clone())),
            tls: Arc::new(SipTls::new(options.sip_certificate.clone(), options.sip_trust.clone(), ask)?),
            origins: Arc::new(origins),
            inbox: self.inbox.clone(),
            counters: self.counters.clone(),
            events: self.events.clone(),
            throttle: Arc::default(),
        })
    }

    fn reloader(&self) -> Reloader {
        let (config, mut reloader) = (&self.options.config, Reloader::default());
        let credentials = &self.options.credentials;
        reloader.watch(&config.certificate, &config.key, credentials.certified(), Some(credentials.identity()));
        if let (Some(certificate), Some(key)) = (&config.sip.certificate, &config.sip.key) {
            reloader.watch(certificate, key, &self.options.sip_certificate, None);
        }
        if let Some(file) = &config.sip.authorities {
            reloader.watch_authorities(file, credentials.roots(), &self.options.sip_trust);
        }
        reloader
    }

    fn link_setup(&self, runtime: &tokio::runtime::Handle) -> LinkSetup {
        LinkSetup {
            credentials: self.options.credentials.clone(),
            times: self.options.links,
            inbox: self.inbox.clone(),
            events: self.events.clone(),
            counters: self.counters.clone(),
            runtime: runtime.clone(),
        }
    }

    fn start_store(
        &self,
        threads: &mut Threads,
        store: Store,
        requests: crossbeam_channel::Receiver<storage::Request>,
    ) -> Result<(), StartError> {
        let (checkpointer, writer) = checkpoint::pair(store.checkpoints);
        threads.add("checkpoint", move || writer.run())?;
        let storage = Storage::new(
            (store.log, checkpointer),
            requests,
            self.inbox.clone(),
            self.events.clone(),
            self.counters.clone(),
            self.log_bytes.clone(),
        );
        let signals = self.signals.clone();
        threads.add("store", move || {
            if let Err(failure) = storage.run() {
                signals.fatal(&failure.to_string());
            }
        })?;
        Ok(())
    }

    /// Makes the node on its thread and waits until it is made.
    fn start_node(
        &self,
        threads: &mut Threads,
        outlet: Outlet,
        (ports, tap, receives): (Ports, Tap, Receives),
        recovered: Vec<RecoveredGroup>,
        make: MakeNode,
    ) -> Result<(), StartError> {
        let (made_in, made) = std_mpsc::sync_channel::<Result<(), String>>(1);
        let signals = self.signals.clone();
        threads.add("node", move || {
            let _deafens = Deafens(signals.clone());
            let clock = Clock::start();
            let out = Outgoing::new(ports);
            match make(clock.now(), recovered) {
                Ok(node) => {
                    // The starting thread waits for this word.
                    let _ = made_in.send(Ok(()));
                    match NodeLoop::new(node, outlet, (out, tap, receives), clock, signals.clone()).run() {
                        Ok(()) => signals.end(Ended::Stopped),
                        Err(reason) => signals.fatal(&reason),
                    }
                }
                Err(reason) => {
                    // As above.
                    let _ = made_in.send(Err(reason));
                }
            }
        })?;
        match made.recv() {
            Ok(made) => made.map_err(StartError::Node),
            Err(_) => Err(StartError::Node("its thread ended".to_owned())),
        }
    }

    fn start_udp(&self, threads: &mut Threads, udp: &UdpListeners, reception: &Reception) -> Result<(), StartError> {
        for listener in udp.iter() {
            let (listener, reception) = (listener.clone(), reception.clone());
            let signals = self.signals.clone();
            threads.add("udp", move || listener.receive_until(signals.deaf_flag(), &reception))?;
        }
        Ok(())
    }

    fn start_tasks(
        &self,
        runtime: &tokio::runtime::Handle,
        links: &Links,
        zone: &ZoneView,
        handle: &NodeHandle,
        (errands, outgoing, names, streams): (
            mpsc::Receiver<Errand>,
            Vec<crate::dns::resolver::Outgoing>,
            PeerNames,
            Arc<Streams>,
        ),
    ) {
        let servers = self.options.resolvers.clone();
        let servers = servers.unwrap_or_else(|| client::system_resolvers(Path::new("/etc/resolv.conf")));
        let upkeep = Upkeep {
            inbox: self.inbox.clone(),
            resolver: Resolver::new(zone.clone(), servers, outgoing, names),
            zone: zone.clone(),
            links: links.clone(),
            streams,
            credentials: self.options.credentials.clone(),
            push: self.options.push.clone(),
            counters: self.counters.clone(),
        };
        let peers = upkeep::peers(&self.topology, self.options.credentials.identity());
        links.set_peers(peers, pairline_node::level::in_force(&self.topology));
        let data = self.options.config.data.clone();
        let shown = vec![self.options.credentials.certified().clone(), self.options.sip_certificate.clone()];
        let facts = FactFinder::new(data, shown, self.log_bytes.clone());
        runtime.spawn(upkeep.run(errands));
        runtime.spawn(facts.tell_for_ever(self.inbox.clone(), self.options.facts_every));
        let every = self.options.certificates_every;
        runtime.spawn(certificates::follow(self.reloader(), every, self.renew.clone(), self.events.clone()));
        let (links, every) = (links.clone(), self.options.liveness_every);
        runtime.spawn(liveness::follow(handle.clone(), links, self.me.id, zone.clone(), every));
    }
}
