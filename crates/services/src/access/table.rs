//! Who may send what: method × direction × proof × transport, as data. Whatever is not written here as allowed is refused.
//!
//! Owns the cells and nothing else. `pairline policy table` prints them; a test goes through every one.

/// Directions, in the order of the columns.
pub(super) const DIRECTIONS: [&str; 7] = [
    "to this server",
    "own user to own user",
    "own user to outside",
    "outside to own user",
    "outside to outside",
    "in dialog",
    "emergency",
];

/// Proofs, in the order of the pairs in a cell. A certificate is a user's own; a peer is one of the trusted peers, or the other
/// pool, which authenticated the user.
pub(super) const PROOFS: [&str; 4] = ["none", "digest", "certificate", "trusted peer"];

/// Transports, in the order within a pair: open (UDP, TCP, WS), secure (TLS, WSS, the link between pools).
pub(super) const TRANSPORTS: [&str; 2] = ["open", "secure"];

/// A method, and its cells by direction. Each cell has a pair a proof, each pair a letter a transport:
///
/// * `A` allowed
/// * `C` asked for credentials: 401 of the registrar, 407 of the proxy
/// * `Y` allowed, unless the policy of emergency calls asks for credentials
/// * `P` up to the service of its event package; 489 if there is none
/// * `F` 403
/// * `N` 404: no user is named
/// * `M` 405 with Allow
/// * `U` 501: the method is not known here
/// * `-` cannot be; refused all the same: a certificate needs TLS
///
/// A REGISTER is to this server also where its Request-URI names a user. ACK and CANCEL belong to the transaction that they
/// name. `*` is every other method: on the way to a user it is not this server's to know (RFC 3261 §16.3), but only a proven
/// sender has that way. Inside a dialog the proof is the mark in the Route that this deployment wrote when the dialog was
/// opened.
#[rustfmt::skip]
pub(super) const TABLE: [(&str, [&str; 7]); 13] = [
    //             to this server  own to own     own to outside outside to own outside x2     in dialog      emergency
    ("REGISTER",  ["CC AA -A CC", "CC AA -A CC", "FF FF -F FF", "CC FF -F CC", "FF FF -F FF", "FF FF -F FF", "FF FF -F FF"]),
    ("INVITE",    ["NN NN -N NN", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "YY AA -A AA"]),
    ("MESSAGE",   ["NN NN -N NN", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "YY AA -A AA"]),
    ("OPTIONS",   ["AA AA -A AA", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("REFER",     ["NN NN -N NN", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("BYE",       ["NN NN -N NN", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("INFO",      ["NN NN -N NN", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("UPDATE",    ["NN NN -N NN", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("PRACK",     ["NN NN -N NN", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("SUBSCRIBE", ["PP PP -P PP", "PP PP -P PP", "FF FF -F FF", "FF FF -F PP", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("NOTIFY",    ["PP PP -P PP", "PP PP -P PP", "FF FF -F FF", "FF FF -F PP", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("PUBLISH",   ["MM MM -M MM", "MM MM -M MM", "FF FF -F FF", "FF FF -F MM", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
    ("*",         ["UU UU -U UU", "CC AA -A AA", "CC AA -A AA", "FF FF -F AA", "FF FF -F FF", "AA AA -A AA", "FF FF -F FF"]),
];
