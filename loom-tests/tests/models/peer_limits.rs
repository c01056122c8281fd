//! The limit of the connections of each peer: never exceeded, and nothing is counted in the end.

use loom::sync::Arc;
use loom::thread;
use loom_tests::sync::{PeerLimits, PeerPermit, PeerPlace};
use loom_tests::{check, unordered_hand_over};

type Limits = PeerLimits<Box<[PeerPlace]>>;

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

fn limits(most: u16) -> Arc<Limits> {
    Arc::new(PeerLimits::new((0..2).map(|_| PeerPlace::new()).collect(), most, 1))
}

fn acquire(limits: &Arc<Limits>, host: u8) -> Option<PeerPermit<Arc<Limits>, Box<[PeerPlace]>>> {
    PeerPermit::acquire(Arc::clone(limits), [192, 0, 2, host].into())
}

/// Two threads admit a connection of the same peer while a place that another peer had becomes free, so that they may
/// count it in two places. Not both are admitted, and afterwards the peer has its limit again.
#[test]
fn the_last_connection_of_a_peer_goes_to_one() {
    let outcomes = ["this", "the other", "neither"];
    check("peer_limits::the_last_connection_of_a_peer_goes_to_one", &outcomes, |seen| {
        let limits = limits(1);
        let before = acquire(&limits, 9).expect("an empty table");
        let other = thread::spawn({
            let limits = Arc::clone(&limits);
            move || acquire(&limits, 1)
        });
        let leaves = thread::spawn(move || drop(before));
        let mine = acquire(&limits, 1);
        let others = other.join().expect("no panic");
        leaves.join().expect("no panic");
        assert!(mine.is_none() || others.is_none(), "both were admitted");
        seen.note("this", mine.is_some());
        seen.note("the other", others.is_some());
        seen.note("neither", mine.is_none() && others.is_none());
        drop((mine, others));
        let all = [1, 2].map(|host| acquire(&limits, host));
        assert!(all.iter().all(Option::is_some), "a connection is still counted");
    });
}
