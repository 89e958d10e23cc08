//! Waking clients that sleep until their operating system's push service calls them (RFC 8599).
//!
//! Owns what a contact says of its push service, and which devices a request wakes. The order itself goes to a gateway that
//! the deployment configures; what it makes of it is its own. Does not own how the request waits meanwhile (`proxy`).

use crate::binding::Binding;
use crate::cx::{Cx, Reach};
use crate::metrics::Counter;
use pairline_group::Millis;
use pairline_sip::flow::Transport;
use pairline_sip::message::Message;
use pairline_sip::uri::Uri;

/// Longest provider, parameter and resource id, in bytes; RFC 8599 leaves it to the push service.
const MAX_VALUE: usize = 384;
/// A client that was heard so short a time ago is awake, in milliseconds.
const AWAKE_MS: Millis = 15_000;

/// Push services that this deployment's gateway can ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushPolicy {
    /// Their names (`pn-provider`); none: no push at all.
    pub providers: Vec<String>,
    /// How long a request waits for a client that was woken, in milliseconds.
    pub wait_ms: Millis,
}

/// What a contact URI says of its push service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushContact<'a> {
    /// `pn-provider`; empty where the client only asks which there are.
    pub provider: &'a [u8],
    /// `pn-param`.
    pub param: &'a [u8],
    /// `pn-prid`: who is to be woken.
    pub prid: &'a [u8],
}

impl<'a> PushContact<'a> {
    /// Reads a contact URI; `None` if it says nothing of push.
    pub fn of(contact: &'a [u8]) -> Option<PushContact<'a>> {
        let uri = Uri::parse(contact).ok()?;
        let value = |name| uri.param(name).filter(|value| value.len() <= MAX_VALUE);
        let provider = value("pn-provider")?;
        let (param, prid) = (value("pn-param").unwrap_or_default(), value("pn-prid").unwrap_or_default());
        Some(PushContact { provider, param, prid })
    }

    /// Whether a client can be woken by it.
    fn wakes(&self) -> bool {
        !self.provider.is_empty() && !self.prid.is_empty()
    }
}

/// One order to wake a client; what the gateway gets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Wake {
    /// `pn-provider`.
    pub provider: String,
    /// `pn-param`.
    pub param: String,
    /// `pn-prid`.
    pub prid: String,
    /// Method of the request that waits. Who calls is not said: the push service is a stranger.
    pub method: String,
}

impl PushPolicy {
    fn knows(&self, provider: &[u8]) -> bool {
        self.providers.iter().any(|known| provider.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// What a REGISTER with these contacts is told (RFC 8599 §5.3, §8): the value of Feature-Caps, nothing, or that its push
    /// service is not known here (555).
    pub fn answer<'a>(&self, contacts: impl Iterator<Item = &'a [u8]>) -> Result<Option<String>, NotSupported> {
        if self.providers.is_empty() {
            return Ok(None);
        }
        let mut told = None;
        for contact in contacts.filter_map(PushContact::of) {
            let named = match contact.provider {
                b"" => self.providers.join(","),
                provider if self.knows(provider) => String::from_utf8_lossy(provider).into_owned(),
                _ => return Err(NotSupported),
            };
            told = Some(format!("*;+sip.pns=\"{named}\""));
        }
        Ok(told)
    }
}

/// A push service that this deployment's gateway cannot ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSupported;

/// Orders the waking of those of a user's devices that may sleep; true if there is one. A client on an open stream of this
/// server, or one that was heard a moment ago, is awake. Another server's flow may be tried beside.
pub fn wake<C: Cx>(cx: &C, request: &Message, bindings: &[Binding]) -> bool {
    let view = cx.view();
    let now = cx.now();
    let mut any = false;
    for binding in bindings.iter().filter(|b| b.expires > now.wall) {
        let Some(contact) = PushContact::of(&binding.contact).filter(PushContact::wakes) else {
            continue;
        };
        let connected = binding.flow.flow.transport != Transport::Udp && cx.reach(binding) == Reach::Open;
        let heard = now.wall.saturating_sub(binding.refreshed) < AWAKE_MS;
        if connected || heard || !view.push.knows(contact.provider) {
            continue;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        cx.wake(Wake {
            provider: text(contact.provider),
            param: text(contact.param),
            prid: text(contact.prid),
            method: request.method().as_str().to_owned(),
        });
        cx.count(Counter::PushAsked);
        any = true;
    }
    any
}
