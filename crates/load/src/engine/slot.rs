//! One operation under way.
//!
//! Owns its state between messages. Buffers are reused by the next operation in the slot.

use std::net::SocketAddr;

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One REGISTER.
    Register,
    /// One MESSAGE.
    Message,
    /// One whole call.
    Call,
}

impl Kind {
    /// Its name in reports and journals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Message => "message",
            Self::Call => "call",
        }
    }
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the slot is free.
    Free,
    /// The answer to its REGISTER.
    Register,
    /// The answer to its MESSAGE.
    Message,
    /// The answer to its INVITE.
    Invite,
    /// The time to hang up.
    Hold,
    /// The answer to its re-INVITE.
    Reinvite,
    /// The answer to its BYE.
    Bye,
}

impl Step {
    /// Method of the request that is under way.
    pub fn method(self) -> &'static str {
        match self {
            Self::Register => "REGISTER",
            Self::Message => "MESSAGE",
            Self::Invite | Self::Reinvite => "INVITE",
            Self::Free | Self::Hold | Self::Bye => "BYE",
        }
    }

    /// Its name in journals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Message => "message",
            Self::Invite => "invite",
            Self::Reinvite => "reinvite",
            Self::Free | Self::Hold | Self::Bye => "bye",
        }
    }

    /// Whether its request belongs to an established call.
    pub fn in_dialog(self) -> bool {
        matches!(self, Self::Reinvite | Self::Bye)
    }
}

/// One place for an operation.
#[derive(Debug)]
pub struct Slot {
    /// Rises with each transaction, so that a late response is known as such.
    pub generation: u32,
    /// What it is.
    pub kind: Kind,
    /// What it waits for.
    pub step: Step,
    /// Who acts.
    pub user: u32,
    /// Which port it uses.
    pub port: usize,
    /// Which server it talks to.
    pub server: SocketAddr,
    /// When it was due, in nanoseconds of the run.
    pub due: u64,
    /// When its first request was sent.
    pub sent: u64,
    /// Tells its dialog from all others of this thread.
    pub serial: u64,
    /// CSeq of the request under way.
    pub cseq: u32,
    /// Whether the request under way has met a challenge already.
    pub challenged: bool,
    /// Whether a provisional response came.
    pub provisional: bool,
    /// The request under way.
    pub request: Vec<u8>,
    /// The 2xx that made the dialog.
    pub answer: Vec<u8>,
    /// Where the request under way was sent.
    pub target: SocketAddr,
    /// The server that an INVITE went to.
    pub made: SocketAddr,
    /// When a call was established, in nanoseconds of the run; 0: not yet.
    pub up: u64,
    /// Servers that the request of this step was sent to before, without an answer.
    pub tries: u8,
    /// Servers that refused the operation's first request with 503, and that did not answer it, before it went on to the next.
    pub passed: [u8; 2],
    /// Final status of the re-INVITE, if there was one; 0: no answer.
    pub reinvite: Option<u16>,
    /// Seconds that a registrar granted.
    pub granted: Option<u64>,
    /// The words beside a status that is no success.
    pub why: String,
}

impl Slot {
    /// A free slot.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            generation: 0,
            kind: Kind::Register,
            step: Step::Free,
            user: 0,
            port: 0,
            server,
            due: 0,
            sent: 0,
            serial: 0,
            cseq: 0,
            challenged: false,
            provisional: false,
            request: Vec::new(),
            answer: Vec::new(),
            target: server,
            made: server,
            up: 0,
            tries: 0,
            passed: [0; 2],
            reinvite: None,
            granted: None,
            why: String::new(),
        }
    }
}
