//! Real processes of one Enterprise pool: a server loses its disk and comes back, servers are added by publishing a topology, one is
//! taken out; users go on.
#![allow(clippy::unwrap_used)]

use super::people;

use people::{all_served, change, with_phones};
use std::time::Instant;

#[test]
fn a_server_whose_disk_was_emptied_has_everything_again_and_counts_again() {
    let (mut pool, mut phones) = with_phones();
    pool.kill(1);
    pool.wipe(1);
    change(&pool, &[0, 2], 1);
    let started = Instant::now();
    pool.launch(1);
    change(&pool, &[0, 2], 2);
    change(&pool, &[2, 0], 3);
    let view = pool.settled(1);
    println!("all 33 groups again after {:?}", started.elapsed());
    assert!(view.pools[0].servers.iter().all(|server| server.copies == 33 && server.behind == 0), "{view:?}");
    change(&pool, &[1], 4);
    all_served(&pool, &mut phones, &[1, 2, 0], 5);
    // With one of the others it is a majority.
    pool.kill(0);
    change(&pool, &[1, 2], 5);
    all_served(&pool, &mut phones, &[1, 2], 6);
}

#[test]
fn servers_are_added_by_a_topology_and_one_is_taken_out_again() {
    let (mut pool, mut phones) = with_phones();
    let started = Instant::now();
    pool.grow(2);
    change(&pool, &[0, 1, 2], 1);
    let view = pool.settled(4);
    println!("all 33 groups where they should be after {:?}", started.elapsed());
    let servers = &view.pools[0].servers;
    assert_eq!(servers.len(), 5);
    assert!(
        servers.iter().all(|server| server.up && server.copies == server.of_copies && server.copies > 0),
        "{view:?}"
    );
    assert!(servers.iter().any(|server| server.copies < 33), "they share the groups: {view:?}");
    all_served(&pool, &mut phones, &[0, 1, 2, 3, 4], 2);
    // Any of them may die: also where others have no copy.
    pool.kill(2);
    change(&pool, &[0, 1, 3, 4], 2);
    all_served(&pool, &mut phones, &[0, 1, 3, 4], 3);
    pool.launch(2);
    pool.settled(0);
    let started = Instant::now();
    pool.shrink();
    let view = pool.settled(0);
    println!("without the fifth after {:?}", started.elapsed());
    assert_eq!(view.pools[0].servers.len(), 4);
    change(&pool, &[0, 1, 2, 3], 3);
    all_served(&pool, &mut phones, &[0, 1, 2, 3], 4);
}
