//! The command line: every command, its arguments and their help.
//!
//! Owns the grammar. Does not own what the commands do (`run` and its siblings).

use super::args_group::GroupCommand;
use super::args_pool::{ManagementCommand, PoolCommand, ProcedureCommand};
use crate::join::Token;
use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A SIP server whose users survive the loss of a server and of a whole site.
#[derive(Debug, Parser)]
#[command(name = "pairline", version, about, disable_help_subcommand = true, max_term_width = 110)]
pub struct Cli {
    /// Where the command goes and how it answers.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Top,
}

/// Options that every command understands.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Admin API to ask, host:port; may be given several times. Default: the servers of the data folder, in turn.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub server: Vec<String>,
    /// The deployment's data folder.
    #[arg(long, global = true, value_name = "DIR", default_value = "pairline-data")]
    pub data: PathBuf,
    /// File with the administrator's token. Default: `admin.token` in the data folder.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificate of the deployment's authority. Default: the one in the data folder.
    #[arg(long, global = true, value_name = "FILE")]
    pub authority: Option<PathBuf>,
    /// Answer in JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Top {
    /// Start a deployment on this machine, or the one found in the data folder: two paired pools, of one server each or with --enterprise of three Front Ends.
    Up(UpArgs),
    /// Run one server, as in production; or drain, create, invite or join one.
    Server(ServerArgs),
    /// Users: add, list, show, remove, password, where, import.
    #[command(subcommand)]
    User(UserCommand),
    /// Registrations: list, drop.
    #[command(subcommand)]
    Registration(RegistrationCommand),
    /// Contact lists of users.
    #[command(subcommand)]
    Contact(ContactCommand),
    /// Settings of users.
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// Pools: status, pairing, failover, failback.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Single groups: list, show, recover.
    #[command(subcommand)]
    Group(GroupCommand),
    /// The management store.
    #[command(subcommand)]
    Management(ManagementCommand),
    /// Procedures: list, show, resume, abort.
    #[command(subcommand)]
    Procedure(ProcedureCommand),
    /// What must be true before it is needed: DNS records, certificate names, client settings, readiness of a pool.
    #[command(subcommand)]
    Preflight(PreflightCommand),
    /// The published topology.
    #[command(subcommand)]
    Topology(TopologyCommand),
    /// What this build allows and refuses.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Follow one user's messages across all servers.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Play a whole disaster on real processes and prove that nothing acknowledged was lost.
    Drill(DrillArgs),
}

/// `pairline up`.
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// Also listen for SIP on this address of the machine, so that a phone on the network can join.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<IpAddr>,
    /// Start over: removes the data folder, if it is one of Pairline's.
    #[arg(long)]
    pub fresh: bool,
    /// Two paired pools of three Front Ends each instead of two of one server.
    #[arg(long, conflicts_with = "topology")]
    pub enterprise: bool,
    /// With --enterprise: so many Front Ends in each pool.
    #[arg(long, value_name = "N", requires = "enterprise", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub servers: u8,
    /// With --enterprise --servers 2: a witness for each pool, so that one of its three machines may fail. It votes, and holds no data.
    #[arg(long, requires = "enterprise")]
    pub witness: bool,
    /// Bring up the deployment that this file describes instead of the demo.
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
    /// Add this many further users (`u00001` …), spread over the pools.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub users: u32,
}

/// What is done beside running one.
#[derive(Clone, Debug, Subcommand)]
pub enum ServerCommand {
    /// Have a server of a pool pass on all that it leads, and wait until it sets up no call: then it may be stopped. If that does not
    /// happen in time, nothing has changed.
    Drain {
        /// Its name in the topology.
        name: String,
        /// Seconds that it may take.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        deadline: u64,
    },
    /// Create certificate, key and configuration of a server that the published topology has and the data folder has not.
    Create {
        /// Its name in the topology.
        name: String,
    },
    /// Let one machine become a server that the published topology has: prints the command for that machine, with a token that works once, and
    /// waits for it. Run it where the deployment was created.
    Invite {
        /// Its name in the topology.
        name: String,
        /// Address and port of this machine that the new one can reach; port 0: a free one.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        /// Minutes until the token does not work any more.
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=1_440))]
        minutes: u64,
    },
    /// On a new machine: become the server that a token was made for. Makes its key here, and gets certificate, configuration and what the
    /// servers share into the data folder.
    Join {
        /// Where `pairline server invite` waits.
        #[arg(value_name = "ADDRESS:PORT")]
        inviter: String,
        /// The token that it printed.
        #[arg(long)]
        token: Token,
    },
    /// Take a drain back.
    Undrain {
        /// Its name in the topology.
        name: String,
    },
}

/// `pairline server`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ServerArgs {
    /// Instead of running one.
    #[command(subcommand)]
    pub command: Option<ServerCommand>,
    /// The server's configuration.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// How the log looks; default: as configured.
    #[arg(long, value_enum)]
    pub log: Option<crate::logging::Format>,
    /// Give up groups whose data on this disk is damaged, and take them anew from the partner. What this disk had of them
    /// and the partner does not have is lost.
    #[arg(long)]
    pub resync_corrupt: bool,
    /// Stop when standard input ends, so that the server never outlives the process that started it.
    #[arg(long, hide = true)]
    pub with_parent: bool,
}

