//! What the admin API shows: plain data for people and machines.
//!
//! Owns the shapes of answers. Computes nothing.

mod groups;

pub use groups::{GroupCopy, GroupCopyView, GroupRecoverView, GroupRecoveryView, GroupView, GroupsView, RecoveryView};

use serde::{Deserialize, Serialize};

/// One user in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// `sip:user@domain`.
    pub user: String,
    /// Name of the home pool.
    pub home: String,
    /// Shown to others, if read from a local copy.
    pub display_name: Option<String>,
}

/// Where a user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereView {
    /// `sip:user@domain`.
    pub user: String,
    /// Name of the home pool.
    pub home: String,
    /// Name of the serving pool, `None` in resiliency mode.
    pub serving: Option<String>,
    /// `here`, `elsewhere`, `resiliency`, `unavailable`.
    pub place: String,
    /// Routing group.
    pub group: String,
    /// Epoch of the group as known here.
    pub epoch: String,
    /// Bindings, guests included.
    pub bindings: Vec<BindingView>,
}

/// One binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingView {
    /// Whose.
    pub user: String,
    /// Contact URI.
    pub contact: String,
    /// Transport and remote address of its flow.
    pub flow: String,
    /// Pool that owns the flow.
    pub pool: String,
    /// Seconds until it expires.
    pub expires_in: u64,
    /// q in thousandths.
    pub q: u16,
    /// `reachable`, `through-server` (of this pool), `through-partner` or `stranded`.
    pub reach: String,
    /// Whether it is a guest binding.
    pub guest: bool,
    /// The client's name.
    pub user_agent: String,
}

/// One contact of a user's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactView {
    /// Address.
    pub contact: String,
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// A user's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsView {
    /// Whose.
    pub user: String,
    /// Shown to others.
    pub display_name: Option<String>,
    /// Call-forward target.
    pub forward_to: Option<String>,
    /// A note.
    pub note: Option<String>,
}

/// All pools, as the answering server sees them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolsView {
    /// The answering server's name.
    pub seen_by: String,
    /// Each pool.
    pub pools: Vec<PoolView>,
    /// Each direction of each pairing and module.
    pub shipping: Vec<ShippingView>,
    /// What is not replicated.
    pub exclusions: Vec<String>,
    /// Open alarms, in words.
    pub alarms: Vec<String>,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// Short name.
    pub name: String,
    /// FQDN.
    pub fqdn: String,
    /// Site.
    pub site: String,
    /// Partner, if paired.
    pub partner: Option<String>,
    /// Mode, in the words of DESIGN §8.
    pub mode: String,
    /// Why it is in that mode, and since when (seconds).
    pub mode_reason: String,
    /// Seconds in that mode.
    pub mode_since: u64,
    /// Whether the answering server hears it (own pool: true).
    pub alive: bool,
    /// Groups that the pool serves now, of its own and of its partner's.
    pub serving_own: u32,
    /// Of the partner's.
    pub serving_partner: u32,
    /// Its routing groups.
    pub groups: u32,
    /// Whether it serves the management store.
    pub management_store: bool,
    /// Entries in stored divergent tails, still open.
    pub tail: u64,
    /// Highest epoch among its groups.
    pub epoch: u64,
}

/// One direction of shipping, one module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShippingView {
    /// Source pool.
    pub from: String,
    /// Target pool.
    pub to: String,
    /// `user-data` or `management-store`.
    pub module: String,
    /// Export state, DESIGN §2.
    pub export: String,
    /// Import state, DESIGN §2.
    pub import: String,
    /// Seconds; `None` = unknown.
    pub lag_seconds: Option<f64>,
    /// Whether the lag is an upper bound ("≤").
    pub lag_is_bound: bool,
    /// Entries that would be lost now.
    pub behind_entries: u64,
    /// Their bytes.
    pub behind_bytes: u64,
    /// Records seeded so far and in all, while a seed runs.
    pub seed: Option<(u64, u64)>,
    /// Groups whose last verification was equal, of how many.
    pub verified_groups: (u32, u32),
    /// Wall-clock milliseconds of the oldest last proven equality.
    pub verified_at: Option<u64>,
}

/// Health of pools' servers and copies, as the answering server hears it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthView {
    /// The answering server's name.
    pub seen_by: String,
    /// Each pool that was asked for.
    pub pools: Vec<PoolHealthView>,
}

/// Health of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHealthView {
    /// Short name.
    pub pool: String,
    /// `healthy`, `degraded`, `no-majority` (of some group), `unknown` (nobody of it answers).
    pub state: String,
    /// Each server.
    pub servers: Vec<ServerHealthView>,
    /// Groups in all, the management store counted where it is at home.
    pub groups: u32,
    /// Those that are not as they should be.
    pub troubled: Vec<GroupHealthView>,
    /// What may fail now, in words.
    pub survives: String,
    /// What happens next and what there is to do, in words.
    pub next: Vec<String>,
}

