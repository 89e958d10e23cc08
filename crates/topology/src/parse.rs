//! The topology document's text form.
//!
//! Owns reading (all findings at once) and writing. Rules that span keys are in `check`; policies in `parse_policy`.

use crate::check;
use crate::error::ConfigError;
use crate::model::{
    Advertise, BackEndMethod, DEFAULT_ROUTING_GROUPS, Deployment, Edition, Listener, Pairing, Platform, Pool, Server,
    ServerRole, Site, Topology, Transport,
};
use crate::parse_policy::policies;
use crate::reader::{self, Findings, Section};
use pairline_group::{PoolId, ServerId};
use toml::Value;

/// Words of [`Transport`] in texts.
pub(crate) const TRANSPORTS: &[(&str, Transport)] = &[
    ("udp", Transport::Udp),
    ("tcp", Transport::Tcp),
    ("tls", Transport::Tls),
    ("ws", Transport::Ws),
    ("wss", Transport::Wss),
];
/// Words of [`Advertise`] in texts.
pub(crate) const ADVERTISE: &[(&str, Advertise)] = &[("address", Advertise::Address), ("name", Advertise::Name)];

/// Words of [`ServerRole`] in texts.
const ROLES: &[(&str, ServerRole)] = &[("front-end", ServerRole::FrontEnd), ("witness", ServerRole::Witness)];

/// Reads a topology text and checks it.
///
/// # Errors
/// Every finding of the text, or, if each key by itself is fine, every broken rule between them.
pub fn parse(file_name: &str, text: &str) -> Result<Topology, Vec<ConfigError>> {
    let topology = read(file_name, text)?;
    let broken = check::check(file_name, &topology);
    if broken.is_empty() { Ok(topology) } else { Err(broken) }
}

/// Reads a topology text without the rules between its parts: what was published was checked by the build that published it.
///
/// # Errors
/// Every finding of the text.
pub(crate) fn read(file_name: &str, text: &str) -> Result<Topology, Vec<ConfigError>> {
    let mut f = Findings::new(file_name);
    let Some(table) = reader::table(&mut f, text) else {
        return Err(f.into_list());
    };
    let topology = topology(&mut f, Section::root(&table));
    if f.is_empty() { Ok(topology) } else { Err(f.into_list()) }
}

fn topology(f: &mut Findings, mut root: Section<'_>) -> Topology {
    let revision = root.number(f, "revision", 0_u64, 0, u64::from(u32::MAX));
    let site = root.list(f, "site").into_iter().map(|s| site(f, s)).collect();
    let pool: Vec<Pool> = root.list(f, "pool").into_iter().map(|s| pool(f, s)).collect();
    let deployment = deployment(root.section(f, "deployment"), f, &pool);
    let server = root.list(f, "server").into_iter().map(|s| server(f, s, &pool)).collect();
    let pairing = root.list(f, "pairing").into_iter().map(|s| pairing(f, s, &pool)).collect();
    let policies = policies(root.section(f, "policies"), f);
    root.done(f);
    Topology { revision, deployment, site, pool, server, pairing, policies }
}

fn deployment(mut s: Section<'_>, f: &mut Findings, pools: &[Pool]) -> Deployment {
    let name = s.text(f, "name", "example");
    let id = s.text(f, "id", "example-1");
    let domains = s.texts(f, "domains");
    let management_store = pool_ref(f, &mut s, "management_store", pools);
    s.done(f);
    Deployment { name, id, domains, management_store }
}

fn site(f: &mut Findings, mut s: Section<'_>) -> Site {
    let site = Site { name: s.text(f, "name", "east"), description: s.opt_text(f, "description") };
    s.done(f);
    site
}

