//! The command line's grammar.
//!
//! Owns the arguments, their bounds and their help. Starts nothing.

use crate::engine::Kind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Generates SIP load and reports latency, statuses, and what an operation costs the server.
#[derive(Clone, Debug, Parser)]
#[command(name = "pairline-load", version, max_term_width = 110)]
pub struct Cli {
    /// What traffic.
    #[command(subcommand)]
    pub traffic: Traffic,
}

/// Kinds of traffic.
#[derive(Clone, Debug, Subcommand)]
pub enum Traffic {
    /// REGISTER: an operation is one registration refreshed (with its challenge, if there is one).
    Register {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
        /// Register each user exactly once and stop.
        #[arg(long)]
        once: bool,
        /// File that gets one JSON line for each acknowledged registration.
        #[arg(long, value_name = "FILE")]
        journal: Option<PathBuf>,
    },
    /// MESSAGE from one registered user to another: an operation ends with the receiver's 200 at the sender.
    Message {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
    },
    /// INVITE, 200, ACK, BYE, 200 between two registered users: an operation is the whole call.
    Call {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
        /// Time between ACK and BYE, in milliseconds.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
        hold: u64,
    },
    /// A mix in open loop that survives the loss of a server: refreshes at half of the expiry, calls, messages; clients go to the
    /// next server when theirs fails; everything acknowledged goes to a journal; one line of figures a second.
    DrillTraffic {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
        /// Calls a second.
        #[arg(long, default_value_t = 10.0, value_parser = rate)]
        calls: f64,
        /// Messages a second.
        #[arg(long, default_value_t = 10.0, value_parser = rate)]
        messages: f64,
        /// Time between ACK and BYE, in milliseconds.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
        hold: u64,
        /// Registrations refreshed a second. Default: each user at half of its expiry.
        #[arg(long, value_parser = rate)]
        registers: Option<f64>,
        /// File that gets one JSON line for each acknowledged operation.
        #[arg(long, value_name = "FILE")]
        journal: Option<PathBuf>,
        /// Operations that failed get a line too, with the step at which they did.
        #[arg(long, requires = "journal")]
        journal_failures: bool,
        /// A re-INVITE before the BYE, both first to the server after the one that the INVITE went to, and to the next when there
        /// is no answer.
        #[arg(long)]
        elsewhere: bool,
        /// A new request that a server answers with 503, or not at all, goes to the next one (RFC 3263 §4.3), and its user stays there; it
        /// has failed when all of them were asked.
        #[arg(long)]
        goes_on: bool,
    },
    /// A mix in open loop whose rate changes by steps. Whoever is refused is not heard again: its place in the schedule is another's.
    Mix {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
        /// Operations a second and for how many seconds, one step after the other.
        #[arg(long, required = true, value_delimiter = ',', value_parser = steps, value_name = "RATE:SECONDS")]
        steps: Vec<(f64, f64)>,
        /// Parts of the kinds.
        #[arg(long, value_delimiter = ',', value_parser = share, value_name = "KIND:PART",
              default_values = ["register:6", "message:3", "call:1"])]
        shares: Vec<(Kind, f64)>,
        /// Time between ACK and BYE, in milliseconds.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
        hold: u64,
    },
    /// All users are registered, dropped at one instant, and register again at once, with a challenge each. Who is refused waits for
    /// Retry-After, who gets no answer as RFC 5626 §4.5 says. Ends when all are back, or with --duration.
    Avalanche {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
    },
}

/// `RATE:SECONDS,…`.
fn steps(text: &str) -> Result<(f64, f64), String> {
    let (per_second, lasts) = text.split_once(':').ok_or_else(|| format!("`{text}` is not RATE:SECONDS"))?;
    Ok((rate(per_second)?, seconds(lasts)?))
}

/// `KIND:PART,…`.
fn share(text: &str) -> Result<(Kind, f64), String> {
    let (kind, part) = text.split_once(':').ok_or_else(|| format!("`{text}` is not KIND:PART"))?;
    let known = [Kind::Register, Kind::Message, Kind::Call];
    let kind = known.into_iter().find(|known| known.name() == kind);
    Ok((kind.ok_or("the kinds are register, message and call")?, rate(part)?))
}

