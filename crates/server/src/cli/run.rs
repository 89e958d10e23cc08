//! Dispatch of commands, their output and exit codes.
//!
//! Owns the way from arguments to a command of the admin API and back. Does not own grammar (`args`) or wording (`render`).

use super::args::{
    Cli, Common, ContactCommand, PasswordArgs, PolicyCommand, PreflightCommand, RegistrationCommand, ServerArgs,
    ServerCommand, SettingsCommand, Top, TopologyCommand, TraceCommand, UserCommand,
};
use super::args_group::GroupCommand;
use super::args_pool::{ManagementCommand, PoolCommand, ProcedureCommand, WaitFor};
use super::{
    health, import, import_csv, joining, policy, procedures, render, render_group, render_health, render_pool, rolling,
    trace,
};
use crate::api::problem::ProblemBody;
use crate::client::{Access, AccessError, CallError, Prefer, Session};
use clap::Parser;
use pairline_node::command::{Command, Reply};
use pairline_node::view::DivergenceView;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Why a command failed before or beside the servers' answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing to ask, or no credentials.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A server refused, or none answered.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A file or standard input cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The password is missing.
    #[error("no password: give --password-file, or write it as the first line of standard input")]
    NoPassword,
    /// The import file has faults; each is listed.
    #[error("the file has faults; nothing was imported")]
    Faults(Vec<import_csv::Fault>),
    /// The command needs a confirmation.
    #[error("{0}")]
    Confirm(&'static str),
    /// No runtime for asynchronous work.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// `pairline up` failed.
    #[error(transparent)]
    Up(#[from] crate::up::UpError),
    /// `pairline server` failed.
    #[error(transparent)]
    Server(#[from] super::server::ServeError),
    /// `pairline drill` could not be played to its end.
    #[error(transparent)]
    Drill(#[from] crate::drill::DrillError),
    /// A rolling restart stopped.
    #[error(transparent)]
    Rolling(#[from] rolling::RollingError),
    /// Nothing was created for a server.
    #[error(transparent)]
    Create(#[from] crate::up::create::CreateError),
    /// Nobody joined.
    #[error(transparent)]
    Joining(#[from] joining::JoiningError),
    /// A preflight could not look.
    #[error(transparent)]
    Preflight(#[from] crate::preflight::PreflightError),
}

/// Entry of the binary.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.common.json;
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error, json);
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; its exit code.
fn run(cli: Cli) -> Result<u8, RunError> {
    if let Top::Server(args @ ServerArgs { command: None, config: Some(config), .. }) = &cli.command {
        return Ok(super::server::run(config, args).map(|()| 0)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    if let Top::Pool(PoolCommand::Health { name, wait, timeout }) = cli.command {
        let wait = wait.then(|| Duration::from_secs(timeout));
        return runtime.block_on(Box::pin(pool_health(cli.common, name, wait)));
    }
    Ok(u8::from(!runtime.block_on(Box::pin(dispatch(cli)))?))
}

async fn dispatch(cli: Cli) -> Result<bool, RunError> {
    let Cli { common, command } = cli;
    match command {
        Top::Up(args) => Ok(Box::pin(crate::up::run(&common.data, &args)).await.map(|()| true)?),
        Top::Drill(args) => Ok(Box::pin(crate::drill::run(&common.data, &args, common.json)).await?),
        Top::Pool(PoolCommand::Restart { name, deadline }) => {
            let access = access(&common)?;
            Box::pin(rolling::restart(&access, &name, deadline, |line| out(&format!("{line}\n")))).await?;
            Ok(true)
        }
        Top::Policy(PolicyCommand::Table) => {
            out(&if common.json { pretty(&policy::json()) } else { policy::text() });
            Ok(true)
        }
        Top::Server(ServerArgs { command: Some(ServerCommand::Join { inviter, token }), .. }) => {
            Ok(Box::pin(joining::join(&common.data, &inviter, &token, out)).await?)
        }
        Top::Preflight(PreflightCommand::Dns) => Ok(crate::preflight::dns(&access(&common)?, common.json).await?),
        Top::Preflight(PreflightCommand::Cert) => Ok(crate::preflight::cert(&access(&common)?, common.json).await?),
        Top::Preflight(PreflightCommand::Clients) => {
            Ok(crate::preflight::clients(&access(&common)?, common.json).await?)
        }
        Top::Trace(TraceCommand::User { name, follow, seconds }) => {
            let asked = trace::TraceAsked { name, follow, seconds };
            Box::pin(trace::run(access(&common)?, &common, asked)).await
        }
        command => {
            let mut asking = Asking { session: Session::new(access(&common)?), common };
            Box::pin(asking.command(command)).await
        }
    }
}

/// Asks how pools are; the answer's exit code, and that of the worst where nobody answers.
async fn pool_health(common: Common, pool: Option<String>, wait: Option<Duration>) -> Result<u8, RunError> {
    let json = common.json;
    let mut asking = Asking { session: Session::new(access(&common)?), common };
    let answer = match wait {
        None => health::ask(&mut asking.session, pool.as_deref()).await,
        Some(wait) => {
            let shown = std::io::stderr().is_terminal() && !json;
            health::wait(&mut asking.session, pool.as_deref(), wait, shown).await
        }
    };
    match answer {
        Ok(reply) => {
            asking.print(&reply);
            Ok(if let Reply::Health(view) = &reply { render_health::exit_code(view) } else { 2 })
        }
        Err(error @ (CallError::Unreachable(_) | CallError::Unknown { .. })) => {
            complain(&error.into(), json);
            Ok(2)
        }
        Err(error) => Err(error.into()),
    }
}

fn access(common: &Common) -> Result<Access, AccessError> {
    Access::find(&common.server, &common.data, common.token_file.as_deref(), common.authority.as_deref())
}

/// One command on its way.
struct Asking {
    session: Session,
    common: Common,
}

impl Asking {
    async fn command(&mut self, command: Top) -> Result<bool, RunError> {
        match command {
            Top::User(command) => self.user(command).await,
            Top::Registration(command) => self.registration(command).await,
            Top::Contact(command) => self.plain(contact(command), Prefer::Any).await,
            Top::Settings(command) => self.plain(settings(command), Prefer::Any).await,
            Top::Pool(command) => Box::pin(self.pool(command)).await,
            Top::Group(command) => self.group(command).await,
            Top::Management(ManagementCommand::Failover { disaster, dry_run, force, confirm, reason, no_wait }) => {
                let command = Command::ManagementFailover { disaster, dry_run, force, confirm, reason };
                self.procedure(command, Prefer::Any, !no_wait).await
            }
            Top::Procedure(command) => self.procedures(command).await,
            Top::Preflight(PreflightCommand::Pool { name }) => {
                self.plain(Command::Preflight { pool: name.clone() }, Prefer::PartnerOf(name)).await
            }
            Top::Topology(TopologyCommand::Show) => self.plain(Command::TopologyShow, Prefer::Any).await,
            Top::Topology(TopologyCommand::Publish { file, dry_run }) => {
                let document =
                    std::fs::read_to_string(&file).map_err(|source| RunError::Read { path: file, source })?;
                let published = self.plain(Command::TopologyPublish { document, dry_run }, Prefer::Any).await?;
                if !dry_run {
                    self.keep_topology().await?;
                }
                Ok(published)
            }
            Top::Server(ServerArgs { command: Some(command), .. }) => self.server(command).await,
            Top::Up(_) | Top::Drill(_) | Top::Server(_) | Top::Preflight(_) | Top::Policy(_) | Top::Trace(_) => {
                Ok(true)
            }
        }
    }

    async fn server(&mut self, command: ServerCommand) -> Result<bool, RunError> {
        match command {
            ServerCommand::Create { name } => self.create(&name).await,
            ServerCommand::Invite { name, listen, minutes } => {
                let asked = (name.as_str(), listen, minutes);
                Ok(joining::invite(&mut self.session, &self.common.data, asked, out).await?)
            }
            // It has no deployment to ask yet: see [`dispatch`].
            ServerCommand::Join { .. } => Ok(true),
            ServerCommand::Drain { name, deadline } => {
                self.plain(Command::ServerDrain { server: name, seconds: deadline }, Prefer::Any).await
            }
            ServerCommand::Undrain { name } => self.plain(Command::ServerUndrain { server: name }, Prefer::Any).await,
        }
    }

    /// What is published is what the folder's servers begin with, should one of them be started with an empty disk.
    async fn keep_topology(&mut self) -> Result<(), RunError> {
        let layout = crate::up::layout::Layout::new(&self.common.data);
        use crate::up::layout::Found;
        if !matches!(layout.look(), Ok(Found::Deployment | Found::Server)) {
            return Ok(());
        }
        if let Reply::Text { text } = self.session.call(&Command::TopologyShow, &Prefer::Any).await? {
            crate::tls::files::write_public(&layout.topology(), text.as_bytes())
                .map_err(crate::up::create::CreateError::from)?;
        }
        Ok(())
    }

    /// Creates what a new server needs, from the published topology and the folder's authority.
    async fn create(&mut self, name: &str) -> Result<bool, RunError> {
        let reply = self.session.call(&Command::TopologyShow, &Prefer::Any).await?;
        let Reply::Text { text } = reply else { return Ok(false) };
        let root = std::path::absolute(&self.common.data).map_err(RunError::Runtime)?;
        let layout = crate::up::layout::Layout::new(&root);
        let config = crate::up::create::add_server(&layout, &text, name)?;
        let (program, config) = (crate::up::program::name(), crate::up::program::quoted(&config));
        out(&format!("{name} has certificate and configuration. Start it:\n  {program} server --config {config}\n"));
        Ok(true)
    }

    /// Asks, prints, and says whether the answer is a good one.
    async fn plain(&mut self, command: Command, prefer: Prefer) -> Result<bool, RunError> {
        let reply = self.session.call(&command, &prefer).await?;
        self.print(&reply);
        Ok(good(&reply))
    }

    fn print(&self, reply: &Reply) {
        if self.common.json {
            out(&pretty(&serde_json::to_value(reply).unwrap_or_default()));
        } else {
            out(&render::reply(reply));
        }
    }

    async fn user(&mut self, command: UserCommand) -> Result<bool, RunError> {
        match command {
            UserCommand::Add { name, pool, display_name, password } => {
                let password = read_password(&password)?;
                let prefer = pool.clone().map_or(Prefer::Any, Prefer::Pool);
                self.plain(Command::UserAdd { user: name, password, display_name, pool }, prefer).await
            }
            UserCommand::List { after, limit } => self.user_list(after, limit).await,
            UserCommand::Show { name } => self.plain(Command::UserShow { user: name }, Prefer::Any).await,
            UserCommand::Remove { name } => self.plain(Command::UserRemove { user: name }, Prefer::Any).await,
            UserCommand::Password { name, password } => {
                let password = read_password(&password)?;
                self.plain(Command::UserPassword { user: name, password }, Prefer::Any).await
            }
            UserCommand::Where { name } => self.plain(Command::UserWhere { user: name }, Prefer::Any).await,
            UserCommand::Token { name, hours } => {
                let reply = self.session.user_token(&name, hours).await?;
                self.print(&reply);
                Ok(true)
            }
            UserCommand::Import { file, batch, check } => self.import(&file, batch, check).await,
        }
    }

    /// Pages through users until the limit.
    async fn user_list(&mut self, mut after: Option<String>, limit: u32) -> Result<bool, RunError> {
        let mut all = Vec::new();
        let mut left = limit;
        loop {
            let command = Command::UserList { after, limit: left.min(1000) };
            let Reply::Users { users, next } = self.session.call(&command, &Prefer::Any).await? else {
                return Ok(false);
            };
            left = left.saturating_sub(u32::try_from(users.len()).unwrap_or(u32::MAX));
            let end = users.is_empty() || next.is_none() || left == 0;
            all.extend(users);
            if end {
                self.print(&Reply::Users { users: all, next });
                return Ok(true);
            }
            after = next;
        }
    }

    async fn registration(&mut self, command: RegistrationCommand) -> Result<bool, RunError> {
        let (name, mut after, mut left) = match command {
            RegistrationCommand::Drop { name, contact } => {
                return self.plain(Command::RegistrationDrop { user: name, contact }, Prefer::Any).await;
            }
            RegistrationCommand::List { name, after, limit } => (name, after, limit),
        };
        let mut all = Vec::new();
        loop {
            let command = Command::RegistrationList { user: name.clone(), after, limit: left.min(1000) };
            let Reply::Registrations { registrations, next } = self.session.call(&command, &Prefer::Any).await? else {
                return Ok(false);
            };
            all.extend(registrations);
            left = left.saturating_sub(1000);
            if next.is_none() || left == 0 {
                self.print(&Reply::Registrations { registrations: all, next });
                return Ok(true);
            }
            after = next;
        }
    }

    async fn import(&mut self, file: &Path, batch: u32, check: bool) -> Result<bool, RunError> {
        let rows = read_csv(file)?;
        if check {
            out(&format!("{} rows, no faults\n", rows.len()));
            return Ok(true);
        }
        let bar = std::io::stderr().is_terminal() && !self.common.json;
        let batch = usize::try_from(batch).unwrap_or(500);
        let done = import::run(access(&self.common)?, rows, batch, bar).await?;
        if self.common.json {
            out(&pretty(&json!(done)));
        } else {
            let users = done.added + done.unchanged;
            let rate = users.saturating_mul(1000) / done.took_ms.max(1);
            let took = super::table::millis(done.took_ms);
            out(&format!(
                "{} added, {} unchanged, {} refused in {took} ({rate} users a second)\n",
                done.added, done.unchanged, done.refused
            ));
            done.refusals.iter().for_each(|(user, why)| out(&format!("  {user}: {why}\n")));
        }
        Ok(done.refused == 0)
    }

    async fn pool(&mut self, command: PoolCommand) -> Result<bool, RunError> {
        match command {
            PoolCommand::Status { wait: None, .. } => self.plain(Command::PoolStatus, Prefer::Any).await,
            PoolCommand::Status { wait: Some(WaitFor::Steady), timeout } => self.wait_steady(timeout).await,
            // They have ways of their own: see [`health`] and [`rolling`].
            PoolCommand::Health { .. } | PoolCommand::Restart { .. } => Ok(true),
            PoolCommand::Sync { name } => {
                self.plain(Command::PoolSync { pool: name.clone() }, Prefer::Pool(name)).await
            }
            PoolCommand::Verify { name } => {
                self.plain(Command::PoolVerify { pool: name.clone() }, Prefer::Pool(name)).await
            }
            PoolCommand::Pair { a, b, accept_unsupported } => {
                self.plain(Command::PoolPair { a, b, accept_unsupported }, Prefer::Any).await
            }
            PoolCommand::Unpair { a, b } => self.plain(Command::PoolUnpair { a, b }, Prefer::Any).await,
            PoolCommand::Failover { name, disaster, dry_run, force, confirm, reason, no_wait } => {
                let prefer = Prefer::PartnerOf(name.clone());
                let command = Command::PoolFailover { pool: name, disaster, dry_run, force, confirm, reason };
                self.procedure(command, prefer, !no_wait).await
            }
            PoolCommand::Failback { name, disaster, dry_run, force, confirm, reason, no_wait } => {
                // It runs at home; without the partner nobody else can be asked.
                let prefer = if disaster { Prefer::Pool(name.clone()) } else { Prefer::PartnerOf(name.clone()) };
                let command = Command::PoolFailback { pool: name, disaster, dry_run, force, confirm, reason };
                self.procedure(command, prefer, !no_wait).await
            }
            PoolCommand::Divergence { name, settle: true, .. } => {
                self.plain(Command::PoolDivergenceSettle { pool: name.clone() }, Prefer::Pool(name)).await
            }
            PoolCommand::Divergence { name, apply, .. } => {
                self.plain(Command::PoolDivergence { pool: name.clone(), apply }, Prefer::Pool(name)).await
            }
            PoolCommand::AssertActive { confirm: false, .. } => Err(RunError::Confirm(
                "this asserts that no other pool was given these users meanwhile: if its partner was promoted, both serve \
                 until they meet, and what this pool then commits becomes a divergent tail. Repeat with --confirm",
            )),
            PoolCommand::AssertActive { name, reason, confirm: true } => {
                self.plain(Command::PoolAssertActive { pool: name.clone(), reason }, Prefer::Only(name)).await
            }
        }
    }

    async fn group(&mut self, command: GroupCommand) -> Result<bool, RunError> {
        let (pool, command) = match command {
            GroupCommand::List { pool } => (pool.clone(), Command::GroupList { pool, group: None }),
            GroupCommand::Show { pool, group } => (pool.clone(), Command::GroupList { pool, group: Some(group) }),
            GroupCommand::Recover { pool, groups, all_without_majority: all, confirm, reason } => {
                (pool.clone(), Command::GroupRecover { pool, groups, all, confirm, reason })
            }
        };
        // A server of that pool is asked, also where no other command can be carried out.
        self.plain(command, Prefer::Pool(pool)).await
    }

    async fn wait_steady(&mut self, timeout: u64) -> Result<bool, RunError> {
        let shown = std::io::stderr().is_terminal() && !self.common.json;
        let mut last = String::new();
        let (view, steady) = procedures::wait_steady(&mut self.session, Duration::from_secs(timeout), |view| {
            let line = seed_line(view);
            if shown && line != last {
                eprintln!("{line}");
                last = line;
            }
        })
        .await?;
        let unpaired = procedures::unpaired(&view);
        self.print(&Reply::Pools(view));
        if !steady && unpaired {
            eprintln!("no pool is paired, so nothing is shipped that could become steady; see `pairline pool health`");
        } else if !steady {
            eprintln!("not steady after {timeout} s");
        }
        Ok(steady)
    }

    async fn procedures(&mut self, command: ProcedureCommand) -> Result<bool, RunError> {
        match command {
            ProcedureCommand::List => self.plain(Command::ProcedureList, Prefer::Any).await,
            ProcedureCommand::Show { id } => {
                let reply = self.session.call(&Command::ProcedureShow { id }, &Prefer::Any).await?;
                self.print(&reply);
                Ok(true)
            }
            ProcedureCommand::Resume { id, no_wait } => {
                self.procedure(Command::ProcedureResume { id }, Prefer::Any, !no_wait).await
            }
            ProcedureCommand::Abort { id, reclaim } => {
                let reply = self.session.call(&Command::ProcedureAbort { id, reclaim }, &Prefer::Any).await?;
                self.print(&reply);
                Ok(true)
            }
        }
    }

    /// Starts a procedure and watches it to its end.
    async fn procedure(&mut self, command: Command, prefer: Prefer, wait: bool) -> Result<bool, RunError> {
        let reply = self.session.call(&command, &prefer).await?;
        let Reply::Procedure(started) = reply else {
            self.print(&reply);
            return Ok(good(&reply));
        };
        if !wait {
            self.print(&Reply::Procedure(started));
            return Ok(true);
        }
        let json = self.common.json;
        let done = procedures::follow(&mut self.session, started, &prefer, |view| {
            if !json {
                eprintln!("{}: {}, step {} of {}", view.kind, view.state, view.steps.0, view.steps.1);
            }
        })
        .await?;
        let good = done.state == "done";
        self.print(&Reply::Procedure(done));
        Ok(good)
    }
}

fn contact(command: ContactCommand) -> Command {
    match command {
        ContactCommand::List { user } => Command::ContactList { user },
        ContactCommand::Put { user, contact, name, groups } => {
            Command::ContactPut { user, contact, name, groups, op: None }
        }
        ContactCommand::Remove { user, contact } => Command::ContactRemove { user, contact, op: None },
    }
}

fn settings(command: SettingsCommand) -> Command {
    match command {
        SettingsCommand::Show { user } => Command::SettingsGet { user },
        SettingsCommand::Set { user, display_name, forward_to, note } => {
            Command::SettingsPut { user, display_name, forward_to, note }
        }
    }
}

/// Whether a reply means success: equality proven, allowed, done, no conflict left.
fn good(reply: &Reply) -> bool {
    match reply {
        Reply::Verify(view) => render_pool::verified_all(view),
        Reply::Plan(view) => view.allowed,
        Reply::GroupRecovery(view) => render_group::good(view),
        Reply::Procedure(view) => view.state != "stopped",
        Reply::Divergence(DivergenceView { entries, .. }) => entries.iter().all(|entry| entry.outcome != "conflict"),
        Reply::Imported { refused, .. } => refused.is_empty(),
        _ => true,
    }
}

fn seed_line(view: &pairline_node::view::PoolsView) -> String {
    let parts: Vec<String> = view
        .shipping
        .iter()
        .map(|s| match s.seed {
            Some((done, all)) => format!("{} -> {} {}: {}, seeded {done} of {all}", s.from, s.to, s.module, s.export),
            None => format!("{} -> {} {}: {}", s.from, s.to, s.module, s.export),
        })
        .collect();
    parts.join("; ")
}

fn read_password(args: &PasswordArgs) -> Result<String, RunError> {
    let mut line = String::new();
    let read = |path: &Path, source| RunError::Read { path: path.to_owned(), source };
    match (&args.password, &args.password_file) {
        (Some(password), _) => line.push_str(password),
        (None, Some(path)) => {
            let file = std::fs::File::open(path).map_err(|e| read(path, e))?;
            std::io::BufReader::new(file.take(4096)).read_line(&mut line).map_err(|e| read(path, e))?;
        }
        (None, None) => {
            if std::io::stdin().is_terminal() {
                eprint!("password: ");
            }
            let stdin = std::io::stdin();
            stdin.lock().take(4096).read_line(&mut line).map_err(|e| read(Path::new("standard input"), e))?;
        }
    }
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() { Err(RunError::NoPassword) } else { Ok(password) }
}

fn read_csv(file: &Path) -> Result<Vec<pairline_node::command::ImportRow>, RunError> {
    let rows = if file == Path::new("-") {
        import_csv::read(std::io::stdin().lock())
    } else {
        let open = std::fs::File::open(file).map_err(|source| RunError::Read { path: file.to_owned(), source })?;
        import_csv::read(std::io::BufReader::new(open))
    };
    rows.map_err(RunError::Faults)
}

/// Text of a JSON value with a newline at its end.
pub fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
pub fn out(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn complain(error: &RunError, json: bool) {
    if json {
        let body = match error {
            RunError::Call(CallError::Refused(problem)) => json!(ProblemBody::of(problem)),
            other => json!({ "type": "urn:pairline:problem:client", "title": "Failed", "detail": other.to_string() }),
        };
        out(&pretty(&body));
        return;
    }
    eprintln!("pairline: {error}");
    match error {
        RunError::Call(CallError::Refused(problem)) if !problem.remedy.is_empty() => eprintln!("  {}", problem.remedy),
        RunError::Call(CallError::Unreachable(tried)) => {
            tried.iter().for_each(|(address, why)| eprintln!("  {address}: {why}"));
            eprintln!(
                "  Start a server (`pairline up`, or `pairline server --config FILE`), or name one with --server."
            );
        }
        RunError::Faults(faults) => {
            for fault in faults {
                eprintln!("  line {}: {}", fault.line, fault.problem);
            }
        }
        _ => {}
    }
}
