//! What services count, as a fixed set with stable names.
//!
//! Owns the names. Does not own the numbers: [`crate::cx::Cx::count`] adds them up.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// An event that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Counter { $($(#[doc = $doc])* $variant,)* }

        impl Counter {
            /// All counters, in order; `Counter as usize` is the index.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)*];

            /// Stable name, as on `/metrics` (prefix `pairline_services_`, suffix `_total` are added there).
            pub fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)* }
            }

            /// What it counts, in one sentence.
            pub fn about(self) -> &'static str {
                match self { $(Counter::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

counters! {
    /// A REGISTER that made a new binding.
    RegisterNew => "register_new",
    /// A REGISTER that refreshed bindings.
    RegisterRefresh => "register_refresh",
    /// A REGISTER that removed bindings.
    RegisterRemove => "register_remove",
    /// A REGISTER that only asked.
    RegisterFetch => "register_fetch",
    /// A repeated REGISTER, answered with the present state.
    RegisterRepeat => "register_repeat",
    /// A REGISTER refused by its order, limits or form.
    RegisterRefused => "register_refused",
    /// A REGISTER refused because the pool holds as many bindings as it may.
    RegisterPoolFull => "register_pool_full",
    /// A guest binding made in resiliency mode.
    RegisterGuest => "register_guest",
    /// A REGISTER sent on to the serving pool.
    RegisterRelayed => "register_relayed",
    /// A challenge without credentials in the request.
    AuthChallenge => "auth_challenge",
    /// A challenge because the nonce was stale.
    AuthStale => "auth_stale",
    /// Wrong credentials (or an unknown user).
    AuthFailed => "auth_failed",
    /// A request accepted by its credentials.
    AuthAccepted => "auth_accepted",
    /// An authenticated request with another identity in From or To.
    AuthMismatch => "auth_mismatch",
    /// A request that the proxy forked to bindings.
    ProxyForked => "proxy_forked",
    /// A branch sent.
    ProxyBranch => "proxy_branch",
    /// A request sent on to the other pool.
    ProxyPeer => "proxy_peer",
    /// A request inside a dialog.
    ProxyInDialog => "proxy_in_dialog",
    /// A request forwarded by the callee's call-forward setting.
    ProxyCallForward => "proxy_call_forward",
    /// A redirection of a device that was followed.
    ProxyRedirected => "proxy_redirected",
    /// An INVITE held because all bindings were stranded.
    ProxyHeld => "proxy_held",
    /// A held INVITE that reached a binding after all.
    ProxyHeldDelivered => "proxy_held_delivered",
    /// A stranded binding met while looking for targets.
    BindingStranded => "binding_stranded",
    /// A request refused: loop.
    LoopDetected => "loop_detected",
    /// A request refused: hops used up.
    TooManyHops => "too_many_hops",
    /// A request refused because nobody who serves the user could be reached.
    Unavailable => "unavailable",
    /// An emergency call.
    Emergency => "emergency",
    /// An emergency call for which the table has no row.
    EmergencyUnrouted => "emergency_unrouted",
    /// A request refused by policy.
    Refused => "refused",
    /// A message relayed to a device.
    MessageRelayed => "message_relayed",
    /// A SUBSCRIBE that was accepted.
    SubscribeAccepted => "subscribe_accepted",
    /// A SUBSCRIBE refused by its form, its order, or for who asks.
    SubscribeRefused => "subscribe_refused",
    /// A NOTIFY of ours that was accepted.
    NotifySent => "notify_sent",
    /// A NOTIFY of ours that was refused or did not arrive.
    NotifyFailed => "notify_failed",
    /// A subscription that ended because the subscriber did not know it or was silent.
    SubscriptionLost => "subscription_lost",
    /// A sleeping client that a request needs: its waking was ordered.
    PushAsked => "push_asked",
    /// A request held for a client that was to be woken.
    ProxyWaking => "proxy_waking",
    /// An ACK or response forwarded outside transactions.
    Stateless => "stateless",
    /// A stored record that could not be read by this build.
    RecordUnreadable => "record_unreadable",
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn names_are_unique_and_indices_match() {
        let mut names: Vec<&str> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }
}
