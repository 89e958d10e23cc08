//! Header names: known ids with compact forms folded in. Owns the table of names, not their values.

/// A known header, or [`Name::Other`]. Compact forms (RFC 3261 §7.3.3) have the id of the long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Name {
    /// `Via`, compact `v`.
    Via,
    /// `From`, compact `f`.
    From,
    /// `To`, compact `t`.
    To,
    /// `Call-ID`, compact `i`.
    CallId,
    /// `CSeq`.
    CSeq,
    /// `Max-Forwards`.
    MaxForwards,
    /// `Content-Length`, compact `l`.
    ContentLength,
    /// `Contact`, compact `m`.
    Contact,
    /// `Expires`.
    Expires,
    /// `Route`.
    Route,
    /// `Record-Route`.
    RecordRoute,
    /// `Path`.
    Path,
    /// `Content-Type`, compact `c`.
    ContentType,
    /// `Content-Encoding`, compact `e`.
    ContentEncoding,
    /// `Content-Disposition`.
    ContentDisposition,
    /// `Content-Language`.
    ContentLanguage,
    /// `MIME-Version`.
    MimeVersion,
    /// `Supported`, compact `k`.
    Supported,
    /// `Require`.
    Require,
    /// `Proxy-Require`.
    ProxyRequire,
    /// `Unsupported`.
    Unsupported,
    /// `Allow`.
    Allow,
    /// `Accept`.
    Accept,
    /// `Accept-Encoding`.
    AcceptEncoding,
    /// `Accept-Language`.
    AcceptLanguage,
    /// `Accept-Contact`, compact `a`.
    AcceptContact,
    /// `Reject-Contact`, compact `j`.
    RejectContact,
    /// `Request-Disposition`, compact `d`.
    RequestDisposition,
    /// `Authorization`.
    Authorization,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `WWW-Authenticate`.
    WwwAuthenticate,
    /// `Proxy-Authenticate`.
    ProxyAuthenticate,
    /// `Authentication-Info`.
    AuthenticationInfo,
    /// `Event`, compact `o`.
    Event,
    /// `Allow-Events`, compact `u`.
    AllowEvents,
    /// `Subscription-State`.
    SubscriptionState,
    /// `SIP-ETag`.
    SipEtag,
    /// `SIP-If-Match`.
    SipIfMatch,
    /// `Refer-To`, compact `r`.
    ReferTo,
    /// `Referred-By`, compact `b`.
    ReferredBy,
    /// `Refer-Sub`.
    ReferSub,
    /// `Replaces`.
    Replaces,
    /// `Join`.
    Join,
    /// `Target-Dialog`.
    TargetDialog,
    /// `RSeq`.
    RSeq,
    /// `RAck`.
    RAck,
    /// `Session-Expires`, compact `x`.
    SessionExpires,
    /// `Min-SE`.
    MinSe,
    /// `Min-Expires`.
    MinExpires,
    /// `Retry-After`.
    RetryAfter,
    /// `Reason`.
    Reason,
    /// `Warning`.
    Warning,
    /// `Date`.
    Date,
    /// `Timestamp`.
    Timestamp,
    /// `Subject`, compact `s`.
    Subject,
    /// `Priority`.
    Priority,
    /// `User-Agent`.
    UserAgent,
    /// `Server`.
    Server,
    /// `Organization`.
    Organization,
    /// `Call-Info`.
    CallInfo,
    /// `Alert-Info`.
    AlertInfo,
    /// `Error-Info`.
    ErrorInfo,
    /// `In-Reply-To`.
    InReplyTo,
    /// `Reply-To`.
    ReplyTo,
    /// `P-Asserted-Identity`.
    PAssertedIdentity,
    /// `P-Preferred-Identity`.
    PPreferredIdentity,
    /// `P-Access-Network-Info`.
    PAccessNetworkInfo,
    /// `Privacy`.
    Privacy,
    /// `Identity`, compact `y`.
    Identity,
    /// `Identity-Info`, compact `n`.
    IdentityInfo,
    /// `History-Info`.
    HistoryInfo,
    /// `Diversion`.
    Diversion,
    /// `Service-Route`.
    ServiceRoute,
    /// `Flow-Timer`.
    FlowTimer,
    /// `Max-Breadth`.
    MaxBreadth,
    /// `Geolocation`.
    Geolocation,
    /// `Resource-Priority`.
    ResourcePriority,
    /// `Recv-Info`.
    RecvInfo,
    /// `Info-Package`.
    InfoPackage,
    /// `Feature-Caps`.
    FeatureCaps,
    /// A header without an id here; compare its bytes.
    Other,
}

