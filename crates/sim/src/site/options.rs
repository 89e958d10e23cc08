//! What a run of two pools is made of.
//!
//! Owns the drawing; what the parts mean stands in `pool::options`.

use crate::pool::options::Options;
use crate::rng::Rng;

/// How many servers the two pools have at the beginning, in as many seeds as each is named.
const SIZES: [[usize; 2]; 16] = [
    [3, 3],
    [3, 3],
    [3, 3],
    [3, 3],
    [3, 3],
    [3, 3],
    [3, 3],
    [3, 3],
    [2, 2],
    [2, 2],
    [3, 2],
    [3, 2],
    [2, 3],
    [2, 3],
    [5, 3],
    [5, 5],
];

/// The mix of a seed.
pub fn drawn(rng: &mut Rng) -> Options {
    let servers = *rng.pick(&SIZES).unwrap_or(&[3, 3]);
    let disaster = rng.chance(60);
    // What is published in an epoch that others do not know of is taken back; nobody publishes then.
    let spares = if !disaster && servers != [5, 5] && rng.chance(40) { 1 } else { 0 };
    let drawn = Options {
        servers: servers.to_vec(),
        spares,
        members_every_ms: if spares > 0 { rng.between(4_000, 12_000) } else { 0 },
        disks: rng.chance(40),
        groups: *rng.pick(&[1, 2]).unwrap_or(&2),
        safety_ms: rng.between(25_000, 60_000),
        delay_ms: (1, *rng.pick(&[0, 2, 10]).unwrap_or(&2)),
        wide_ms: (*rng.pick(&[1, 5, 25, 60]).unwrap_or(&5), *rng.pick(&[0, 2, 20]).unwrap_or(&2)),
        change_every_ms: rng.between(40, 250),
        sip_every_ms: rng.between(100, 600),
        operator_every_ms: if rng.chance(15) { 0 } else { rng.between(2_500, 9_000) },
        disaster,
        history_entries: *rng.pick(&[8, 64, 512]).unwrap_or(&64),
        fault_every_ms: if rng.chance(10) { 0 } else { rng.between(1_200, 8_000) },
        sync_ms: *rng.pick(&[1, 4, 20, 80]).unwrap_or(&4),
        give_up_ms: *rng.pick(&[1_500, 1_500, 5_000, 20_000]).unwrap_or(&1_500),
        power_loss: rng.chance(75),
        clocks: rng.chance(60),
        mass: rng.chance(40),
        replica_items: *rng.pick(&[8, 64, 4_096]).unwrap_or(&64),
        loss_percent: *rng.pick(&[0, 0, 5]).unwrap_or(&0),
        rough_start: false,
        verbose: false,
    };
    // Not drawn, so that all other seeds stay what they were.
    Options { rough_start: drawn.safety_ms.is_multiple_of(8), ..drawn }
}

/// Makes a run one in which operators fail over all the time, also without the source's help.
pub fn with_disasters(options: &mut Options) {
    options.disaster = true;
    options.spares = 0;
    options.members_every_ms = 0;
    options.operator_every_ms = 2_500;
}

/// Makes a run one in which servers are cut off from each other while the pools begin.
pub fn with_a_rough_start(options: &mut Options) {
    options.rough_start = true;
}