/// `pairline user …`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user. The password is read from standard input if not given with a file.
    Add {
        /// `name` or `name@domain`.
        name: String,
        /// Home pool; default: the answering server's.
        #[arg(long)]
        pool: Option<String>,
        /// Shown to others.
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// Where the password comes from.
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// List users.
    List {
        /// Start after this user.
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Show one user.
    Show {
        /// Who.
        name: String,
    },
    /// Remove a user with everything it has.
    Remove {
        /// Who.
        name: String,
    },
    /// Set a password.
    Password {
        /// Who.
        name: String,
        /// Where the password comes from.
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Home and serving pool, bindings, flows, reachable or stranded.
    Where {
        /// Who.
        name: String,
    },
    /// Issue a bearer token with which the user reads and changes its own contacts and settings.
    Token {
        /// Who.
        name: String,
        /// How long it is valid, in hours.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
        hours: u32,
    },
    /// Import a CSV file with the columns user, password, display_name, pool, contacts (separated by `;`).
    Import {
        /// The file; `-` reads standard input.
        file: PathBuf,
        /// Rows a call.
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1000))]
        batch: u32,
        /// Only read and check the file.
        #[arg(long)]
        check: bool,
    },
}

/// Where a password comes from: never the command line by default, because other users of the machine can read that.
#[derive(Clone, Debug, Default, Args)]
pub struct PasswordArgs {
    /// The password itself (visible to others on this machine).
    #[arg(long, value_name = "PASSWORD", conflicts_with = "password_file")]
    pub password: Option<String>,
    /// File whose first line is the password. Default: the first line of standard input.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `pairline registration …`.
#[derive(Debug, Subcommand)]
pub enum RegistrationCommand {
    /// List registrations.
    List {
        /// Only this user's.
        name: Option<String>,
        /// Start after this user.
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
        /// At most this many users.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Drop a user's registrations.
    Drop {
        /// Who.
        name: String,
        /// Only the binding with this contact URI.
        #[arg(long, value_name = "URI")]
        contact: Option<String>,
    },
}

/// `pairline contact …`.
#[derive(Debug, Subcommand)]
pub enum ContactCommand {
    /// List a user's contacts.
    List {
        /// Whose.
        user: String,
    },
    /// Add or change a contact.
    Put {
        /// Whose list.
        user: String,
        /// The contact's address.
        contact: String,
        /// Its name.
        #[arg(long, default_value = "")]
        name: String,
        /// A group that it is in; may be given several times.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Remove a contact.
    Remove {
        /// Whose list.
        user: String,
        /// The contact's address.
        contact: String,
    },
}

/// `pairline settings …`.
#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// Show a user's settings.
    Show {
        /// Whose.
        user: String,
    },
    /// Change a user's settings; what is not given stays.
    Set {
        /// Whose.
        user: String,
        /// Shown to others.
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// Call-forward target; empty clears it.
        #[arg(long, value_name = "ADDRESS")]
        forward_to: Option<String>,
        /// A note; empty clears it.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

/// `pairline preflight …`.
#[derive(Debug, Subcommand)]
pub enum PreflightCommand {
    /// The DNS records to create, and whether they resolve now.
    Dns,
    /// The names that each server's certificate must carry, and whether it does.
    Cert,
    /// The settings of clients, by how they find their pool.
    Clients,
    /// Whether a pool could be failed over now.
    Pool {
        /// The pool that would be failed over.
        name: String,
    },
}

/// `pairline topology …`.
#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Print the published topology as TOML.
    Show,
    /// Publish a topology in the place of the present one: `topology show`, edited.
    Publish {
        /// The document, as TOML.
        file: PathBuf,
        /// Print what would change, and which server does what; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `pairline policy …`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print who may send what: method, direction, proof of the sender, transport. Asks no server.
    Table,
}

/// `pairline trace …`.
#[derive(Debug, Subcommand)]
pub enum TraceCommand {
    /// Trace one user at every server that answers, and draw its messages as a ladder. Ctrl-C ends it early.
    User {
        /// Who.
        name: String,
        /// Show messages as they come, not at the end.
        #[arg(long)]
        follow: bool,
        /// How long, in seconds. No server traces longer.
        #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
    },
}

/// `pairline drill`.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// Simulated users, half of them at home on each pool.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    pub users: u32,
    /// Contact changes a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub rate: u32,
    /// Calls a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub calls: u32,
    /// Messages a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub messages: u32,
    /// Share of simulated users on UDP, in per cent; they notice a dead pool only at their refresh.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub udp: u32,
    /// How long the line between the pools is held still before the kill, in milliseconds, so that there is something to lose.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=1_500))]
    pub hold: u64,
    /// Instead of one disaster: this many rounds of a planned failover or failback with a server killed at a drawn moment, then
    /// a pool that is cut off but alive, then cold starts.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub kills: u32,
    /// Seed of what is drawn with --kills; drawn itself, and shown, if absent.
    #[arg(long, value_name = "S", requires = "kills")]
    pub seed: Option<u64>,
    /// Keep the drill's data folder and logs.
    #[arg(long)]
    pub keep: bool,
    /// Two Enterprise pools of three Front Ends each: first single Front Ends die, one is drained and a whole pool restarted, then a
    /// site is lost.
    #[arg(long, conflicts_with = "kills")]
    pub enterprise: bool,
    /// With --enterprise: one Front End and the site only, and shorter looks; for tests.
    #[arg(long, hide = true, requires = "enterprise")]
    pub brief: bool,
    /// Leave out the real baresip clients even if they are installed.
    #[arg(long)]
    pub no_baresip: bool,
}
