//! Digest authentication of SIP requests and of the user's HTTP API (DESIGN §11; RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! Owns which challenge is sent, and what credentials are worth. Does not own the digest itself (`pairline_sip::auth`) nor
//! what an identity may do. Unknown user and wrong password differ neither in answer nor in the work done.

mod http;
mod kept;
mod opened;

pub use http::{HttpVerdict, http_claim, http_digest};
pub use kept::{Kept, mark_of};
pub use opened::Opened;

use crate::cx::{Cx, Place};
use crate::ident::user_of;
use crate::metrics::Counter;
use crate::records::{Credential, DecodeError, credential_key};
use crate::replies;
use crate::settings::DeploymentView;
use crate::trust;
use bytes::Bytes;
use pairline_group::{GroupId, Millis, Position, Record};
use pairline_sip::auth::{self, Algorithm, Credentials, NonceVerdict};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply;
use pairline_sip::uri::Aor;
use std::borrow::Cow;

/// Most credentials that are looked at in one request.
const MAX_CREDENTIALS: usize = 4;
/// Via parameter in which a request over the peer link names the algorithm of its arrival.
pub const ALGORITHM_PARAM: &str = "alg";
/// What an unknown user's digest is computed against: nobody's HA1.
const NOBODY: &[u8] = b"0000000000000000000000000000000000000000000000000000000000000000";

/// In which role this server asks for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm {
    /// 401, Authorization.
    Registrar,
    /// 407, Proxy-Authorization.
    Proxy,
}

impl Realm {
    fn status(self) -> u16 {
        match self {
            Realm::Registrar => 401,
            Realm::Proxy => 407,
        }
    }

    fn credentials(self) -> Name {
        match self {
            Realm::Registrar => Name::Authorization,
            Realm::Proxy => Name::ProxyAuthorization,
        }
    }

    fn challenge(self) -> &'static str {
        match self {
            Realm::Registrar => "WWW-Authenticate",
            Realm::Proxy => "Proxy-Authenticate",
        }
    }
}

/// In which role credentials are asked for of a request: where it ends here, as who serves it (RFC 3261 §22.2), else as the
/// proxy on its way.
pub fn realm_of(request: &Message) -> Realm {
    match request.method() {
        Method::Register | Method::Subscribe => Realm::Registrar,
        _ => Realm::Proxy,
    }
}

/// Whom a request must prove to come from, and where the credential is that it is weighed against.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The user.
    pub user: &'a Aor,
    /// Its credential's place.
    pub kept: &'a Kept,
}

/// What a digest is computed against. The work is the same for all three.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against<'a> {
    /// The user's own HA1.
    Own(&'a [u8]),
    /// That of the user who stands in for a name that nobody has: never right.
    StandIn(&'a [u8]),
    /// None of that algorithm: never right.
    Nothing,
}

/// What credentials are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Right, fresh, used once.
    Good,
    /// Right, but the nonce is not good any more: `stale=true`.
    Stale,
    /// Wrong user, password or algorithm.
    Wrong,
    /// Right, but those of another user.
    Another,
    /// Not known: whoever serves the user cannot be reached, and no copy of the credential is here.
    Unread,
}

/// The one algorithm that is offered to, and accepted from, a request's sender (never by user). For a request over the peer
/// link it is the one that the partner names, at whose listener the sender is.
pub fn algorithm_for(view: &DeploymentView, request: &Message, flow: Flow) -> Algorithm {
    if flow.transport == Transport::Peer
        && let Some(named) = request.via().param(ALGORITHM_PARAM).and_then(Algorithm::from_token)
    {
        return named;
    }
    let agent = request.header(Name::UserAgent).unwrap_or_default();
    let fits = |rule: &&crate::settings::AuthRule| {
        let prefix = rule.user_agent.as_bytes();
        let named = agent.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
        named && rule.listener.is_none_or(|l| l == flow.listener)
    };
    view.auth_rules.iter().find(fits).map_or(Algorithm::Sha256, |rule| rule.algorithm)
}

/// The first credentials of a request for a realm that can be read.
pub(crate) fn credentials_for<'a>(request: &'a Message, realm: Realm, name: &str) -> Option<Credentials<'a>> {
    request
        .headers(realm.credentials())
        .take(MAX_CREDENTIALS)
        .filter_map(|value| Credentials::parse(value).ok())
        .find(|c| *c.realm == *name.as_bytes())
}

