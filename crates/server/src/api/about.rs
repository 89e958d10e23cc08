//! What each metric means, in one sentence: the HELP lines of `/metrics`.
//!
//! Owns the sentences of what is no plain counter; a counter's sentence is its documentation. Does not own names or numbers.

use crate::shell::counters::Counters;
use pairline_services::metrics::Counter;

/// Metrics that are not declared as counters of the services or of the shell.
const OTHERS: &[(&str, &str)] = &[
    ("pairline_healthy", "1 if every group that is active here is confirmed and goes on, else 0."),
    (
        "pairline_sip_requests_total",
        "SIP requests that came (in) or were sent (out), repetitions included, by method and transport.",
    ),
    (
        "pairline_sip_responses_total",
        "SIP responses that came (in) or were sent (out), repetitions included, by the request's method and status.",
    ),
    (
        "pairline_request_latency_seconds",
        "Time from a request's coming to its final answer, in steps of a millisecond; a call's includes its ringing.",
    ),
    ("pairline_queue_wait_seconds", "Time that messages waited between the thread that received them and the node."),
    (
        "pairline_commit_latency_seconds",
        "Time from the proposal of a change to its commit on disk, in steps of a millisecond.",
    ),
    ("pairline_sip_messages_in_total", "SIP messages that the node took, malformed ones included."),
    ("pairline_sip_messages_malformed_total", "SIP messages that could not be read."),
    (
        "pairline_sip_requests_refused_full_total",
        "Requests answered 503 because as many transactions or tasks as may be are under way.",
    ),
    (
        "pairline_sip_requests_not_well_formed_after_edit_total",
        "Requests that could not be sent because their edited form could not be read.",
    ),
    ("pairline_sip_responses_without_transaction_total", "Responses that came too late for their transaction."),
    ("pairline_peer_frames_refused_total", "Frames of links that could not be read."),
    ("pairline_sip_transactions", "SIP transactions now, those that were answered in one step excepted."),
    (
        "pairline_sip_transactions_brief",
        "Requests that were answered in one step, kept for as long as they may be repeated, now.",
    ),
    ("pairline_sip_transactions_kept", "Requests that were answered, and whose answers are kept for repetitions now."),
    ("pairline_sip_transactions_kept_bytes", "Bytes of requests and answers that are kept for repetitions now."),
    ("pairline_tasks", "Tasks now: those that answer a request, and others (a scrape is one itself)."),
    ("pairline_timers", "Timers that run now, of transactions and of tasks."),
    ("pairline_waits", "Answers of names' servers, disks and other pools that tasks wait for now."),
    (
        "pairline_requests_pending",
        "Requests that were decided in one step and whose change is on its way to the disk now.",
    ),
    ("pairline_nonces", "Digest nonces whose uses are remembered now."),
    ("pairline_links_up", "Links to other servers now."),
    ("pairline_streams_open", "Stream connections on which something came, now."),
    ("pairline_commits_in_flight", "Changes on their way to the disk now."),
    ("pairline_disk_free_bytes", "Free bytes where the data folder is."),
    ("pairline_log_bytes", "Bytes of the log on disk."),
    ("pairline_pool_mode", "1 for the mode in which each pool is seen from here."),
    ("pairline_registrations", "Bindings in the groups that are active here, by whose they are."),
    ("pairline_registrations_stranded", "Bindings whose flow is gone: records without a phone behind them."),
    ("pairline_group_position", "Sequence of the last entry that a group has applied here."),
    ("pairline_group_epoch", "Number of a group's epoch, with the pool that granted it."),
    ("pairline_group_records", "Records of a group here."),
    ("pairline_group_bytes", "Bytes of a group's records here."),
    ("pairline_group_behind_entries", "Entries that the partner does not have yet."),
    ("pairline_group_tail_entries", "Entries of a group's divergent tail that wait for a decision."),
    ("pairline_group_role", "1 for the role of a group's copy here."),
    ("pairline_group_lag_seconds", "Age of what the backup of a group lacks; absent while it is unknown."),
    ("pairline_connections", "Stream connections that carry SIP now, by transport."),
    ("pairline_connections_opened_total", "Stream connections that carried SIP, accepted (in) or made (out)."),
    ("pairline_connections_closed_total", "Stream connections that carried SIP and ended, by reason."),
    ("pairline_admission_admitted_total", "Requests that were let in, by class."),
    ("pairline_admission_refused_total", "Requests that were refused because the server has too much to do, by class."),
    ("pairline_admission_limited_total", "Requests over the limit of one source or of one identity."),
    ("pairline_admission_units_per_second", "How much may come, in units of admission."),
    ("pairline_admission_wait_seconds", "How long requests wait for the node now."),
    ("pairline_overloaded", "1 while requests are refused because the server has too much to do, else 0."),
    ("pairline_overloads_total", "Times that the server had too much to do."),
    (
        "pairline_sip_requests_held_back_total",
        "Requests that were not sent on because the trusted neighbour has too much to do.",
    ),
    ("pairline_sip_requests_refused_unanswered_total", "Requests that were refused and could not be answered."),
    ("pairline_capture_messages_total", "SIP messages that were captured, and those that there was no room for."),
    (
        "pairline_capture_hep_packets_total",
        "Packets for the collector: sent, not taken by the network or the collector, dropped.",
    ),
    ("pairline_capture_pcap_records_total", "Records of capture files: written, or not because the disk refused."),
    ("pairline_traces_running", "Traces of users that run on this server now."),
    ("pairline_handshakes_failed_total", "Connections that never carried SIP, by reason."),
];

/// The sentence about a metric's name, with its prefix; `None` for one that nobody has described.
pub fn about(name: &str) -> Option<&'static str> {
    let listed = OTHERS.iter().chain(Counters::ABOUT).find(|(known, _)| *known == name).map(|(_, text)| text.trim());
    listed.or_else(|| {
        let bare = name.strip_prefix("pairline_")?.strip_suffix("_total")?;
        Counter::ALL.iter().find(|counter| counter.name() == bare).map(|counter| counter.about().trim())
    })
}
