//! The structured log of one process: one line per event, as JSON or readable, never a secret.
//!
//! Owns the subscriber and the two shapes of a line. Does not own what is worth a line; the node and the shell choose that,
//! and they choose fields that hold no secret.

use tracing_subscriber::EnvFilter;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line, for `up`, for collectors.
    Json,
    /// One readable line.
    Text,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The configured filter, or the one in `PAIRLINE_LOG`, cannot be read.
    #[error("the log's filter cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed already.
    #[error("logging was set up twice")]
    Twice,
}

/// Installs the process's log on standard output. `filter` is the configured level (`info`, `debug`, or a filter such as
/// `info,pairline=debug`); `PAIRLINE_LOG` wins over it.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    let filter = match std::env::var("PAIRLINE_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::try_new(filter)?,
    };
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stdout);
    let done = match format {
        Format::Json => base.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        Format::Text => base.with_target(false).try_init(),
    };
    done.map_err(|_| LogError::Twice)
}

/// Writes the audit record of a privileged call, before its effect. `what` and `on` name the command and its subject; a
/// password or a token is never handed in.
pub fn audit(who: &str, what: &str, on: &str) {
    tracing::info!(target: "pairline::audit", event = "audit", who, what, on, "{who} asks {what} {on}");
}
