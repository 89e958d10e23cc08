//! Questions to the DNS and the records in its answers, as far as RFC 3263 needs them. Knows nothing of their bytes.

use std::net::IpAddr;

/// The most records of one answer that are looked at.
pub const MAX_RECORDS: usize = 64;

/// What is asked of the DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// NAPTR (RFC 3403).
    Naptr,
    /// SRV (RFC 2782).
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, without a trailing dot, in lower case.
    pub name: String,
    /// The record type.
    pub kind: Kind,
}

/// A NAPTR record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    /// Lower is first; only records of the first order that fits are used (RFC 3403 §4.1).
    pub order: u16,
    /// Lower is first within an order.
    pub preference: u16,
    /// The flags; only `s` is followed.
    pub flags: String,
    /// The service, such as `SIP+D2U`.
    pub service: String,
    /// The name of the SRV records.
    pub replacement: String,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower is first.
    pub priority: u16,
    /// Share among equal priorities.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; `.` or nothing: the service is decidedly not there.
    pub target: String,
}

impl Srv {
    /// Whether the record says that the service is not offered at all (RFC 2782).
    pub(super) fn is_denial(&self) -> bool {
        self.target.trim_end_matches('.').is_empty()
    }
}

/// The answer to the last question; empty or `Missing` when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// To a NAPTR question.
    Naptr(Vec<Naptr>),
    /// To an SRV question.
    Srv(Vec<Srv>),
    /// To an A or AAAA question.
    Addresses(Vec<IpAddr>),
    /// No such name or record, or the query failed.
    Missing,
}