/// Whether a request has credentials for a domain of ours, whatever they are worth.
pub fn are_offered(view: &DeploymentView, request: &Message, realm: Realm, domain: &str) -> bool {
    credentials_for(request, realm, view.realm(domain)).is_some()
}

/// Whether anything about a request may prove who sends it. If not it is challenged before anything is looked up: the time that
/// this takes tells nobody who exists.
pub fn may_be_proven(view: &DeploymentView, request: &Message, flow: Flow, realm: Realm, domain: &str) -> bool {
    flow.transport == Transport::Peer
        || trust::takes_certificates(view, flow)
        || are_offered(view, request, realm, domain)
}

/// The user that credentials name: without the domain, as HA1 is stored.
fn named_user(credentials: &Credentials<'_>, domain: &str) -> Option<Aor> {
    let name = std::str::from_utf8(&credentials.username).ok()?;
    user_of(domain, name).filter(|_| !name.contains('@'))
}

/// The same of the domain of a user, who is nearly always the one: no address is built for that.
fn named_beside<'a>(credentials: &Credentials<'_>, user: &'a Aor) -> Option<Cow<'a, Aor>> {
    if *credentials.username == *user.user().as_bytes() {
        return Some(Cow::Borrowed(user));
    }
    named_user(credentials, user.domain()).map(Cow::Owned)
}

/// Which of a request's proxy credentials are for a realm of ours, counted from 0.
pub fn own_credentials(view: &DeploymentView, request: &Message) -> Vec<usize> {
    let own = |value: &[u8]| {
        Credentials::parse(value).is_ok_and(|c| view.domains.iter().any(|d| *c.realm == *d.realm.as_bytes()))
    };
    let values = request.headers(Name::ProxyAuthorization).enumerate();
    values.filter(|(_, value)| own(value)).map(|(index, _)| index).collect()
}

/// The user that a request's proxy credentials for the default domain name, whatever its From says (RFC 3323).
pub fn claimed_user(view: &DeploymentView, request: &Message) -> Option<Aor> {
    let domain = &view.default_domain;
    named_user(&credentials_for(request, Realm::Proxy, view.realm(domain))?, domain)
}

/// What credentials are worth before their nonce's count is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Right; this count of this nonce must not have been used before.
    Counted {
        /// The nonce.
        id: u128,
        /// Its count.
        nc: u32,
    },
    /// Right, but the nonce is not good any more.
    Stale,
    /// Wrong user, password or algorithm.
    Wrong,
}

/// Weighs credentials of a user.
pub(crate) fn judge(
    view: &DeploymentView,
    credentials: &Credentials<'_>,
    method: &[u8],
    user: &Aor,
    against: Against<'_>,
    algorithm: Algorithm,
    wall: Millis,
) -> Judged {
    if !is_right(credentials, method, user, against, algorithm) {
        return Judged::Wrong;
    }
    let verdict = auth::check_nonce(&view.nonce_keys, &credentials.nonce, wall, view.nonce_life_ms);
    match (verdict, credentials.nc) {
        (NonceVerdict::Fresh { id }, Some(nc)) => Judged::Counted { id, nc },
        _ => Judged::Stale,
    }
}

/// Whether credentials have the right password of the user that they name, whatever their nonce is worth.
fn is_right(
    credentials: &Credentials<'_>,
    method: &[u8],
    user: &Aor,
    against: Against<'_>,
    algorithm: Algorithm,
) -> bool {
    let named = named_beside(credentials, user);
    let (ha1, own) = match against {
        Against::Own(ha1) => (ha1, true),
        Against::StandIn(ha1) => (ha1, false),
        Against::Nothing => (&NOBODY[..algorithm.hex_len().min(NOBODY.len())], false),
    };
    let right = auth::verify(credentials, ha1, method);
    // An answer to another challenge than ours is a downgrade, not a mistake (RFC 8760 §2.6).
    right && own && credentials.algorithm == algorithm && named.as_deref() == Some(user)
}

/// The HA1 in a stored credential, for one algorithm.
pub(crate) fn open_ha1(
    view: &DeploymentView,
    user: &Aor,
    value: &[u8],
    algorithm: Algorithm,
) -> Result<Option<Vec<u8>>, DecodeError> {
    Credential::open_ha1(&view.sealing_key, user.as_str(), value, algorithm)
}

