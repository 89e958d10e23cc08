//! Requests as clients send them, and the answers they get.

use super::{Fake, Task, aor, udp};
use bytes::Bytes;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;

/// A request as text, line by line.
#[derive(Clone)]
pub struct Client {
    pub user: &'static str,
    pub password: &'static str,
    pub agent: &'static str,
    pub from: Option<&'static str>,
    pub call_id: String,
    pub cseq: u32,
    pub flow: Flow,
}

pub fn client(user: &'static str) -> Client {
    Client {
        user,
        password: "secret",
        agent: "TestPhone/1",
        from: None,
        call_id: format!("call-{user}"),
        cseq: 1,
        flow: udp("127.0.0.1:7001"),
    }
}

impl Client {
    /// The request's bytes.
    pub fn bytes(&self, method: &str, uri: &str, to: &str, extra: &[&str], body: &str) -> Bytes {
        let from = self.from.map_or_else(|| format!("sip:{}@pairline.test", self.user), str::to_owned);
        let mut text = format!("{method} {uri} SIP/2.0\r\n");
        text += &format!(
            "Via: SIP/2.0/{} {};branch=z9hG4bKclient{}{};rport\r\n",
            self.flow.transport.via_token(),
            self.flow.remote,
            self.cseq,
            method
        );
        text += &format!("From: <{from}>;tag=ft\r\nTo: {to}\r\nCall-ID: {}\r\n", self.call_id);
        text += &format!("CSeq: {} {method}\r\nMax-Forwards: 70\r\nUser-Agent: {}\r\n", self.cseq, self.agent);
        for line in extra {
            text += line;
            text += "\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        Bytes::from(text)
    }

    pub fn message(&self, method: &str, uri: &str, to: &str, extra: &[&str], body: &str) -> Message {
        Message::parse(self.bytes(method, uri, to, extra, body)).unwrap()
    }

    /// Sends the request, answers the challenge if there is one, and returns the task of the last try.
    pub fn request(&mut self, fake: &Fake, method: &str, uri: &str, to: &str, extra: &[&str], body: &str) -> Task {
        self.cseq += 1;
        let before = fake.0.borrow().responses.len();
        let first = Task::start(fake, self.message(method, uri, to, extra, body), self.flow);
        let challenge = fake.0.borrow().responses.get(before).cloned();
        let (header, name) = match &challenge {
            Some((401, reply)) => (reply.header_named("WWW-Authenticate").unwrap().to_vec(), "Authorization"),
            Some((407, reply)) => (reply.header_named("Proxy-Authenticate").unwrap().to_vec(), "Proxy-Authorization"),
            _ => return first,
        };
        assert!(!first.is_running());
        fake.0.borrow_mut().responses.truncate(before);
        self.cseq += 1;
        let line = self.authorization(&header, name, method, uri, 1);
        let mut lines = vec![line.as_str()];
        lines.extend(extra);
        Task::start(fake, self.message(method, uri, to, &lines, body), self.flow)
    }

    /// The header line that answers a challenge.
    pub fn authorization(&self, challenge: &[u8], name: &str, method: &str, uri: &str, nc: u32) -> String {
        let challenge = Challenge::parse(challenge).unwrap();
        format!("{name}: {}", answer(&challenge, self.user, self.password, method, uri, "cn", nc))
    }

    /// REGISTER with these contact lines, through the challenge; the final answer.
    pub fn register(&mut self, fake: &Fake, extra: &[&str]) -> (u16, Message) {
        let to = format!("<sip:{}@pairline.test>", self.user);
        let task = self.request(fake, "REGISTER", "sip:pairline.test", &to, extra, "");
        assert!(!task.is_running(), "a REGISTER is answered at once");
        last(fake)
    }

    /// INVITE to a user, through the challenge.
    pub fn invite(&mut self, fake: &Fake, callee: &str) -> Task {
        let uri = format!("sip:{callee}@pairline.test");
        let contact = format!("Contact: <sip:{}@{}>", self.user, self.flow.remote);
        self.request(fake, "INVITE", &uri, &format!("<{uri}>"), &[&contact], "v=0\r\n")
    }
}

/// The last answer.
pub fn last(fake: &Fake) -> (u16, Message) {
    fake.0.borrow().responses.last().cloned().unwrap()
}

/// Statuses answered so far, 100 left out.
pub fn statuses(fake: &Fake) -> Vec<u16> {
    fake.0.borrow().responses.iter().map(|(s, _)| *s).filter(|s| *s != 100).collect()
}

/// Contact values of an answer.
pub fn contacts(message: &Message) -> Vec<String> {
    message.contacts().map(|c| String::from_utf8(c.raw().to_vec()).unwrap()).collect()
}

/// Registers a device of a user at an address; its instance is the name.
pub fn device(fake: &Fake, user: &'static str, remote: &str, params: &str) {
    let mut phone = client(user);
    phone.call_id = format!("reg-{user}-{remote}");
    phone.flow = udp(remote);
    let contact = format!("Contact: <sip:{user}@{remote}>{params}");
    let (status, _) = phone.register(fake, &[&contact]);
    assert_eq!(status, 200);
    fake.0.borrow_mut().responses.clear();
    assert!(!fake.bindings(aor(&format!("sip:{user}@pairline.test")).as_str()).is_empty());
}
