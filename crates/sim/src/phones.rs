//! Phones of the virtual world: they register over UDP with digest and short expiries, at home and at the other site, alone
//! and many at one instant.
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
    /// It has answered a challenge since it last began to register.
    challenged: bool,
    /// What it was last challenged with, and how often it has answered that: a refresh needs no new challenge.
    challenge: Option<(Vec<u8>, u32)>,
}

/// A phone for each user.
pub fn set_up(world: &mut World) {
    let users = world.users.clone();
    let phone = |user| Phone { user, cseq: 0, expires: 30, challenged: false, challenge: None };
    world.phones = users.into_iter().map(phone).collect();
}

/// One phone registers anew, or several do at one instant.
pub fn act(world: &mut World) {
    let site = usize::try_from(world.rng.below(2)).unwrap_or(0);
    if !world.healing {
        let together = if world.rng.chance(30) { world.rng.between(2, 8) } else { 1 };
        let mut inputs = Vec::new();
        for _ in 0..together {
            register(world, site, &mut inputs);
        }
        world.give_together(site, inputs);
    }
    let pause = world.options.register_every_ms;
    let wait = world.rng.between(pause / 2 + 1, pause * 2);
    world.after(wait, Due::Phone);
}

/// A phone's REGISTER; now and then with its repetition, or with the next one right behind it.
fn register(world: &mut World, site: usize, inputs: &mut Vec<Input>) {
    let number = usize::try_from(world.rng.below(world.phones.len() as u64)).unwrap_or(0);
    let times = if world.rng.chance(20) { 2 } else { 1 };
    for _ in 0..times {
        let expires = *world.rng.pick(&EXPIRIES).unwrap_or(&30);
        let repeated = world.rng.chance(10);
        let Some(phone) = world.phones.get_mut(number) else { return };
        phone.expires = expires;
        phone.challenged = false;
        let (flow, message) = phone.request(site, number);
        if repeated {
            inputs.push(Input::Sip { flow, message: message.clone() });
        }
        inputs.push(Input::Sip { flow, message });
    }
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
            phone.challenge = message.header_named("WWW-Authenticate").map(|value| (value.to_vec(), 0));
            if std::mem::replace(&mut phone.challenged, true) {
                return;
            }
            let (flow, message) = phone.request(site, number);
            world.give(site, Input::Sip { flow, message });
        }
        _ => {}
    }
}

impl Phone {
    /// Its next REGISTER, with credentials if it knows a challenge.
    fn request(&mut self, site: usize, number: usize) -> (Flow, Bytes) {
        self.cseq += 1;
        let port = FIRST_PORT.saturating_add(u16::try_from(number).unwrap_or(0));
        let remote = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
        let user = format!("<sip:{}@pairline.test>", self.user);
        let mut request = RequestBuilder::new(Method::Register, "sip:pairline.test")
            .header("Via", format!("SIP/2.0/UDP {remote};branch=z9hG4bKsim{number}-{}-{site};rport", self.cseq))
            .header("From", format!("{user};tag=f{number}"))
            .header("To", &user)
            .header("Call-ID", format!("phone-{number}-{site}"))
            .header("CSeq", format!("{} REGISTER", self.cseq))
            .header("Max-Forwards", "70")
            .header("Contact", format!("<sip:{}@{remote}>;expires={}", self.user, self.expires));
        if let Some((challenge, count)) = &mut self.challenge
            && let Ok(challenge) = Challenge::parse(challenge)
        {
            *count += 1;
            let uri = "sip:pairline.test";
            let line = answer(&challenge, &self.user, PASSWORD, "REGISTER", uri, "cn", *count);
            request = request.header("Authorization", line);
        }
        (Flow::udp(0, remote), request.build())
    }
}
