//! The handler of `kv` in a simulated network without faults: over a table of its own, and with uploads that stall.

#![allow(
    clippy::std_instead_of_alloc,
    clippy::unwrap_used,
    reason = "as in every test: a failure is a panic"
)]

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use lightcone::engine_core::Config;
use lightcone::sim::{Engine, Outcome, Runner, Script, Sim};
use lightcone_examples::kv::shards::Shards;
use lightcone_examples::kv::table::{Hasher, Limits, Store, Table};
use lightcone_examples::kv::{Connections, Kv, Settings};

const LIMITS: Limits = Limits { memory: 20_000, value: 10_000 };
const HASHER: Hasher = Hasher::seeded(1);
const SETTINGS: Settings = Settings { pid: 1, threads: 1, version: "1.0" };

fn server() -> SocketAddr {
    ([10, 0, 0, 1], 11_211).into()
}

fn calmly(scenario: impl Fn(&mut Sim<'_>)) {
    let result = Runner::new("kv").calm().run(0, &scenario);
    assert!(result.is_ok(), "{}", result.unwrap_err());
}

/// A device has one poller and no locks. Its input and its output are shorter than a value.
#[test]
fn a_handler_owns_its_table_and_takes_commands_cut_anywhere() {
    let value = "0123456789".repeat(200);
    let text = format!("set a 1 0 2000\r\n{value}\r\nget a none a\r\nset b 0 0 2\r\nlong\r\nincr a 1\r\n");
    let item = format!("VALUE a 1 2000\r\n{value}\r\n");
    let refusals = "CLIENT_ERROR bad data chunk\r\n\
                    CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    let replies = format!("STORED\r\n{item}{item}END\r\n{refusals}");
    let config = Config { block_size: 256, receive_size: 256, output_limit: 2, ..Config::default() };
    let engine = Engine { config, pollers: 1, ..Engine::default() };
    // Within the value, the cuts are farther apart.
    let cuts = (0..40).chain((40..1_990).step_by(97)).chain(1_990..text.len());
    for cut in cuts {
        calmly(|sim| {
            let kv = sim.engine(engine, |_poller| {
                Kv::new(Table::new(LIMITS, HASHER, (1, 1)), SETTINGS, Arc::new(Connections::default()))
            });
            sim.listen(kv, server());
            let (first, second) = text.split_at(cut);
            let script = Script::to(server()).send(first).pause(Duration::from_millis(100)).send(second);
            let peer = sim.peer(script.expect(&*replies).half_close().until_end());
            sim.finish();
            assert_eq!(sim.outcome(peer), Outcome::Done, "cut at {cut}");
        });
    }
}

#[test]
fn an_upload_that_stalls_ends_and_its_memory_is_returned() {
    for (seconds, outcome) in [(29, Outcome::Done), (31, Outcome::Cut)] {
        calmly(|sim| {
            let mut table = Shards::new(LIMITS, HASHER);
            let shared = table.clone();
            let kv = sim.engine(Engine::default(), move |_poller| {
                Kv::new(shared.clone(), SETTINGS, Arc::new(Connections::default()))
            });
            sim.listen(kv, server());
            let pause = Duration::from_secs(seconds);
            let script = Script::to(server()).send("set a 0 0 9000\r\nx").pause(pause).send("x");
            let script = script.pause(pause).send("x".repeat(8_998)).send("\r\n").receive("STORED\r\n");
            let peer = sim.peer(script);
            let mut used = 0;
            sim.run_for(Duration::from_secs(1));
            table.each(|table| used = table.used());
            assert!(used > 9_000, "the memory of the value is set aside when it begins");
            sim.finish();
            assert_eq!(sim.outcome(peer), outcome, "after {seconds} s");
            table.each(|table| {
                table.clear();
                assert_eq!(table.used(), 0);
            });
        });
    }
}
