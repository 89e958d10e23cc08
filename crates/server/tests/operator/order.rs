//! Which server is asked first.

use pairline_server::client::order;
use pairline_server::client::{Prefer, endpoints_of};
use pairline_topology::demo_topology;

fn pools(prefer: &Prefer) -> Vec<String> {
    order(&endpoints_of(&demo_topology()), prefer).into_iter().filter_map(|endpoint| endpoint.pool).collect()
}

#[test]
fn the_preferred_server_is_asked_first_and_the_other_next() {
    assert_eq!(pools(&Prefer::Any), ["east", "west"]);
    assert_eq!(pools(&Prefer::Pool("west".into())), ["west", "east"]);
    assert_eq!(pools(&Prefer::Pool("west.pairline.test".into())), ["west", "east"]);
    assert_eq!(pools(&Prefer::PartnerOf("east".into())), ["west", "east"]);
    assert_eq!(pools(&Prefer::Only("west".into())), ["west"]);
}
