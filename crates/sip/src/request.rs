//! A plain builder for requests of our own: NOTIFY, tests, load generation.

use bytes::Bytes;

use crate::method::Method;

/// A request under construction. It writes what it is given: the caller supplies Via, From, To,
/// Call-ID, CSeq and Max-Forwards; Content-Length is written by `build`.
pub struct RequestBuilder {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl RequestBuilder {
    /// Begins with the request line.
    pub fn new(method: Method, uri: impl AsRef<[u8]>) -> RequestBuilder {
        let mut head = Vec::with_capacity(512);
        head.extend_from_slice(method.as_str().as_bytes());
        head.push(b' ');
        crate::write::value(&mut head, uri.as_ref());
        head.extend_from_slice(b" SIP/2.0\r\n");
        RequestBuilder { head, body: Vec::new() }
    }

    /// Adds a header. Line ends in name or value are written as spaces.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        crate::write::header(&mut self.head, name.as_bytes(), value.as_ref());
        self
    }

    /// Sets the body and its type.
    pub fn body(mut self, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        crate::write::header(&mut self.head, b"Content-Type", content_type.as_bytes());
        self.body = body.as_ref().to_vec();
        self
    }

    /// The complete request.
    pub fn build(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.head.len() + self.body.len() + 32);
        out.extend_from_slice(&self.head);
        crate::reply::finish(&mut out, &self.body);
        Bytes::from(out)
    }
}
