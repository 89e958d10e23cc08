//! The token with which a machine joins: a secret, and by what the one that made it is known.
//!
//! Owns its form. Does not own how often it works (`invite`).

use crate::api::token::{hex, unhex};
use crate::tls::{RandomFailed, fill_random};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::str::FromStr;
use subtle::ConstantTimeEq;

/// First part of every token of this form.
const FORM: &str = "j1";

/// Bytes of each of the two parts: 128 bits.
const BYTES: usize = 16;

/// Why a word is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no token of `pairline server invite`: it looks like j1-…-…, with 32 hexadecimal digits twice; copy the whole word"
)]
pub struct TokenError;

/// The token. Its secret is shown by nothing but [`fmt::Display`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: [u8; BYTES],
    maker: [u8; BYTES],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}-{}-{}", hex(&self.secret), hex(&self.maker))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let part = |text: &str| unhex(text).and_then(|bytes| <[u8; BYTES]>::try_from(bytes).ok()).ok_or(TokenError);
        let mut parts = text.trim().split('-');
        let (form, secret, maker) = (parts.next(), parts.next(), parts.next());
        if form != Some(FORM) || parts.next().is_some() {
            return Err(TokenError);
        }
        Ok(Token { secret: part(secret.ok_or(TokenError)?)?, maker: part(maker.ok_or(TokenError)?)? })
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; BYTES] {
    let mut first = [0_u8; BYTES];
    first.copy_from_slice(&blake3::hash(certificate).as_bytes()[..BYTES]);
    first
}

impl Token {
    /// A new one of whoever shows that certificate.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn new(certificate: &CertificateDer<'_>) -> Result<Token, RandomFailed> {
        let mut secret = [0_u8; BYTES];
        fill_random(&mut secret)?;
        Ok(Token { secret, maker: fingerprint(certificate) })
    }

    /// Whether that certificate is the one of its maker.
    pub fn is_of(&self, certificate: &CertificateDer<'_>) -> bool {
        fingerprint(certificate) == self.maker
    }

    /// What is sent to its maker, and to nobody else.
    pub fn secret(&self) -> String {
        hex(&self.secret)
    }

    /// Whether that is its secret; takes the same time whatever is wrong with it.
    pub fn has_secret(&self, text: &str) -> bool {
        text.as_bytes().ct_eq(self.secret().as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    //! What is printed is read again, and nothing else is.
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_printed_is_read_and_nothing_else() {
        let (one, other) = (CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![1, 2, 4]));
        let token = Token::new(&one).unwrap();
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(token.is_of(&one) && !token.is_of(&other));
        assert!(token.has_secret(&token.secret()) && !token.has_secret("") && !token.has_secret(&text));
        assert!(!Token::new(&one).unwrap().has_secret(&token.secret()), "no two are alike");
        assert_eq!(format!("{token:?}"), "Token(…)", "no log has it");
        for wrong in ["", "j1", "j1-00-00", &text[1..], &text[..text.len() - 1], &format!("{text}-00"), "j1-äö-äö"]
        {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError), "{wrong}");
        }
    }
}