/// One server of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealthView {
    /// Its name.
    pub server: String,
    /// Whether it answers.
    pub up: bool,
    /// The same in words.
    pub heard: String,
    /// Groups that it leads.
    pub leads: u32,
    /// Groups that it has a copy of that takes part.
    pub copies: u32,
    /// Groups that it should have a copy of.
    pub of_copies: u32,
    /// Copies that lack more than what is on its way.
    pub behind: u32,
    /// Whether it is the pool's witness: what is said of copies is then said of votes.
    #[serde(default)]
    pub witness: bool,
}

/// One group that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHealthView {
    /// Which.
    pub group: String,
    /// `no-majority`, `no-leader`, `not-opened`, `fewer-copies`, `behind`, `moving`.
    pub state: String,
    /// The server that leads it.
    pub leader: Option<String>,
    /// Copies that take part.
    pub copies: u32,
    /// Of how many.
    pub of_copies: u32,
    /// Servers whose copies do not.
    pub missing: Vec<String>,
    /// Servers whose copies are behind.
    pub behind: Vec<String>,
    /// Servers whose copies have stopped, and why.
    pub stopped: Vec<(String, String)>,
}

/// One copy, as its server tells the others of its pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyView {
    /// Number of the group's home pool; 0 for the management store.
    pub pool: u16,
    /// Number of the group there.
    pub index: u16,
    /// Whether this server leads it.
    pub leads: bool,
    /// Sequence up to which it is applied.
    pub sequence: u64,
    /// If it leads: what each other server's copy is not known to have (number of the server, items).
    #[serde(default)]
    pub behind: Vec<(u32, u64)>,
    /// If it leads: the servers whose copies vote; none where one of an earlier build says it.
    #[serde(default)]
    pub voters: Vec<u32>,
    /// If it has stopped: why.
    #[serde(default)]
    pub stopped: Option<String>,
}

/// Outcome of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyView {
    /// Home pool of the groups.
    pub pool: String,
    /// Groups compared.
    pub groups: u32,
    /// Groups that are equal.
    pub equal: u32,
    /// Those that differ: group, position, ranges.
    pub unequal: Vec<(String, String, Vec<u16>)>,
    /// Those that could not be compared, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// A plan and its findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// Whether it may run.
    pub allowed: bool,
    /// Findings: rule, verdict (`ok`, `warn`, `refuse`), reason, remedy.
    pub findings: Vec<FindingView>,
    /// The plan as text.
    pub plan: String,
    /// What would be lost, in words.
    pub expected_loss: String,
}

/// One finding of preflight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// Rule's name.
    pub rule: String,
    /// `ok`, `warn` or `refuse`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// A procedure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcedureView {
    /// Id in hex.
    pub id: String,
    /// `failover`, `failback`, `management-failover`, …
    pub kind: String,
    /// Affected pool.
    pub pool: String,
    /// `running`, `done`, `stopped`, `aborted`, `superseded`.
    pub state: String,
    /// Steps done, of how many.
    pub steps: (u32, u32),
    /// Who started it.
    pub operator: String,
    /// Wall-clock milliseconds of its start.
    pub started: u64,
    /// If stopped: why, and what to do. If it runs at a pool that could not be asked: so.
    pub stopped: Option<String>,
    /// The pool where it runs; only that one knows whether it still does.
    #[serde(default)]
    pub runs_at: String,
    /// The plan as text.
    pub plan: String,
    /// The report, once done.
    pub report: Option<ReportView>,
}

/// Report of a procedure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportView {
    /// As a text table.
    pub text: String,
    /// Milliseconds by stage, in order.
    pub stages: Vec<(String, u64)>,
    /// Recovery point per group: (group, position promised, position actual).
    pub recovery_points: Vec<(String, String, String)>,
    /// Upper bound of the loss window in milliseconds that was promised; `None` = unknown.
    pub promised_lag_ms: Option<u64>,
}

/// The divergent tail of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergenceView {
    /// The returned pool.
    pub pool: String,
    /// Entry by entry.
    pub entries: Vec<TailEntryView>,
}

/// One entry of a tail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailEntryView {
    /// Group.
    pub group: String,
    /// Position.
    pub position: String,
    /// Wall-clock label in milliseconds.
    pub time: u64,
    /// Operation id (`session:counter` in hex), if any.
    pub op: Option<String>,
    /// Whether it has durable effects.
    pub durable: bool,
    /// Records that it touches, in words.
    pub records: Vec<String>,
    /// `open`, `applied`, `skipped`, `conflict`, `discarded`, `given-up`.
    pub outcome: String,
    /// Why, where that is not plain.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One metric sample: name, labels, value.
pub type Sample = (String, Vec<(String, String)>, f64);

/// Health and numbers of the answering server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Server name.
    pub server: String,
    /// Pool name.
    pub pool: String,
    /// Whether it can serve in full.
    pub healthy: bool,
    /// Number of this start of its process.
    #[serde(default)]
    pub start: u64,
    /// Whether it is drained.
    #[serde(default)]
    pub drained: bool,
    /// Metric samples: name, labels, value (names as on `/metrics`).
    pub samples: Vec<Sample>,
}
