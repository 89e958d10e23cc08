//! The management store's documents: sites, pools, servers, pairings, policies and users' homes.
//!
//! Owns their types, their text form, their checks, the difference between two of them, the plan of a publish, and the
//! encoding of what the `cms` group stores. Text goes in and types come out: no files, sockets, clocks or SIP. Who serves
//! a group now is not decided here; the group's own lineage decides.

mod capture_config;
mod check;
mod check_domains;
mod check_proxy;
mod check_witness;
pub mod demo;
pub mod diff;
pub mod directory;
pub mod error;
pub mod model;
mod not_yet;
mod parse;
mod parse_policy;
mod parse_proxy;
pub mod policy;
pub mod policy_features;
pub mod policy_overload;
pub mod policy_proxy;
pub mod publish;
mod push_config;
mod reader;
pub mod server_config;
pub mod sip_config;
pub mod stored;
mod stored_v1;

pub use capture_config::CaptureConfig;
pub use check::validate;
pub use demo::{demo_topology, enterprise_topology};
pub use diff::{Change, diff};
pub use directory::{DirectoryEntry, OwnershipHint, UserHome};
pub use error::ConfigError;
pub use model::{
    Advertise, BackEndMethod, Deployment, Edition, Listener, Pairing, Platform, Pool, Server, ServerRole, Site,
    Topology, Transport,
};
pub use parse::{parse, to_toml};
pub use policy::{Algorithm, AuthRule, Policies};
pub use publish::{PublishPlan, plan_publish, warnings};
pub use push_config::PushConfig;
pub use server_config::{ServerConfig, parse_server_config};
pub use sip_config::{ClientCertificates, SipConfig};
