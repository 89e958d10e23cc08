//! The order of records: by preference for NAPTR, by priority and weighted choice for SRV. Chance is an input.

use super::records::{MAX_RECORDS, Naptr, Srv};
use crate::flow::Transport;

/// The NAPTR services of SIP (RFC 3263 §4.1, RFC 7118 §8).
const SERVICES: [(&str, Transport); 5] = [
    ("SIP+D2U", Transport::Udp),
    ("SIP+D2T", Transport::Tcp),
    ("SIPS+D2T", Transport::Tls),
    ("SIP+D2W", Transport::Ws),
    ("SIPS+D2W", Transport::Wss),
];

/// The names of SRV records to ask for, most preferred first: those of the lowest order that has a usable record. What has a higher
/// order is not looked at once one fits (RFC 3403 §4.1): a domain that puts TLS before UDP must not be reached in clear
/// because its TLS does not answer.
pub(super) fn by_preference(mut records: Vec<Naptr>, usable: impl Fn(Transport) -> bool) -> Vec<(String, Transport)> {
    records.truncate(MAX_RECORDS);
    records.sort_by_key(|record| (record.order, record.preference));
    let mut order = None;
    let mut chosen: Vec<(String, Transport)> = Vec::new();
    for record in &records {
        let name = lower(record.replacement.trim_end_matches('.').as_bytes());
        let Some(transport) = transport_of(record).filter(|transport| !name.is_empty() && usable(*transport)) else {
            continue;
        };
        if *order.get_or_insert(record.order) != record.order {
            break;
        }
        if !chosen.contains(&(name.clone(), transport)) {
            chosen.push((name, transport));
        }
    }
    chosen
}

fn transport_of(record: &Naptr) -> Option<Transport> {
    if !record.flags.eq_ignore_ascii_case("s") {
        return None;
    }
    let service = |(name, _): &(&str, Transport)| record.service.eq_ignore_ascii_case(name);
    SERVICES.into_iter().find(service).map(|(_, transport)| transport)
}

/// The order of RFC 2782: by priority, and within one by weighted choice.
pub(super) fn by_weight(mut records: Vec<Srv>, mut random: u64) -> Vec<Srv> {
    records.truncate(MAX_RECORDS);
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let equal = records.iter().take_while(|record| record.priority == priority).count();
        let sum: u64 = records[..equal].iter().map(|r| u64::from(r.weight)).sum();
        random = next_random(random);
        let mut pick = random % (sum + 1);
        let index = records[..equal]
            .iter()
            .position(|record| match pick.checked_sub(u64::from(record.weight)) {
                Some(rest) if rest > 0 => {
                    pick = rest;
                    false
                }
                _ => true,
            })
            .unwrap_or(0);
        ordered.push(records.remove(index));
    }
    ordered
}

/// One step of a 64-bit generator, so that a single random input serves several choices.
fn next_random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(super) fn lower(name: &[u8]) -> String {
    name.iter().map(|b| char::from(b.to_ascii_lowercase())).collect()
}
