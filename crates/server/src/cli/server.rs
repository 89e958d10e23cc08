//! `pairline server`: one server, as in production: the shell, the admin API beside it, and a clean stop.
//!
//! Owns the order of starting and stopping. Does not own the shell (`shell`) or the API (`api`).

use super::args::ServerArgs;
use crate::api::token::{TokenError, Tokens};
use crate::api::{ApiError, ApiState, CommandFuture, CommandPort, serve};
use crate::capture::{TraceAnswer, TraceError, TraceOrder};
use crate::logging::{self, Format, LogError};
use crate::shell::waits::as_value;
use crate::shell::{Ended, NodeHandle, RunningServer, Server, ServerOptions, StartError};
use crate::tls::RandomFailed;
use crate::tls::config::CredentialsError;
use crate::tls::files::{self, FileError};
use pairline_node::command::{Actor, Command, Reply};
use pairline_node::view::Sample;
use pairline_topology::{ConfigError, ServerConfig, parse_server_config};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration or another file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration is not UTF-8 text.
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    /// The configuration has findings.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<ConfigError>),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The shell.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The administrator's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No randomness for a new token.
    #[error(transparent)]
    Random(#[from] RandomFailed),
    /// TLS of the admin API.
    #[error(transparent)]
    Tls(#[from] CredentialsError),
    /// The admin API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Runtime or signals.
    #[error("cannot run: {0}")]
    Runtime(#[from] std::io::Error),
    /// The server had to end.
    #[error("the server had to end: {0}")]
    Fatal(String),
}

impl CommandPort for NodeHandle {
    fn command(&self, actor: Actor, command: Command) -> CommandFuture {
        let handle = self.clone();
        Box::pin(async move {
            let shell = matches!(command, Command::ServerStatus).then(|| shell_samples(&handle));
            let mut reply = NodeHandle::command(&handle, actor, command).await?;
            if let (Reply::Status(status), Some(samples)) = (&mut reply, shell) {
                // Counts of the shell stand beside those of the node; they stay exact up to 2^53.
                status.samples.extend(samples);
            }
            Ok(reply)
        })
    }

    fn trace(&self, order: &TraceOrder) -> Result<TraceAnswer, TraceError> {
        self.capture().trace(order)
    }
}

fn shell_samples(handle: &NodeHandle) -> Vec<Sample> {
    let plain = handle.shell_samples().into_iter().map(|(name, value)| (name.to_owned(), Vec::new(), as_value(value)));
    let labelled = handle.connection_samples().into_iter().map(|(name, labels, value)| {
        let labels = labels.into_iter().map(|(label, word)| (label.to_owned(), word.to_owned())).collect();
        (name.to_owned(), labels, as_value(value))
    });
    plain.chain(labelled).chain(handle.further_samples()).collect()
}

/// Puts a new process of the program, with the arguments of this one, in the place of this one: whoever started it, and holds its
/// pipes, need not know. Returns only if that cannot be done.
fn start_again(program: &Path) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    std::process::Command::new(program).args(std::env::args_os().skip(1)).exec()
}

/// Runs one server until it is told to stop.
pub fn run(config: &Path, args: &ServerArgs) -> Result<(), ServeError> {
    // Asked for now: of a program that was replaced since, the system tells another name.
    let program = std::env::current_exe()?;
    let config = read_config(config)?;
    let format = args.log.unwrap_or(match config.log_format {
        pairline_topology::server_config::LogFormat::Text => Format::Text,
        pairline_topology::server_config::LogFormat::Json => Format::Json,
    });
    logging::init(format, &config.log_level)?;
    let tokens = Tokens::new(&admin_token(&config)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let admin = options_address(&config)?;
    // Bound before anything of the data is opened: a second server of this folder ends here.
    let listener = runtime.block_on(crate::api::serve::bind(admin.1))?;
    let mut options = ServerOptions::load(config)?;
    options.resync_corrupt = args.resync_corrupt;
    let tls = options.credentials.admin_server()?;
    let server = Server::start(options)?;
    let state = Arc::new(ApiState { port: Arc::new(server.handle()), tokens, server: admin.0 });
    let ended = runtime.block_on(async {
        let (stop, stopping) = watch::channel(false);
        let api = tokio::spawn(serve(listener, tls, state, stopping));
        let ended = tokio::select! {
            ended = server.wait() => Ok(Some(ended)),
            result = wait_for_stop(args.with_parent) => result.map(|()| None),
            result = renew_on_hangup(&server) => result.map(|()| None),
        };
        stop.send_replace(true);
        // The API ends by that word; a panic in it is a bug that its own message names.
        let _ = api.await;
        ended
    })?;
    // Joins the server's threads, so outside the runtime.
    let ended = match ended {
        Some(Ended::Fatal(reason)) => Ended::Fatal(reason),
        _ => server.stop(),
    };
    match ended {
        Ended::Fatal(reason) => Err(ServeError::Fatal(reason)),
        Ended::Restart => {
            tracing::info!(target: "pairline", event = "restarting", "the server has stopped and starts again");
            Err(ServeError::Runtime(start_again(&program)))
        }
        Ended::Stopped => {
            tracing::info!(target: "pairline", event = "stopped", "the server has stopped");
            Ok(())
        }
    }
}

/// Has the certificates read again at each SIGHUP; returns only if signals cannot be had.
async fn renew_on_hangup(server: &RunningServer) -> Result<(), std::io::Error> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        server.reload_certificates();
    }
    Ok(())
}

/// Returns when the process is told to stop: SIGINT, SIGTERM, or the end of standard input if the parent holds it.
async fn wait_for_stop(with_parent: bool) -> Result<(), std::io::Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (gone, parent_gone) = tokio::sync::oneshot::channel();
    if with_parent {
        // A thread of its own, since a read of standard input cannot be cancelled; it ends with the process.
        std::thread::Builder::new().name("parent".into()).spawn(move || {
            // Data means nothing; end and error both mean that the parent is gone.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = gone.send(());
        })?;
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = parent_gone, if with_parent => {}
    }
    Ok(())
}

fn read_config(path: &Path) -> Result<ServerConfig, ServeError> {
    let text = String::from_utf8(files::read(path)?).map_err(|_| ServeError::NotText(path.to_owned()))?;
    parse_server_config(&path.to_string_lossy(), &text).map_err(ServeError::Config)
}

/// Name and admin address of the configured server.
fn options_address(config: &ServerConfig) -> Result<(String, std::net::SocketAddr), ServeError> {
    let text =
        String::from_utf8(files::read(&config.topology)?).map_err(|_| ServeError::NotText(config.topology.clone()))?;
    let topology = pairline_topology::parse(&config.topology.to_string_lossy(), &text).map_err(ServeError::Config)?;
    let server = config.effective(&topology).map_err(ServeError::Config)?;
    Ok((server.name, server.admin))
}

/// The administrator's token; created at the first start.
fn admin_token(config: &ServerConfig) -> Result<String, ServeError> {
    let path = config.admin_token.clone().unwrap_or_else(|| config.data.join("admin.token"));
    if !path.exists() {
        files::write_private(&path, format!("{}\n", crate::up::create::token()?).as_bytes())?;
    }
    String::from_utf8(files::read_private(&path)?).map_err(|_| ServeError::NotText(path))
}
