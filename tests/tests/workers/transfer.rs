//! Tests of transfers in every size and at every speed.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use crate::rig::{Echo, Rig, engine, workers};
use lightcone_tests::streams::{exchange, pattern, read_to_end};

#[test]
fn every_size_comes_back() {
    let rig = Rig::start(engine(), workers(2), |_| Echo);
    for length in [1, 2, 100, 4_095, 4_096, 4_097, 32_768, 32_769, 65_537, 1 << 20] {
        let stream = rig.connect();
        let bytes = pattern(length as u64, length);
        assert!(exchange(&stream, &bytes, length) == bytes, "{length} bytes");
    }
    assert_eq!(rig.stop(0).opened, 10);
}

/// The smallest buffers on both sides: each bound is reached all the time.
#[test]
fn everything_comes_back_through_the_narrowest_buffers() {
    let narrow = engine().block_size(64).blocks(64, 64).output_limit(1).receive(64, 8);
    let rig = Rig::start(narrow, workers(2).block_size(64).output_limit(1).receive(64), |_| Echo);
    let streams: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    thread::scope(|scope| {
        for (seed, stream) in streams.iter().enumerate() {
            scope.spawn(move || {
                let bytes = pattern(seed as u64, 20_000);
                assert!(exchange(stream, &bytes, bytes.len()) == bytes);
            });
        }
    });
    rig.stop(0);
}

/// The shadow holds less than the engine passes on at once, and the workers accept more than the engine holds.
#[test]
fn everything_comes_back_where_one_side_is_narrow() {
    let narrow_engine = || engine().block_size(64).blocks(64, 64).output_limit(1).receive(64, 8);
    let narrow_workers = || workers(2).block_size(64).output_limit(1).receive(64);
    for (engine, workers) in [(narrow_engine(), workers(2)), (engine(), narrow_workers())] {
        let rig = Rig::start(engine, workers, |_| Echo);
        let stream = rig.connect();
        let bytes = pattern(7, 50_000);
        assert!(exchange(&stream, &bytes, bytes.len()) == bytes);
        rig.stop(0);
    }
}

#[test]
fn a_peer_that_has_ended_is_still_answered() {
    let rig = Rig::start(engine(), workers(2), |_| Echo);
    for length in [0, 1, 5_000, 300_000] {
        let mut stream = rig.connect();
        let bytes = pattern(3, length);
        let got = thread::scope(|scope| {
            let reader = scope.spawn({
                let stream = stream.try_clone().unwrap();
                || read_to_end(stream)
            });
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            reader.join().unwrap()
        });
        assert!(got == bytes, "{} of {length} bytes came back", got.len());
    }
    rig.stop(0);
}
