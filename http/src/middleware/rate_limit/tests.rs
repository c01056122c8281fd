extern crate std;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeMap;
use std::vec::Vec;

use lightcone_core::UnixId;

use super::*;
use crate::Http;
use crate::testing::{TestRequest, TestServer};
use crate::tests::random::Random;

fn v4(number: u32) -> Address {
    Address::Inet(SocketAddr::new(Ipv4Addr::from_bits(number).into(), 1))
}

fn v6(bits: u128) -> Address {
    Address::Inet(SocketAddr::new(Ipv6Addr::from_bits(bits).into(), 1))
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Returns how many of `n` requests at one time are accepted.
fn accepted<const N: usize>(limit: &mut RateLimit<N>, peer: Address, n: usize, millis: u64) -> usize {
    (0..n).filter(|_| limit.count(peer, at(millis)).is_ok()).count()
}

#[test]
fn a_burst_then_the_rate() {
    let mut limit = RateLimit::<16>::new(4, Duration::from_secs(2)).burst(3);
    assert_eq!(accepted(&mut limit, v4(1), 10, 5_000), 3);
    assert_eq!(limit.count(v4(1), at(5_499)), Err(1), "half a second is rounded up");
    assert_eq!(limit.count(v4(1), at(5_500)), Ok(()));
    assert_eq!(limit.count(v4(1), at(5_500)), Err(1));
    assert_eq!(accepted(&mut limit, v4(1), 10, 6_500), 2);
    assert_eq!(accepted(&mut limit, v4(1), 10, 1_000_000), 3, "no more than the burst are saved");
}

#[test]
fn a_slow_rate_says_how_long_to_wait() {
    let mut limit = RateLimit::<1>::new(1, Duration::from_secs(60));
    assert_eq!(limit.count(v4(1), at(0)), Ok(()));
    assert_eq!(limit.count(v4(1), at(0)), Err(60));
    assert_eq!(limit.count(v4(1), at(1)), Err(60));
    assert_eq!(limit.count(v4(1), at(1_000)), Err(59));
    assert_eq!(limit.count(v4(1), at(59_999)), Err(1));
    assert_eq!(limit.count(v4(1), at(60_000)), Ok(()));
}

#[test]
fn a_fast_rate_is_kept_exactly() {
    let mut limit = RateLimit::<1>::new(3_000, Duration::from_secs(1)).burst(10);
    let accepted: usize = (0..10_000).map(|millis| accepted(&mut limit, v4(1), 20, millis)).sum();
    assert!((30_000 - 10..=30_000 + 10).contains(&accepted), "{accepted}");
}

#[test]
fn peers_are_prefixes() {
    let base = || RateLimit::<64>::new(1, Duration::from_secs(1));
    let same = |mut limit: RateLimit<64>, a: Address, b: Address| {
        limit.count(a, at(0)).unwrap();
        limit.count(b, at(0)).is_err()
    };
    assert!(same(base(), v4(7), v4(7)) && !same(base(), v4(7), v4(6)));
    assert!(same(base().ipv4_prefix(31), v4(7), v4(6)) && !same(base().ipv4_prefix(31), v4(7), v4(5)));
    assert!(same(base().ipv4_prefix(0), v4(7), v4(u32::MAX)));
    let (net, host) = (1 << 64, 1);
    assert!(same(base(), v6(net), v6(net | host)) && !same(base(), v6(net), v6(net << 1)));
    assert!(!same(base().ipv6_prefix(128), v6(net), v6(net | host)));
    assert!(same(base().ipv6_prefix(63), v6(net << 1), v6(net << 1 | net)));
    assert!(same(base().ipv6_prefix(0), v6(net), v6(u128::MAX)));
    assert!(same(base(), v4(7), v6(0xffff_0000_0007)), "an IPv4 address in IPv6 is IPv4");
    assert!(!same(base(), v4(7), v6(0xffff_0000_0006)) && !same(base(), v4(7), v6(7)));
    let unix = Address::Unix(UnixId(1));
    assert!(!same(base(), unix, unix), "no address, no limit");
}

/// What is known of one peer without a bound of memory: when its bucket is full again, by all requests that were
/// accepted.
type Oracle = BTreeMap<u32, u64>;

/// Runs random requests. Returns how many were accepted although an unlimited table would have refused them.
fn against_oracle<const N: usize>(peers: usize, random: &mut Random) -> usize {
    let (interval, burst) = (70, 1 + random.below(5) as u64);
    let mut limit = RateLimit::<N>::new(1, Duration::from_millis(interval))
        .burst(u32::try_from(burst).unwrap())
        .seed(random.next());
    let (mut oracle, mut now, mut generous) = (Oracle::new(), 0, 0);
    for _ in 0..2_000 {
        let pause = random.pick(&[300, 20, 20, 20]);
        now += random.below(pause) as u64;
        let peer = u32::try_from(random.below(peers)).unwrap();
        let full_at = oracle.entry(peer).or_default();
        let after = (*full_at).max(now) + interval;
        let allowed = after <= now + interval * burst;
        match limit.count(v4(peer), at(now)) {
            Ok(()) => {
                generous += usize::from(!allowed);
                *full_at = after;
            }
            Err(wait) => {
                assert!(!allowed, "peer {peer} was refused for requests of others");
                assert!(wait >= 1 && (wait - 1) * 1000 < after - (now + interval * burst));
            }
        }
    }
    generous
}

#[test]
fn a_peer_is_refused_for_its_own_requests_only_and_always_if_there_is_room() {
    let mut random = Random::new(Random::seed());
    let mut forgotten = 0;
    for _ in 0..50 {
        assert_eq!(against_oracle::<8>(8, &mut random), 0, "all peers have a place");
        assert_eq!(against_oracle::<512>(8, &mut random), 0);
        assert_eq!(against_oracle::<1>(1, &mut random), 0);
        forgotten += against_oracle::<8>(40, &mut random) + against_oracle::<1>(3, &mut random);
    }
    assert!(forgotten > 1_000, "a table that is too small forgets: {forgotten}");
}

#[test]
fn many_addresses_lock_out_no_other() {
    let mut limit = RateLimit::<64>::new(1, Duration::from_secs(1)).burst(5).seed(7);
    for attacker in 0..100_000 {
        assert_eq!(limit.count(v4(attacker), at(0)), Ok(()), "each is new");
    }
    assert_eq!(accepted(&mut limit, v6(u128::MAX), 10, 0), 5);
    // those that are used least make room: the bucket above is the emptiest of its places
    let keeps = (0..1_000).all(|attacker| limit.count(v4(1 << 20 | attacker), at(0)).is_ok());
    assert!(
        keeps && limit.count(v6(u128::MAX), at(0)).is_err(),
        "a busy peer is not forgotten for idle ones"
    );
}

#[test]
fn places_whose_buckets_are_full_again_are_reused_first() {
    let mut limit = RateLimit::<8>::new(1, Duration::from_secs(1)).burst(10);
    for peer in 0..8 {
        assert_eq!(accepted(&mut limit, v4(peer), 20, 0), 10);
    }
    // one second later one token is back, and all are as empty as each other; ten seconds later all are full
    for peer in 100..108 {
        assert_eq!(accepted(&mut limit, v4(peer), 20, 10_000), 10);
    }
    for peer in 100..108 {
        assert_eq!(accepted(&mut limit, v4(peer), 20, 10_000), 0, "{peer} still has its place");
    }
}

#[test]
fn all_places_are_used() {
    let mut limit = RateLimit::<100>::new(1, Duration::from_secs(1)).seed(3);
    for peer in 0..10_000 {
        limit.count(v4(peer), at(0)).unwrap();
    }
    assert!(limit.buckets.iter().all(|bucket| bucket.full_at > 0));
}

#[test]
fn a_server_refuses_with_the_time_to_wait() {
    let limit = RateLimit::<16>::new(2, Duration::from_secs(10));
    let mut server =
        TestServer::new(Http::new().get("/", |_request, response| response.text("in")).wrap(limit));
    let statuses = |server: &mut TestServer<_>, n: usize| -> Vec<u16> {
        (0..n).map(|_| server.get("/").status()).collect()
    };
    assert_eq!(statuses(&mut server, 4), [200, 200, 429, 429]);
    let refused = server.request(TestRequest::get("/missing"));
    assert_eq!(
        (refused.status(), refused.header("retry-after")),
        (429, Some("5")),
        "a wrapped server limits all"
    );
    server.advance(Duration::from_millis(4_999));
    assert_eq!(server.get("/").header("retry-after"), Some("1"));
    server.advance(Duration::from_millis(1));
    assert_eq!(statuses(&mut server, 2), [200, 429]);
    server.set_address(v4(77));
    assert_eq!(server.get("/").status(), 200, "another peer");
}

#[test]
#[should_panic(expected = "no request is allowed")]
fn no_requests() {
    drop(RateLimit::<1>::new(0, Duration::from_secs(1)));
}

#[test]
#[should_panic(expected = "more than one million requests a second")]
fn too_many_requests() {
    drop(RateLimit::<1>::new(1_000_001, Duration::from_secs(1)));
}
