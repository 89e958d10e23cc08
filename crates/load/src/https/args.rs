//! The grammar of `pairline-load-https`.
//!
//! Owns the arguments, their bounds and their help. Starts nothing.

use super::metrics::Selector;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Sends requests over HTTPS at a fixed rate, or samples a server's metrics.
#[derive(Clone, Debug, Parser)]
#[command(name = "pairline-load-https", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub work: Work,
}

/// Kinds of work.
#[derive(Clone, Debug, Subcommand)]
pub enum Work {
    /// Requests in open loop; one line of JSON at the end. An operation succeeds with status 2xx.
    Requests(RequestArgs),
    /// One request for each user, as fast as answers come; one line of JSON each, with the answer's body.
    Read(ReadArgs),
    /// The metrics at a steady interval; one line of JSON each, until the time is over or the process is ended.
    Samples(SampleArgs),
}

/// The server and the trust in it.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// The server; its certificate must carry this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub server: SocketAddr,
    /// PEM file with the authority that issued the certificate.
    #[arg(long, value_name = "FILE")]
    pub authority: PathBuf,
    /// File with the bearer token to send.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Longest wait for an answer, in seconds.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub timeout: f64,
}

/// Requests.
#[derive(Clone, Debug, Args)]
pub struct RequestArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Method.
    #[arg(long, default_value = "POST")]
    pub method: String,
    /// Path; `{user}` and `{n}` are replaced, as in bodies.
    #[arg(long)]
    pub path: String,
    /// JSON body; several take turns, the next one with each pass over the users. `{user}` becomes the user's name, `{n}` the number
    /// of the request.
    #[arg(long, required = true)]
    pub body: Vec<String>,
    /// Number of users; requests go to one after the other.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub users: u32,
    /// Users' names before the number.
    #[arg(long, default_value = "u")]
    pub prefix: String,
    /// Digits of the number in users' names.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub digits: u8,
    /// Requests a second. Latency counts from the time at which a request was due.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    pub rate: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub duration: f64,
    /// Seconds of traffic before the measurement.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub warmup: f64,
    /// Connections, and so requests that can be under way at one time; beyond that a request waits, and its wait counts.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub connections: u16,
    /// Further servers: a connection that fails, or has no answer in time, is made anew to the next one, and its request sent there
    /// again. Connections begin with one server after the other.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub or_server: Vec<SocketAddr>,
    /// File that gets one JSON line for each request with its status.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

/// Reading.
#[derive(Clone, Debug, Args)]
pub struct ReadArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Path; `{user}` is replaced.
    #[arg(long)]
    pub path: String,
    /// Number of users.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub users: u32,
    /// Users' names before the number.
    #[arg(long, default_value = "u")]
    pub prefix: String,
    /// Digits of the number in users' names.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub digits: u8,
    /// Connections, and so requests at one time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub connections: u16,
}

/// Samples.
#[derive(Clone, Debug, Args)]
pub struct SampleArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Path of the metrics.
    #[arg(long, default_value = "/metrics")]
    pub path: String,
    /// What to sum up: `name` or `name{label="value",…}`; a value may end with `*`. Several give several figures a sample.
    #[arg(long, required = true, value_name = "SELECTOR")]
    pub metric: Vec<Selector>,
    /// Interval in milliseconds; each is up to a quarter shorter or longer, so that nothing periodic is always met at one phase.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub every: u64,
    /// Seconds.
    #[arg(long, default_value_t = 3600.0, value_parser = seconds)]
    pub duration: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    bounded(text, 0.001, 1_000_000.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    bounded(text, 0.0, 86_400.0)
}

fn bounded(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (low..=high).contains(&value) { Ok(value) } else { Err(format!("must be from {low} to {high}")) }
}