impl Name {
    /// The canonical long form; empty for [`Name::Other`].
    pub fn as_str(self) -> &'static str {
        CANONICAL[usize::from(self as u8)]
    }

    /// The id of a header name as received, in any case; the compact forms included.
    pub fn from_bytes(name: &[u8]) -> Name {
        match name.len() {
            0 | 1 => name.first().map_or(Name::Other, |&b| compact(b)),
            2 => pick(name, &LEN_2),
            3 => pick(name, &LEN_3),
            4 => pick(name, &LEN_4),
            5 => pick(name, &LEN_5),
            6 => pick(name, &LEN_6),
            7 => pick(name, &LEN_7),
            8 => pick(name, &LEN_8),
            9 => pick(name, &LEN_9),
            10 => pick(name, &LEN_10),
            11 => pick(name, &LEN_11),
            12 => pick(name, &LEN_12),
            13 => pick(name, &LEN_13),
            14 => pick(name, &LEN_14),
            15 => pick(name, &LEN_15),
            16 => pick(name, &LEN_16),
            17 => pick(name, &LEN_17),
            18 => pick(name, &LEN_18),
            19 => pick(name, &LEN_19),
            20 => pick(name, &LEN_20),
            21 => pick(name, &LEN_21),
            _ => Name::Other,
        }
    }

    /// One bit per name, for sets of names.
    pub(crate) fn bit(self) -> u128 {
        1u128 << (self as u8)
    }

    /// Whether RFC grammar allows the header only once in a message.
    pub(crate) fn is_single(self) -> bool {
        SINGLE & self.bit() != 0
    }
}

fn pick(name: &[u8], candidates: &[(&str, Name)]) -> Name {
    // The first letter folded decides nearly always before the full comparison.
    let first = name[0] | 0x20;
    for (text, id) in candidates {
        let text = text.as_bytes();
        if text[0] | 0x20 == first && (text == name || text.eq_ignore_ascii_case(name)) {
            return *id;
        }
    }
    Name::Other
}

fn compact(letter: u8) -> Name {
    match letter.to_ascii_lowercase() {
        b'a' => Name::AcceptContact,
        b'b' => Name::ReferredBy,
        b'c' => Name::ContentType,
        b'd' => Name::RequestDisposition,
        b'e' => Name::ContentEncoding,
        b'f' => Name::From,
        b'i' => Name::CallId,
        b'j' => Name::RejectContact,
        b'k' => Name::Supported,
        b'l' => Name::ContentLength,
        b'm' => Name::Contact,
        b'n' => Name::IdentityInfo,
        b'o' => Name::Event,
        b'r' => Name::ReferTo,
        b's' => Name::Subject,
        b't' => Name::To,
        b'u' => Name::AllowEvents,
        b'v' => Name::Via,
        b'x' => Name::SessionExpires,
        b'y' => Name::Identity,
        _ => Name::Other,
    }
}

// Only headers whose repetition could make two readers see two different messages; a doubled
// User-Agent harms nobody.
const SINGLE: u128 = (1 << Name::From as u8)
    | (1 << Name::To as u8)
    | (1 << Name::CallId as u8)
    | (1 << Name::CSeq as u8)
    | (1 << Name::MaxForwards as u8)
    | (1 << Name::ContentLength as u8)
    | (1 << Name::Expires as u8)
    | (1 << Name::ContentType as u8)
    | (1 << Name::Event as u8)
    | (1 << Name::SubscriptionState as u8)
    | (1 << Name::SipIfMatch as u8)
    | (1 << Name::ReferTo as u8)
    | (1 << Name::Replaces as u8)
    | (1 << Name::Join as u8)
    | (1 << Name::RSeq as u8)
    | (1 << Name::RAck as u8)
    | (1 << Name::SessionExpires as u8)
    | (1 << Name::MaxBreadth as u8);

const CANONICAL: [&str; 81] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Max-Forwards",
    "Content-Length",
    "Contact",
    "Expires",
    "Route",
    "Record-Route",
    "Path",
    "Content-Type",
    "Content-Encoding",
    "Content-Disposition",
    "Content-Language",
    "MIME-Version",
    "Supported",
    "Require",
    "Proxy-Require",
    "Unsupported",
    "Allow",
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Accept-Contact",
    "Reject-Contact",
    "Request-Disposition",
    "Authorization",
    "Proxy-Authorization",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Authentication-Info",
    "Event",
    "Allow-Events",
    "Subscription-State",
    "SIP-ETag",
    "SIP-If-Match",
    "Refer-To",
    "Referred-By",
    "Refer-Sub",
    "Replaces",
    "Join",
    "Target-Dialog",
    "RSeq",
    "RAck",
    "Session-Expires",
    "Min-SE",
    "Min-Expires",
    "Retry-After",
    "Reason",
    "Warning",
    "Date",
    "Timestamp",
    "Subject",
    "Priority",
    "User-Agent",
    "Server",
    "Organization",
    "Call-Info",
    "Alert-Info",
    "Error-Info",
    "In-Reply-To",
    "Reply-To",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "P-Access-Network-Info",
    "Privacy",
    "Identity",
    "Identity-Info",
    "History-Info",
    "Diversion",
    "Service-Route",
    "Flow-Timer",
    "Max-Breadth",
    "Geolocation",
    "Resource-Priority",
    "Recv-Info",
    "Info-Package",
    "Feature-Caps",
    "",
];