/// Answers with a challenge. Its To tag is random like all else in it: one that followed from the request would tell a
/// challenge made here from one that the other pool made.
pub fn challenge<C: Cx>(cx: &C, request: &Message, flow: Flow, realm: Realm, domain: &str, stale: bool) {
    cx.count(if stale { Counter::AuthStale } else { Counter::AuthChallenge });
    let view = cx.view();
    let algorithm = algorithm_for(&view, request, flow);
    let random = [cx.random(), cx.random()];
    let reply = challenge_reply(&view, request, realm, domain, algorithm, stale, cx.now().wall, random);
    cx.respond_once(realm.status(), reply);
}

/// The challenge as [`challenge`] sends it.
#[allow(clippy::too_many_arguments)]
pub(crate) fn challenge_reply(
    view: &DeploymentView,
    request: &Message,
    realm: Realm,
    domain: &str,
    algorithm: Algorithm,
    stale: bool,
    wall: Millis,
    random: [u64; 2],
) -> Bytes {
    let value = challenge_value(view, domain, algorithm, (stale, realm == Realm::Proxy), wall, random[0]);
    let tag = format!("{:016x}", random[1]);
    Reply::to(request, realm.status()).to_tag(&tag).header(realm.challenge(), value).build()
}

/// A challenge with a fresh nonce.
fn challenge_value(
    view: &DeploymentView,
    domain: &str,
    algorithm: Algorithm,
    (stale, proxy): (bool, bool),
    wall: Millis,
    random: u64,
) -> String {
    let nonce = auth::issue_nonce(&view.nonce_keys, wall, random);
    auth::challenge(view.realm(domain), algorithm, &nonce, stale, proxy)
}

/// An HA1, with the version of the record that it was opened from, if it was opened now.
type Ha1 = (Vec<u8>, Option<(GroupId, Position)>);

/// The HA1 in the credential that a user's is weighed against, and the credential's place and version if it was opened only now.
async fn ha1_of<C: Cx>(cx: &C, who: Who<'_>, algorithm: Algorithm) -> Option<Ha1> {
    let record = cx.read(who.kept.group()?, &credential_key(who.kept.owner(who.user).as_str())).await;
    ha1_in(cx, who, algorithm, record?)
}

/// The same of a record that was read.
fn ha1_in<C: Cx>(cx: &C, who: Who<'_>, algorithm: Algorithm, record: Record) -> Option<Ha1> {
    let view = cx.view();
    let owner = who.kept.owner(who.user);
    let group = who.kept.group()?;
    let version = record.version;
    let known = |opened: &mut Opened| opened.get(owner.as_str(), group, version, algorithm).map(<[u8]>::to_vec);
    if let Some(ha1) = cx.with_opened(known) {
        return Some((ha1, None));
    }
    match open_ha1(&view, owner, &record.value, algorithm) {
        Ok(ha1) => Some((ha1?, Some((group, version)))),
        Err(_) => {
            cx.count(Counter::RecordUnreadable);
            None
        }
    }
}

/// Weighs credentials of a realm of ours.
pub(crate) async fn weigh<C: Cx>(
    cx: &C,
    credentials: &Credentials<'_>,
    method: &[u8],
    who: Who<'_>,
    algorithm: Algorithm,
) -> Worth {
    let named = named_beside(credentials, who.user);
    // Another user's are weighed as that user's, with the same work: whoever has that password is told what is wrong.
    let other = match named.as_deref() {
        Some(user) if user != who.user => Some((user, Kept::of(cx, user).await)),
        _ => None,
    };
    let owner = other.as_ref().map_or(who, |(user, kept)| Who { user, kept });
    let (ha1, fresh) = ha1_of(cx, owner, algorithm).await.unzip();
    let unread = other.is_none() && ha1.is_none() && matches!(who.kept.place, Place::Unavailable { .. });
    let against = owner.kept.against(ha1.as_deref());
    let worth = match judge(&cx.view(), credentials, method, owner.user, against, algorithm, cx.now().wall) {
        Judged::Wrong if unread => Worth::Unread,
        Judged::Wrong => Worth::Wrong,
        _ if other.is_some() => Worth::Another,
        Judged::Counted { id, nc } if cx.nonce_count(id, nc) => {
            // Nobody's guess makes it known: who was asked for lately would show in the time.
            if let (Some(ha1), Some((group, version))) = (&ha1, fresh.flatten()) {
                cx.with_opened(|opened| opened.put(owner.user.as_str(), group, version, algorithm, ha1));
            }
            return Worth::Good;
        }
        Judged::Counted { .. } | Judged::Stale => Worth::Stale,
    };
    who.kept.even_out(cx, who.user);
    if let Some((user, kept)) = &other {
        kept.even_out(cx, user);
    }
    worth
}

