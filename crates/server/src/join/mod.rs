//! A new machine becomes a server of the deployment with a token that works once.
//!
//! Owns the token and what the two machines say to each other: the one that has the deployment's authority (`invite`) and the new one
//! (`enter`). The authority's key stays where it is, and the new server's key never leaves the machine that made it. Does not own which
//! servers there are (the published topology), nor what a server does once it runs.

pub mod enter;
pub mod invite;
mod pinned;
pub mod token;

pub use token::{Token, TokenError};

use serde::{Deserialize, Serialize};

/// Version of both messages; another one is refused.
pub(crate) const VERSION: u32 = 1;

/// Where a machine asks to become a server.
pub(crate) const JOIN: &str = "/v1/join";

/// Where it says that it has all that it needs.
pub(crate) const JOINED: &str = "/v1/joined";

/// What a new machine asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// A certificate signing request in PEM (PKCS #10, RFC 2986): only its public key counts, and the proof that its maker has the private one.
    pub(crate) request: String,
}

/// What it gets.
#[derive(Serialize, Deserialize)]
pub(crate) struct Given {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Its name in the topology.
    pub(crate) server: String,
    /// The published topology.
    pub(crate) topology: String,
    /// Its certificate in PEM.
    pub(crate) certificate: String,
    /// That of the authority, in PEM.
    pub(crate) authority: String,
    /// What all servers that hold data share.
    pub(crate) secret: Option<String>,
    /// The administrator's token, where there is data.
    pub(crate) admin_token: Option<String>,
}

#[cfg(test)]
mod tests {
    //! Frozen samples of both messages: a machine with another build reads them.
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ASK: &str = r#"{"version":1,"request":"R"}"#;
    const GIVEN: &str = r#"{"version":1,"server":"fe4.east","topology":"T","certificate":"C","authority":"A","secret":"S","admin_token":null}"#;

    #[test]
    fn the_messages_are_as_they_were() {
        let ask = Ask { version: VERSION, request: "R".into() };
        assert_eq!(serde_json::to_string(&ask).unwrap(), ASK);
        assert_eq!(serde_json::from_str::<Ask>(ASK).unwrap().request, "R");
        let given: Given = serde_json::from_str(GIVEN).unwrap();
        assert_eq!(
            (given.server.as_str(), given.secret.as_deref(), given.admin_token.as_deref()),
            ("fe4.east", Some("S"), None)
        );
        assert_eq!(serde_json::to_string(&given).unwrap(), GIVEN);
    }
}
