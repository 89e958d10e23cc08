//! Seeds that found something once: a fault of the servers, or of the simulator. The regular run takes them again.
//!
//! Owns the lists. What each found, and how it was mended, says `docs/results/simulation.md`. A change of what is drawn gives a seed another
//! course, so these are no tests of what they found (those stand beside what was mended), but of courses that are as likely as any to be bad.

/// Of two pools of one server each.
pub const PAIRS: &[u64] = &[2_120_001_902, 2_120_003_305];

/// Of one pool of several servers.
pub const POOLS: &[u64] = &[
    100_700,
    102_099,
    102_814,
    103_328,
    103_516,
    104_557,
    110_750,
    111_296,
    111_766,
    112_349,
    131_982,
    135_881,
    2_070_001_585,
    2_070_004_614,
    2_078_404_090,
    2_078_451_085,
];

/// Of two pools of several servers.
pub const SITES: &[u64] = &[
    100_006,
    100_205,
    100_304,
    100_342,
    100_480,
    100_659,
    100_710,
    100_805,
    101_067,
    101_128,
    110_079,
    110_376,
    110_593,
    2_078_450_421,
    2_078_470_089,
    2_078_470_261,
    2_078_500_180,
    2_110_001_820,
    2_110_002_528,
    2_110_003_540,
    2_130_001_297,
    2_130_001_616,
    2_140_000_328,
    2_160_002_582,
    2_160_003_246,
    2_170_001_332,
];
