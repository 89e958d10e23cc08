//! Requests of simulated users, written down so that they can be sent again with credentials.
//!
//! Owns their text. Does not own transactions.

use bytes::Bytes;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::{Message, Method, Name, RequestBuilder};
use std::net::SocketAddr;

/// A session description without sound: an offer that every simulated user accepts.
pub const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=inactive\r\n";

/// One request.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Method.
    pub method: Method,
    /// Request-URI.
    pub uri: String,
    /// From with tag.
    pub from: String,
    /// To, with tag inside a dialog.
    pub to: String,
    /// Call-ID.
    pub call_id: String,
    /// Sequence number.
    pub cseq: u32,
    /// Route set.
    pub routes: Vec<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body and its type.
    pub body: Option<(&'static str, &'static str)>,
}

/// A challenge that is answered without being asked again.
#[derive(Clone, Debug)]
pub struct Known {
    value: String,
    proxy: bool,
    uses: u32,
}

impl Known {
    /// The challenge of a 401 or 407.
    pub fn of(response: &Message) -> Option<Known> {
        let proxy = response.status() == Some(407);
        let name = if proxy { Name::ProxyAuthenticate } else { Name::WwwAuthenticate };
        let value = String::from_utf8(response.header(name)?.to_vec()).ok()?;
        Some(Known { value, proxy, uses: 0 })
    }

    /// The header that answers it.
    fn header(&mut self, draft: &Draft, user: &str, password: &str, cnonce: &str) -> Option<(&'static str, String)> {
        self.uses += 1;
        let challenge = Challenge::parse(self.value.as_bytes()).ok()?;
        let value = answer(&challenge, user, password, draft.method.as_str(), &draft.uri, cnonce, self.uses);
        Some((if self.proxy { "Proxy-Authorization" } else { "Authorization" }, value))
    }
}

/// Who sends.
pub struct Sender<'a> {
    /// User name.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// Local address.
    pub local: SocketAddr,
    /// `UDP` or `TCP`.
    pub transport: &'a str,
    /// New branch.
    pub branch: &'a str,
    /// Client nonce.
    pub cnonce: &'a str,
}

impl Draft {
    /// The request's bytes, with credentials if a challenge is known.
    pub fn build(&self, sender: &Sender<'_>, known: Option<&mut Known>) -> Bytes {
        let via = format!("SIP/2.0/{} {};branch={};rport", sender.transport, sender.local, sender.branch);
        let mut builder =
            RequestBuilder::new(self.method.clone(), &self.uri).header("Via", via).header("Max-Forwards", "70");
        for route in &self.routes {
            builder = builder.header("Route", route);
        }
        builder = builder
            .header("From", &self.from)
            .header("To", &self.to)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{} {}", self.cseq, self.method.as_str()))
            .header("User-Agent", "Pairline-drill");
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        if let Some((name, value)) = known.and_then(|k| k.header(self, sender.user, sender.password, sender.cnonce)) {
            builder = builder.header(name, value);
        }
        if let Some((kind, body)) = self.body {
            builder = builder.body(kind, body);
        }
        builder.build()
    }
}

/// Text of a header value.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
