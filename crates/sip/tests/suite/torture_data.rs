//! The 49 messages of RFC 4475 with the verdict of this parser, each file one message. Bodies that
//! the RFC shares between messages are of the RFC's form; the headers are what is tested.

use pairline_sip::{Name, ParseErrorKind};

/// What the parser says, and whether a refused request gets a reply.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// Parsed; what the element then does is its own business.
    Accept,
    /// Refused, with a reply where the fields for one can be found.
    Refuse(ParseErrorKind, bool),
}

/// One message.
pub struct Sample {
    /// The name that the RFC gives it.
    pub name: &'static str,
    /// The section.
    pub section: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    bytes: &'static [u8],
}

impl Sample {
    /// The message as it is on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }
}

macro_rules! sample {
    ($name:literal, $section:literal, $verdict:expr) => {
        Sample {
            name: $name,
            section: $section,
            verdict: $verdict,
            bytes: include_bytes!(concat!("../torture/", $name, ".dat")),
        }
    };
}

/// All 49.
pub fn all() -> Vec<Sample> {
    use ParseErrorKind::{
        Duplicate, Malformed, MethodMismatch, Missing, RequestUri, StartLine, Status, Truncated, Version,
    };
    use Verdict::{Accept, Refuse};
    vec![
        sample!("wsinv", "3.1.1", Accept),
        sample!("intmeth", "3.1.1", Accept),
        sample!("esc01", "3.1.1", Accept),
        sample!("escnull", "3.1.1", Accept),
        sample!("esc02", "3.1.1", Accept),
        sample!("lwsdisp", "3.1.1", Accept),
        sample!("longreq", "3.1.1", Accept),
        sample!("dblreq", "3.1.1", Accept),
        sample!("semiuri", "3.1.1", Accept),
        sample!("transports", "3.1.1", Accept),
        sample!("mpart01", "3.1.1", Accept),
        sample!("unreason", "3.1.1", Accept),
        sample!("noreason", "3.1.1", Accept),
        sample!("badinv01", "3.1.2", Refuse(Malformed(Name::Via), true)),
        sample!("clerr", "3.1.2", Refuse(Truncated, true)),
        sample!("ncl", "3.1.2", Refuse(Malformed(Name::ContentLength), true)),
        sample!("scalar02", "3.1.2", Refuse(Malformed(Name::CSeq), true)),
        sample!("scalarlg", "3.1.2", Refuse(Malformed(Name::CSeq), false)),
        sample!("quotbal", "3.1.2", Refuse(Malformed(Name::To), true)),
        sample!("ltgtruri", "3.1.2", Refuse(RequestUri, true)),
        sample!("lwsruri", "3.1.2", Refuse(RequestUri, true)),
        sample!("lwsstart", "3.1.2", Refuse(RequestUri, true)),
        sample!("trws", "3.1.2", Refuse(StartLine, true)),
        sample!("escruri", "3.1.2", Accept),
        sample!("baddate", "3.1.2", Accept),
        sample!("regbadct", "3.1.2", Refuse(Malformed(Name::Contact), true)),
        sample!("badaspec", "3.1.2", Refuse(Malformed(Name::To), true)),
        sample!("baddn", "3.1.2", Accept),
        sample!("badvers", "3.1.2", Refuse(Version, true)),
        sample!("mismatch01", "3.1.2", Refuse(MethodMismatch, true)),
        sample!("mismatch02", "3.1.2", Refuse(MethodMismatch, true)),
        sample!("bigcode", "3.1.2", Refuse(Status, false)),
        sample!("badbranch", "3.2", Accept),
        sample!("insuf", "3.3", Refuse(Missing(Name::From), true)),
        sample!("unkscm", "3.3", Accept),
        sample!("novelsc", "3.3", Accept),
        sample!("unksm2", "3.3", Accept),
        sample!("bext01", "3.3", Accept),
        sample!("invut", "3.3", Accept),
        sample!("regaut01", "3.3", Accept),
        sample!("multi01", "3.3", Refuse(Duplicate(Name::CSeq), true)),
        sample!("mcl01", "3.3", Refuse(Duplicate(Name::ContentLength), true)),
        sample!("bcast", "3.3", Accept),
        sample!("zeromf", "3.3", Accept),
        sample!("cparam01", "3.3", Accept),
        sample!("cparam02", "3.3", Accept),
        sample!("regescrt", "3.3", Accept),
        sample!("sdp01", "3.3", Accept),
        sample!("inv2543", "3.4", Accept),
    ]
}
