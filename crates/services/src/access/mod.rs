//! Deny by default (DESIGN §11): whether a request may come in at all, before any service sees it.
//!
//! Owns the question (which method, from whom to whom, proven how, over what) and the reading of the table's answer. The cells
//! are in `table`. Credentials are checked by who asks for them (`auth`), and looked up again with what they proved.

mod table;

use crate::cx::Cx;
use crate::ident::{Whose, classify};
use crate::metrics::Counter;
use crate::replies;
use crate::settings::DeploymentView;
use crate::trust;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::Aor;

/// From whom to whom. The number is the column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The server or the domain itself is meant.
    ToServer = 0,
    /// One of our users to one of our users.
    OwnToOwn = 1,
    /// One of our users to another domain.
    OwnToOutside = 2,
    /// From another domain to one of our users.
    OutsideToOwn = 3,
    /// Transit.
    OutsideToOutside = 4,
    /// Inside a dialog that was opened through this deployment.
    InDialog = 5,
    /// To an emergency service.
    Emergency = 6,
}

/// How the sender is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Not, or not yet.
    None = 0,
    /// By credentials.
    Digest = 1,
    /// By a certificate that names the user.
    Certificate = 2,
    /// By a trusted peer, or by the other pool.
    Peer = 3,
}

/// Over what it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Anybody on the way can read and write.
    Open = 0,
    /// Encrypted.
    Secure = 1,
}

/// What a cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on.
    Allow,
    /// Credentials are needed first.
    Challenge,
    /// An emergency call: as the policy says.
    EmergencyPolicy,
    /// Its event package's service decides.
    Package,
    /// Refused with this status.
    Refuse(u16),
}

/// Whom From names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user of ours, proven or not.
    Own(Aor),
    /// Nobody: the name is hidden, the credentials are not (RFC 3323).
    Anonymous,
    /// Somebody of another domain, or no user at all.
    Outside,
    /// Was not asked: it makes no difference.
    Unread,
}

/// A request that may go on, or may once its sender has shown credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whom From names.
    pub origin: Origin,
    /// What is proven without credentials.
    pub proof: Proof,
    /// Whether credentials are needed.
    pub challenge: bool,
    row: usize,
    direction: Direction,
    class: Class,
}

impl Entry {
    /// What the table says once the sender has shown right credentials.
    pub fn with_digest(&self) -> Verdict {
        cell(self.row, self.direction, Proof::Digest, self.class)
    }
}

/// Over what a flow runs.
pub fn class_of(transport: Transport) -> Class {
    match transport {
        Transport::Udp | Transport::Tcp | Transport::Ws => Class::Open,
        Transport::Tls | Transport::Wss | Transport::Peer => Class::Secure,
    }
}

fn row_of(method: &Method) -> usize {
    match method {
        Method::Register => 0,
        Method::Invite => 1,
        Method::Message => 2,
        Method::Options => 3,
        Method::Refer => 4,
        Method::Bye => 5,
        Method::Info => 6,
        Method::Update => 7,
        Method::Prack => 8,
        Method::Subscribe => 9,
        Method::Notify => 10,
        Method::Publish => 11,
        Method::Ack | Method::Cancel | Method::Extension(_) => 12,
    }
}

fn cell(row: usize, direction: Direction, proof: Proof, class: Class) -> Verdict {
    let letters = table::TABLE[row].1[direction as usize].as_bytes();
    match letters[proof as usize * 3 + class as usize] {
        b'A' => Verdict::Allow,
        b'C' => Verdict::Challenge,
        b'Y' => Verdict::EmergencyPolicy,
        b'P' => Verdict::Package,
        b'N' => Verdict::Refuse(404),
        b'M' => Verdict::Refuse(405),
        b'U' => Verdict::Refuse(501),
        _ => Verdict::Refuse(403),
    }
}

/// What the table says of a method in that direction, proven so, over that.
pub fn verdict(method: &Method, direction: Direction, proof: Proof, class: Class) -> Verdict {
    cell(row_of(method), direction, proof, class)
}

/// Whether the table lets users register by their credentials over that flow: for what is decided without a task.
pub(crate) fn registers_by_digest(flow: Flow) -> bool {
    let class = class_of(flow.transport);
    let asked = verdict(&Method::Register, Direction::ToServer, Proof::None, class) == Verdict::Challenge;
    asked && verdict(&Method::Register, Direction::ToServer, Proof::Digest, class) == Verdict::Allow
}

/// A request inside a dialog of ours: whether it may go on. If not, the answer is on its way.
pub fn admit_in_dialog<C: Cx>(cx: &C, request: &Message, flow: Flow) -> bool {
    match verdict(request.method(), Direction::InDialog, Proof::None, class_of(flow.transport)) {
        Verdict::Refuse(status) => {
            refuse(cx, request, Direction::InDialog, status);
            false
        }
        _ => true,
    }
}

