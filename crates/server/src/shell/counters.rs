//! Numbers that only the shell can count: what was dropped before the parse, refused, closed, rejected.
//!
//! Owns the counters and their metric names. Does not own how they are shown.

use super::waits::Waits;
use crate::net::tally::Tally;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters with their metric names.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $field:ident => $name:literal,)*) => {
        /// Counters of one server; each only rises.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $field: AtomicU64,)*
            /// Stream connections by transport and reason.
            pub connections: Tally,
            /// Waits in queues of messages.
            pub waits: Waits,
        }

        impl Counters {
            /// Every counter with its metric name, in a fixed order.
            pub fn samples(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.load(Ordering::Relaxed)),)*]
            }

            /// What each counter counts, by metric name.
            pub const ABOUT: &'static [(&'static str, &'static str)] = &[$(($name, concat!($($doc),*)),)*];
        }
    };
}

counters! {
    /// Datagrams received.
    udp_received => "pairline_udp_received_total",
    /// Datagrams dropped before the parse because the node's input was full.
    udp_dropped => "pairline_udp_dropped_total",
    /// Datagrams too short to be SIP (keep-alives), ignored.
    udp_ignored => "pairline_udp_ignored_total",
    /// Datagrams let fall before the parse because there was no time even to refuse them.
    udp_shed => "pairline_udp_shed_total",
    /// STUN binding requests answered.
    stun_answered => "pairline_stun_answered_total",
    /// Datagrams sent.
    udp_sent => "pairline_udp_sent_total",
    /// Datagrams that the system did not take.
    udp_send_failed => "pairline_udp_send_failed_total",
    /// Stream connections accepted.
    stream_accepted => "pairline_stream_accepted_total",
    /// Stream connections refused by a limit before anything was read.
    stream_refused => "pairline_stream_refused_total",
    /// Stream connections that were made.
    stream_connected => "pairline_stream_connected_total",
    /// Stream connections that could not be made.
    stream_connect_failed => "pairline_stream_connect_failed_total",
    /// Stream connections closed because what arrived was not framed SIP.
    stream_malformed => "pairline_stream_malformed_total",
    /// Stream connections closed because the peer did not read what was sent.
    stream_over_budget => "pairline_stream_over_budget_total",
    /// Stream connections closed after the idle limit.
    stream_idle => "pairline_stream_idle_total",
    /// Messages received on streams.
    stream_messages => "pairline_stream_messages_total",
    /// Orders to wake a client that the push gateway took.
    push_sent => "pairline_push_sent_total",
    /// Orders that the push gateway refused.
    push_refused => "pairline_push_refused_total",
    /// Orders that did not reach the push gateway in time.
    push_failed => "pairline_push_failed_total",
    /// Orders dropped because as many as may be were under way.
    push_dropped => "pairline_push_dropped_total",
    /// Links established.
    link_up => "pairline_link_up_total",
    /// Link attempts refused (certificate, version, protocol).
    link_rejected => "pairline_link_rejected_total",
    /// Links closed because the peer did not read what was sent.
    link_over_budget => "pairline_link_over_budget_total",
    /// Frames sent on links.
    link_frames_out => "pairline_link_frames_out_total",
    /// Frames received on links.
    link_frames_in => "pairline_link_frames_in_total",
    /// Bytes sent on links, compressed.
    link_bytes_out => "pairline_link_bytes_out_total",
    /// Bytes received on links, compressed.
    link_bytes_in => "pairline_link_bytes_in_total",
    /// Syncs of the log.
    log_syncs => "pairline_log_syncs_total",
    /// Batches appended to the log.
    log_batches => "pairline_log_batches_total",
    /// Longest sync of the log so far, in microseconds.
    log_sync_longest => "pairline_log_sync_longest_microseconds",
    /// Microseconds spent syncing the log.
    log_sync_time => "pairline_log_sync_microseconds_total",
    /// Checkpoints written.
    checkpoints => "pairline_checkpoints_total",
    /// Commands refused because the node's queue was full.
    commands_refused => "pairline_commands_refused_total",
    /// DNS queries answered.
    dns_answered => "pairline_dns_answered_total",
    /// DNS messages that were not queries.
    dns_malformed => "pairline_dns_malformed_total",
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds a number.
pub fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
}
