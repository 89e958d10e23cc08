//! Digest authentication (RFC 7616, RFC 8760): server and client side. Owns no password, no user
//! and no key; these come in as arguments.

mod credentials;
mod digest;
mod fields;
mod nonce;
mod window;

pub use credentials::{AuthError, Challenge, Credentials, answer, challenge, verify};
pub use digest::{Algorithm, ha1};
pub use nonce::{NONCE_PERIOD_MS, NonceKeys, NonceVerdict, check_nonce, issue_nonce};
pub use window::{NcVerdict, NonceWindow};