/// A request outside a dialog: who sends it to whom, and whether it may go on; `None` if not, and the answer is on its way.
pub fn admit<C: Cx>(cx: &C, request: &Message, flow: Flow, whose: &Whose) -> Option<Entry> {
    let view = cx.view();
    let row = row_of(request.method());
    let class = class_of(flow.transport);
    let registers = *request.method() == Method::Register;
    let origin = match whose {
        _ if registers => Origin::Unread,
        Whose::Server => Origin::Unread,
        _ => origin(&view, request),
    };
    let direction = match (whose, &origin) {
        (Whose::Emergency, _) => Direction::Emergency,
        (Whose::Server, _) => Direction::ToServer,
        (Whose::User(_), Origin::Unread) => Direction::ToServer,
        (Whose::User(_), Origin::Outside) => Direction::OutsideToOwn,
        (Whose::User(_), _) => Direction::OwnToOwn,
        (_, Origin::Outside) => Direction::OutsideToOutside,
        (_, _) => Direction::OwnToOutside,
    };
    let proof = if origin == Origin::Unread { Proof::None } else { proof(cx, &view, request, flow, &origin) };
    let challenge = match cell(row, direction, proof, class) {
        Verdict::Refuse(status) => {
            refuse(cx, request, direction, status);
            return None;
        }
        Verdict::Challenge => true,
        Verdict::EmergencyPolicy => !view.proxy.emergency.unauthenticated,
        Verdict::Allow | Verdict::Package => false,
    };
    Some(Entry { origin, proof, challenge, row, direction, class })
}

fn origin(view: &DeploymentView, request: &Message) -> Origin {
    let uri = request.from().uri;
    match classify(view, uri) {
        Whose::User(user) => Origin::Own(user),
        Whose::Foreign if is_anonymous(uri) => Origin::Anonymous,
        _ => Origin::Outside,
    }
}

fn is_anonymous(uri: &[u8]) -> bool {
    let lower = uri.to_ascii_lowercase();
    lower.ends_with(b"@anonymous.invalid") || lower == b"sip:anonymous.invalid"
}

/// What is proven without credentials. A peer vouches for its own callers by sending, and for a user of ours only in so many
/// words: by a P-Asserted-Identity.
fn proof<C: Cx>(cx: &C, view: &DeploymentView, request: &Message, flow: Flow, origin: &Origin) -> Proof {
    let vouched = !matches!(origin, Origin::Own(_)) || request.has(Name::PAssertedIdentity);
    if trust::by_partner(request, flow) || (vouched && trust::peer(cx, view, flow).is_some()) {
        return Proof::Peer;
    }
    match origin {
        Origin::Own(user) if trust::is_user(cx, view, flow, user) => Proof::Certificate,
        _ => Proof::None,
    }
}

/// The answer to what is refused: a status with its reason in words.
pub(crate) fn refuse<C: Cx>(cx: &C, request: &Message, direction: Direction, status: u16) {
    cx.count(Counter::Refused);
    let reason = match (status, direction) {
        (404, _) => "No User Named",
        (405, _) => "Method Not Allowed",
        (501, _) => "Method Not Known Here",
        (_, Direction::OutsideToOwn) => "Caller Of Another Domain",
        (_, Direction::OutsideToOutside) => "No Transit",
        (_, Direction::OwnToOutside) => "Not Our Domain",
        _ => "Not Allowed",
    };
    match status {
        405 | 501 => replies::refuse_with(cx, request, status, reason, &[("Allow", replies::ALLOW)]),
        _ => replies::refuse(cx, request, status, reason),
    }
}

/// One cell, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cell {
    /// Method; `*` is every other.
    pub method: &'static str,
    /// From whom to whom.
    pub direction: &'static str,
    /// How the sender is proven.
    pub proof: &'static str,
    /// Over what.
    pub transport: &'static str,
    /// What becomes of it.
    pub verdict: &'static str,
}

/// The whole table, cell by cell, in a stable order.
pub fn cells() -> impl Iterator<Item = Cell> {
    table::TABLE.iter().flat_map(|(method, directions)| {
        directions.iter().zip(table::DIRECTIONS).flat_map(move |(letters, direction)| {
            table::PROOFS.iter().enumerate().flat_map(move |(p, proof)| {
                table::TRANSPORTS.iter().enumerate().map(move |(t, transport)| {
                    let verdict = words(letters.as_bytes()[p * 3 + t]);
                    Cell { method, direction, proof, transport, verdict }
                })
            })
        })
    })
}

fn words(letter: u8) -> &'static str {
    match letter {
        b'A' => "allow",
        b'C' => "challenge",
        b'Y' => "allow or challenge by policy",
        b'P' => "by event package, else 489",
        b'N' => "refuse 404",
        b'M' => "refuse 405",
        b'U' => "refuse 501",
        b'-' => "cannot be",
        _ => "refuse 403",
    }
}