/// Whether credentials name another user of that user's domain.
pub(crate) fn are_anothers(credentials: &Credentials<'_>, user: &Aor) -> bool {
    named_beside(credentials, user).is_some_and(|named| *named != *user)
}

/// Whether a request has credentials that name another user than the one who it says sends it. They are weighed where the
/// request arrives, by the copy of that other one's credential: who serves the user then makes no difference to the answer.
pub fn names_another(view: &DeploymentView, request: &Message, realm: Realm, user: &Aor) -> bool {
    credentials_for(request, realm, view.realm(user.domain())).is_some_and(|offered| are_anothers(&offered, user))
}

/// Whether a request has the right password of a user by the copy of the credential that is here. Nothing is granted for that:
/// its nonce is not looked at, and stays good for whoever serves the user.
pub fn knows_password<C: Cx>(cx: &C, request: &Message, flow: Flow, realm: Realm, who: Who<'_>) -> bool {
    let view = cx.view();
    let Some(credentials) = credentials_for(request, realm, view.realm(who.user.domain())) else {
        return false;
    };
    let algorithm = algorithm_for(&view, request, flow);
    let record =
        who.kept.group().and_then(|group| cx.glance(group, &credential_key(who.kept.owner(who.user).as_str())));
    let ha1 = record.and_then(|record| ha1_in(cx, who, algorithm, record)).map(|(ha1, _)| ha1);
    let method = request.method().as_str().as_bytes();
    let knows = is_right(&credentials, method, who.user, who.kept.against(ha1.as_deref()), algorithm);
    if !knows {
        who.kept.even_out(cx, who.user);
    }
    knows
}

/// Whether a request is proven to come from a user without credentials: by the client's certificate, or by the other pool, which
/// says so inside the link.
pub fn is_vouched_for<C: Cx>(cx: &C, request: &Message, flow: Flow, who: Who<'_>) -> bool {
    who.kept.exists()
        && (trust::is_user(cx, &cx.view(), flow, who.user) || trust::partner_names(request, flow, who.user))
}

/// Whether a request is proven to come from a user, by certificate or by credentials; if not, the challenge is on its way, or
/// a 403 where it is proven to come from another one.
pub async fn authenticate<C: Cx>(cx: &C, request: &Message, flow: Flow, realm: Realm, who: Who<'_>) -> bool {
    let offered = credentials_for(request, realm, cx.view().realm(who.user.domain()));
    authenticate_by(cx, request, flow, realm, who, offered).await
}

/// The same of a request whose credentials for the user's domain have been read.
pub(crate) async fn authenticate_by<C: Cx>(
    cx: &C,
    request: &Message,
    flow: Flow,
    realm: Realm,
    who: Who<'_>,
    offered: Option<Credentials<'_>>,
) -> bool {
    let (view, domain) = (cx.view(), who.user.domain());
    if is_vouched_for(cx, request, flow, who) {
        cx.count(Counter::AuthAccepted);
        return true;
    }
    let Some(credentials) = offered else {
        challenge(cx, request, flow, realm, domain, false);
        return false;
    };
    let algorithm = algorithm_for(&view, request, flow);
    let method = request.method().as_str().as_bytes();
    match weigh(cx, &credentials, method, who, algorithm).await {
        Worth::Good => {
            cx.count(Counter::AuthAccepted);
            true
        }
        Worth::Stale => {
            challenge(cx, request, flow, realm, domain, true);
            false
        }
        // A telephone takes another challenge for a wrong password, and may not try again. Names that nobody has are told so where their stand-in is
        // out of reach.
        Worth::Unread => {
            replies::try_later(cx, request, "Serving Pool Not Reachable");
            false
        }
        Worth::Wrong => {
            cx.count(Counter::AuthFailed);
            challenge(cx, request, flow, realm, domain, false);
            false
        }
        Worth::Another => {
            cx.count(Counter::AuthMismatch);
            replies::refuse(cx, request, 403, "Identity Does Not Match Credentials");
            false
        }
    }
}
