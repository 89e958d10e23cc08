//! Phones of the virtual world: they register over UDP with digest and short expiries, at home and at the other site.
//!
//! Owns the phones' side of REGISTER. Bindings that follow are soft records; whether both copies of them agree is the
//! checkers' matter.

use crate::world::{Due, World};
use bytes::Bytes;
use pairline_node::io::Input;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::request::RequestBuilder;
use std::net::{Ipv4Addr, SocketAddr};

/// Password of every user of a run.
pub const PASSWORD: &str = "secret-enough-1";

/// First port of the phones.
const FIRST_PORT: u16 = 20_000;

/// Expiries that phones ask for, in seconds; the shortest is below what the deployment grants.
const EXPIRIES: [u64; 5] = [5, 20, 30, 40, 60];

/// One phone.
#[derive(Clone, Debug)]
pub struct Phone {
    user: String,
    cseq: u32,
    expires: u64,
    challenged: bool,
}

/// A phone for each user.
pub fn set_up(world: &mut World) {
    let users = world.users.clone();
    world.phones = users.into_iter().map(|user| Phone { user, cseq: 0, expires: 30, challenged: false }).collect();
}

/// One phone registers anew.
pub fn act(world: &mut World) {
    let number = usize::try_from(world.rng.below(world.phones.len() as u64)).unwrap_or(0);
    let site = usize::try_from(world.rng.below(2)).unwrap_or(0);
    let expires = *world.rng.pick(&EXPIRIES).unwrap_or(&30);
    if let Some(phone) = world.phones.get_mut(number)
        && !world.healing
    {
        phone.expires = expires;
        phone.challenged = false;
        send(world, site, number, None);
    }
    let pause = world.options.register_every_ms;
    let wait = world.rng.between(pause / 2 + 1, pause * 2);
    world.after(wait, Due::Phone);
}

/// A SIP message for a phone.
pub fn received(world: &mut World, site: usize, flow: Flow, bytes: Bytes) {
    let Some(number) = flow.remote.port().checked_sub(FIRST_PORT).map(usize::from) else { return };
    let Ok(message) = Message::parse(bytes) else {
        world.history.violate(10, "a server sent a malformed SIP message".to_owned());
        return;
    };
    match message.status() {
        Some(200) => world.met("a phone registered"),
        Some(401) => {
            let Some(phone) = world.phones.get_mut(number) else { return };
            if std::mem::replace(&mut phone.challenged, true) {
                return;
            }
            let line = message.header_named("WWW-Authenticate").and_then(|value| {
                let challenge = Challenge::parse(value).ok()?;
                Some(answer(&challenge, &phone.user, PASSWORD, "REGISTER", "sip:pairline.test", "cn", 1))
            });
            send(world, site, number, line);
        }
        _ => {}
    }
}

fn send(world: &mut World, site: usize, number: usize, authorization: Option<String>) {
    let Some(phone) = world.phones.get_mut(number) else { return };
    phone.cseq += 1;
    let port = FIRST_PORT.saturating_add(u16::try_from(number).unwrap_or(0));
    let remote = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
    let user = format!("<sip:{}@pairline.test>", phone.user);
    let mut request = RequestBuilder::new(Method::Register, "sip:pairline.test")
        .header("Via", format!("SIP/2.0/UDP {remote};branch=z9hG4bKsim{number}-{}-{site};rport", phone.cseq))
        .header("From", format!("{user};tag=f{number}"))
        .header("To", &user)
        .header("Call-ID", format!("phone-{number}-{site}"))
        .header("CSeq", format!("{} REGISTER", phone.cseq))
        .header("Max-Forwards", "70")
        .header("Contact", format!("<sip:{}@{remote}>;expires={}", phone.user, phone.expires));
    if let Some(line) = authorization {
        request = request.header("Authorization", line);
    }
    let message = request.build();
    world.give(site, Input::Sip { flow: Flow::udp(0, remote), message });
}