/// What all kinds of traffic share.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The server; several in the order in which clients try them (user n starts with server n modulo their number).
    #[arg(long, required = true, value_name = "ADDRESS:PORT")]
    pub server: Vec<SocketAddr>,
    /// Transport.
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    pub transport: Transport,
    /// PEM file with the authorities that the servers' certificates come from; needed for tls and wss.
    #[arg(long, value_name = "FILE", required_if_eq_any([("transport", "tls"), ("transport", "wss")]))]
    pub authority: Option<PathBuf>,
    /// Name that the servers' certificates must have. Default: the SIP domain.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Address to send from. Default: the one from which the system reaches the server.
    #[arg(long, value_name = "ADDRESS")]
    pub local: Option<IpAddr>,
    /// Port of the first UDP socket, the next one for each further socket; 0: whichever are free.
    #[arg(long, default_value_t = 0)]
    pub local_port: u16,
    /// Number of users.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=2_000_000))]
    pub users: u32,
    /// Users' names before the number.
    #[arg(long, default_value = "u")]
    pub prefix: String,
    /// Digits of the number in users' names.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub digits: u8,
    /// Number of the first user.
    #[arg(long, default_value_t = 1)]
    pub first: u32,
    /// SIP domain of the users.
    #[arg(long, default_value = "pairline.test")]
    pub domain: String,
    /// Operations a second, in open loop. Latency counts from the time at which an operation was due.
    #[arg(long, value_parser = rate, conflicts_with = "outstanding")]
    pub rate: Option<f64>,
    /// Operations at a time, in closed loop.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub outstanding: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub duration: f64,
    /// Seconds of traffic before the measurement.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub warmup: f64,
    /// Answer challenges. Without it a 401 or 407 is a result like others.
    #[arg(long)]
    pub digest: bool,
    /// Forget the nonce after each operation, so that each is challenged.
    #[arg(long, requires = "digest")]
    pub fresh_nonce: bool,
    /// Users' passwords; `{user}` and `{n}` are replaced.
    #[arg(long, default_value = "{user}", value_name = "TEXT")]
    pub password_template: String,
    /// Expiry asked for, in seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub expires: u32,
    /// User-Agent header, so that a policy by user agent applies.
    #[arg(long, default_value = "pairline-load")]
    pub user_agent: String,
    /// Give up an operation after this many seconds.
    #[arg(long, default_value_t = 32.0, value_parser = seconds)]
    pub timeout: f64,
    /// Sockets (UDP) or connections (TCP) of each thread.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub sockets: u16,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Cores for the threads, one each in turn.
    #[arg(long, value_name = "CORE")]
    pub pin: Vec<u16>,
    /// Processes of the server: their processor time and memory are reported. Their children are included.
    #[arg(long, value_name = "PID")]
    pub cpu_pid: Vec<u32>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Transport of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections, each shared by many users.
    Tcp,
    /// The same over TLS.
    Tls,
    /// The same in WebSocket frames over TLS.
    Wss,
}

impl Transport {
    /// Its token in a Via (RFC 3261 §20.42, RFC 7118 §5.2).
    pub fn token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Wss => "WSS",
        }
    }

    /// As parameter of a Contact; nothing where it is the default.
    pub fn param(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            Transport::Wss => ";transport=ws",
        }
    }

    /// Whether connections are encrypted.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }
}

impl Cli {
    /// What all kinds share.
    pub fn common(&self) -> &Common {
        match &self.traffic {
            Traffic::Register { common, .. }
            | Traffic::Message { common }
            | Traffic::Call { common, .. }
            | Traffic::DrillTraffic { common, .. }
            | Traffic::Mix { common, .. }
            | Traffic::Avalanche { common } => common,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    bounded(text, 0.0, 10_000_000.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    bounded(text, 0.0, 86_400.0)
}

fn bounded(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if value.is_finite() && (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(format!("must be from {low} to {high}"))
    }
}