const LEN_2: [(&str, Name); 1] = [("To", Name::To)];
const LEN_3: [(&str, Name); 1] = [("Via", Name::Via)];
const LEN_4: [(&str, Name); 7] = [
    ("From", Name::From),
    ("CSeq", Name::CSeq),
    ("Path", Name::Path),
    ("Join", Name::Join),
    ("RSeq", Name::RSeq),
    ("RAck", Name::RAck),
    ("Date", Name::Date),
];
const LEN_5: [(&str, Name); 3] = [("Route", Name::Route), ("Allow", Name::Allow), ("Event", Name::Event)];
const LEN_6: [(&str, Name); 4] =
    [("Accept", Name::Accept), ("Min-SE", Name::MinSe), ("Reason", Name::Reason), ("Server", Name::Server)];
const LEN_7: [(&str, Name); 7] = [
    ("Call-ID", Name::CallId),
    ("Contact", Name::Contact),
    ("Expires", Name::Expires),
    ("Require", Name::Require),
    ("Warning", Name::Warning),
    ("Subject", Name::Subject),
    ("Privacy", Name::Privacy),
];
const LEN_8: [(&str, Name); 6] = [
    ("SIP-ETag", Name::SipEtag),
    ("Refer-To", Name::ReferTo),
    ("Replaces", Name::Replaces),
    ("Priority", Name::Priority),
    ("Reply-To", Name::ReplyTo),
    ("Identity", Name::Identity),
];
const LEN_9: [(&str, Name); 6] = [
    ("Supported", Name::Supported),
    ("Refer-Sub", Name::ReferSub),
    ("Timestamp", Name::Timestamp),
    ("Call-Info", Name::CallInfo),
    ("Diversion", Name::Diversion),
    ("Recv-Info", Name::RecvInfo),
];
const LEN_10: [(&str, Name); 4] = [
    ("User-Agent", Name::UserAgent),
    ("Alert-Info", Name::AlertInfo),
    ("Error-Info", Name::ErrorInfo),
    ("Flow-Timer", Name::FlowTimer),
];
const LEN_11: [(&str, Name); 7] = [
    ("Unsupported", Name::Unsupported),
    ("Referred-By", Name::ReferredBy),
    ("Min-Expires", Name::MinExpires),
    ("Retry-After", Name::RetryAfter),
    ("In-Reply-To", Name::InReplyTo),
    ("Max-Breadth", Name::MaxBreadth),
    ("Geolocation", Name::Geolocation),
];
const LEN_12: [(&str, Name); 10] = [
    ("Max-Forwards", Name::MaxForwards),
    ("Record-Route", Name::RecordRoute),
    ("Content-Type", Name::ContentType),
    ("MIME-Version", Name::MimeVersion),
    ("Allow-Events", Name::AllowEvents),
    ("SIP-If-Match", Name::SipIfMatch),
    ("Organization", Name::Organization),
    ("History-Info", Name::HistoryInfo),
    ("Info-Package", Name::InfoPackage),
    ("Feature-Caps", Name::FeatureCaps),
];
const LEN_13: [(&str, Name); 5] = [
    ("Proxy-Require", Name::ProxyRequire),
    ("Authorization", Name::Authorization),
    ("Target-Dialog", Name::TargetDialog),
    ("Identity-Info", Name::IdentityInfo),
    ("Service-Route", Name::ServiceRoute),
];
const LEN_14: [(&str, Name); 3] = [
    ("Content-Length", Name::ContentLength),
    ("Accept-Contact", Name::AcceptContact),
    ("Reject-Contact", Name::RejectContact),
];
const LEN_15: [(&str, Name); 3] = [
    ("Accept-Encoding", Name::AcceptEncoding),
    ("Accept-Language", Name::AcceptLanguage),
    ("Session-Expires", Name::SessionExpires),
];
const LEN_16: [(&str, Name); 3] = [
    ("Content-Encoding", Name::ContentEncoding),
    ("Content-Language", Name::ContentLanguage),
    ("WWW-Authenticate", Name::WwwAuthenticate),
];
const LEN_17: [(&str, Name); 1] = [("Resource-Priority", Name::ResourcePriority)];
const LEN_18: [(&str, Name); 2] =
    [("Proxy-Authenticate", Name::ProxyAuthenticate), ("Subscription-State", Name::SubscriptionState)];
const LEN_19: [(&str, Name); 5] = [
    ("Content-Disposition", Name::ContentDisposition),
    ("Request-Disposition", Name::RequestDisposition),
    ("Proxy-Authorization", Name::ProxyAuthorization),
    ("Authentication-Info", Name::AuthenticationInfo),
    ("P-Asserted-Identity", Name::PAssertedIdentity),
];
const LEN_20: [(&str, Name); 1] = [("P-Preferred-Identity", Name::PPreferredIdentity)];
const LEN_21: [(&str, Name); 1] = [("P-Access-Network-Info", Name::PAccessNetworkInfo)];