fn pool(f: &mut Findings, mut s: Section<'_>) -> Pool {
    let editions = [("standard", Edition::Standard), ("enterprise", Edition::Enterprise)];
    let platforms = [("physical", Platform::Physical), ("virtual", Platform::Virtual)];
    let methods =
        [("none", BackEndMethod::None), ("single", BackEndMethod::Single), ("patroni", BackEndMethod::Patroni)];
    let capacity = s.has("capacity_users").then(|| s.number(f, "capacity_users", 1_u32, 1, 10_000_000));
    let pool = Pool {
        id: PoolId(s.required_number(f, "id", 1, u16::MAX)),
        name: s.text(f, "name", "east"),
        fqdn: s.text(f, "fqdn", "east.example.org"),
        site: s.text(f, "site", "east"),
        edition: s.word(f, "edition", &editions, Edition::Standard),
        routing_groups: s.number(f, "routing_groups", DEFAULT_ROUTING_GROUPS, 1, 1024),
        platform: s.word(f, "platform", &platforms, Platform::Virtual),
        base_os: s.opt_text(f, "base_os").unwrap_or_else(|| "linux".to_owned()),
        back_end: s.word(f, "back_end", &methods, BackEndMethod::None),
        version: s.opt_text(f, "version"),
        capacity_users: capacity,
    };
    s.done(f);
    pool
}

fn server(f: &mut Findings, mut s: Section<'_>, pools: &[Pool]) -> Server {
    let server = Server {
        id: ServerId(s.required_number(f, "id", 1, u32::MAX)),
        name: s.text(f, "name", "fe1.east.example.org"),
        pool: pool_ref(f, &mut s, "pool", pools),
        role: s.word(f, "role", ROLES, ServerRole::FrontEnd),
        upgrade_domain: s.has("upgrade_domain").then(|| s.number(f, "upgrade_domain", 1, 1, u16::MAX)),
        admin: s.address(f, "admin"),
        link: s.address(f, "link"),
        dns: s.opt_address(f, "dns"),
        listener: s.list(f, "listener").into_iter().map(|l| listener(f, l)).collect(),
    };
    s.done(f);
    server
}

fn listener(f: &mut Findings, mut s: Section<'_>) -> Listener {
    let listener = Listener {
        id: s.text(f, "id", "udp"),
        transport: s.word(f, "transport", TRANSPORTS, Transport::Udp),
        address: s.address(f, "address"),
        advertise: s.word(f, "advertise", ADVERTISE, Advertise::Address),
        advertise_address: s.opt_address(f, "advertise_address"),
    };
    s.done(f);
    listener
}

fn pairing(f: &mut Findings, mut s: Section<'_>, pools: &[Pool]) -> Pairing {
    let pairing = Pairing {
        a: pool_ref(f, &mut s, "a", pools),
        b: pool_ref(f, &mut s, "b", pools),
        accept_unsupported: s.opt_text(f, "accept_unsupported"),
    };
    s.done(f);
    pairing
}

fn pool_ref(f: &mut Findings, s: &mut Section<'_>, key: &'static str, pools: &[Pool]) -> PoolId {
    let name = s.text(f, key, "east");
    if let Some(pool) = pools.iter().find(|p| p.name == name) {
        return pool.id;
    }
    if !name.is_empty() {
        let names: Vec<&str> = pools.iter().map(|p| p.name.as_str()).collect();
        f.add(s.at(key), format!("\"{name}\" is not the name of a pool"), format!("one of: {}", names.join(", ")));
    }
    PoolId(0)
}

/// Writes the document as text that [`parse`] reads back to the same document.
pub fn to_toml(topology: &Topology) -> String {
    let mut root = tree(topology);
    rename(&mut root, "deployment", "management_store", topology);
    rename(&mut root, "server", "pool", topology);
    rename(&mut root, "pairing", "a", topology);
    rename(&mut root, "pairing", "b", topology);
    toml::to_string(&root).expect("a tree of tables, lists, texts and numbers is always writable")
}

/// The document as a tree of plain values, pools by number.
pub(crate) fn tree(topology: &Topology) -> toml::Table {
    toml::Table::try_from(topology).expect("all fields are tables, lists, texts, flags and numbers below 2^63")
}

/// Replaces a pool's number by its name in one table or in each of a list of tables.
fn rename(root: &mut toml::Table, family: &str, key: &str, topology: &Topology) {
    let rename_in = |table: &mut toml::Table| {
        let number = table.get(key).and_then(Value::as_integer).and_then(|n| u16::try_from(n).ok());
        if let Some(pool) = number.and_then(|n| topology.pool(PoolId(n))) {
            table.insert(key.to_owned(), Value::String(pool.name.clone()));
        }
    };
    match root.get_mut(family) {
        Some(Value::Table(table)) => rename_in(table),
        Some(Value::Array(list)) => list.iter_mut().filter_map(Value::as_table_mut).for_each(rename_in),
        _ => {}
    }
}
