use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use lightcone::Timeouts;
use lightcone::engine_core::Config;
use lightcone::sim::{Engine, Reading, Script, Sim};

use super::{a_while, must_be_done, one_of, server};
use crate::kv::shards::Shards;
use crate::kv::table::{Hasher, Limits, Store};
use crate::kv::{Connections, Kv, Settings};

/// The longest value: longer than the input and the output of most engines here.
const VALUE_MAX: usize = 6_000;
const LIMITS: Limits = Limits { memory: 4 << 20, value: VALUE_MAX };
/// So little memory that items are evicted, and that values do not always fit.
const TIGHT: Limits = Limits { memory: 16_000, value: VALUE_MAX };
/// The number of keys that the peers of a tight table share.
const SHARED_KEYS: u32 = 8;
const SETTINGS: Settings = Settings { pid: 1, threads: 1, version: "1.0" };

pub(super) fn run(sim: &mut Sim<'_>) {
    let drawn = sim.drawn_engine();
    // A command line must fit into the input.
    let block_size = drawn.config.block_size.max(256);
    let receive_size = drawn.config.receive_size.max(block_size);
    let timeouts = Timeouts { first_byte: None, ..Timeouts::DEFAULT };
    let engine = Engine { config: Config { block_size, receive_size, timeouts, ..drawn.config }, ..drawn };
    let is_tight = sim.draw(3) == 1;
    let shards = one_of(sim, &[4, 1]).unwrap_or(4);
    let (limits, shards) = if is_tight { (TIGHT, 1) } else { (LIMITS, shards) };
    let table = Shards::with_shards(shards, limits, Hasher::seeded(1));
    let connections = Arc::new(Connections::default());
    let kv = sim.engine(engine, |_poller| Kv::new(table.clone(), SETTINGS, Arc::clone(&connections)));
    sim.listen(kv, server(1));
    let peers = one_of(sim, &[12, 2, 24]).unwrap_or(12);
    let mut stubborn = Vec::new();
    for peer in 0..peers {
        let script = Script::to(server(1)).after(a_while(sim, 300));
        let (script, tries) = match (is_tight, sim.draw(3)) {
            (true, _) => (crowded(sim, script, peer), 0),
            (false, 0) => (steady(sim, script, peer), u32::MAX),
            (false, _) => (random(sim, script, peer), 0),
        };
        let slowly = Reading::Slowly { bytes: 200, every: Duration::from_millis(10) };
        let bytes = u64::from(sim.draw(4_000));
        match sim.draw(8) {
            1 => sim.peer(script.half_close().reading(slowly).until_end()),
            2 => sim.peer(script.reading(Reading::Never).pause(Duration::from_secs(100))),
            3 => sim.peer(script.half_close().reset_after(bytes).until_end()),
            4 => sim.peer(script.send("set unfinished 0 0 5000\r\nhalf of it").reset()),
            _ if tries > 0 => {
                let script = script.half_close().until_end();
                let peer = sim.peer(script.retry(tries, Duration::from_millis(200)));
                stubborn.push(peer);
                peer
            }
            _ => sim.peer(script.half_close().until_end()),
        };
    }
    let used = |table: &Shards| {
        let mut used = 0;
        table.clone().each(|table| used += table.used());
        used
    };
    let watched = table.clone();
    sim.must("the memory is within its limit", move || used(&watched) <= limits.memory);
    sim.finish();
    must_be_done(sim, &stubborn);
    // The connections have ended: no draft and no held item is left.
    table.clone().each(|table| table.clear());
    assert_eq!(used(&table), 0, "leaks: memory of the table is taken when it is empty");
}

/// Stores always the same values, so that a repetition after a fault is answered in the same way.
fn steady(sim: &mut Sim<'_>, mut script: Script, peer: u32) -> Script {
    for number in 0..1 + sim.draw(6) {
        let value = filler(&format!("{peer}:{number}:"), length(sim));
        let length = value.len();
        let set = format!("set s{peer}k{number} 7 0 {length}\r\n{value}\r\n");
        let get = format!("get none s{peer}k{number} none s{peer}k{number}\r\n");
        let item = format!("VALUE s{peer}k{number} 7 {length}\r\n{value}\r\n");
        script = sent_in_pieces(sim, script, &format!("{set}{get}"));
        script = script.expect(format!("STORED\r\n{item}{item}END\r\n"));
    }
    script
}

/// Sends random commands for keys of its own, and expects what a map of them returns.
fn random(sim: &mut Sim<'_>, mut script: Script, peer: u32) -> Script {
    let mut known: HashMap<String, (u32, String)> = HashMap::new();
    for number in 0..sim.draw(40) {
        let key = format!("r{peer}k{}", sim.draw(4));
        let old = known.get(&key).cloned();
        let item = |versionless: &Option<(u32, String)>| match versionless {
            Some((flags, value)) => format!("VALUE {key} {flags} {}\r\n{value}\r\n", value.len()),
            None => String::new(),
        };
        let (command, reply) = match sim.draw(14) {
            0..=2 => (format!("get {key}\r\n"), format!("{}END\r\n", item(&old))),
            3 => {
                known.remove(&key);
                let reply = if old.is_some() { "DELETED" } else { "NOT_FOUND" };
                (format!("delete {key}\r\n"), format!("{reply}\r\n"))
            }
            4 => {
                let reply = if old.is_some() { "TOUCHED" } else { "NOT_FOUND" };
                (format!("touch {key} 1000000\r\n"), format!("{reply}\r\n"))
            }
            5 => {
                // An item that has expired when it is touched.
                known.remove(&key);
                (format!("gat -1 {key} {key}\r\n"), format!("{}END\r\n", item(&old)))
            }
            6 => {
                let count = old.as_ref().and_then(|(_, value)| value.parse::<u64>().ok());
                let reply = match (count, &old) {
                    (Some(count), _) => (count + 5).to_string(),
                    (None, Some(_)) => "CLIENT_ERROR cannot increment or decrement non-numeric value".into(),
                    (None, None) => "NOT_FOUND".into(),
                };
                if let (Some(count), Some((flags, _))) = (count, old) {
                    known.insert(key.clone(), (flags, (count + 5).to_string()));
                }
                (format!("incr {key} 5\r\n"), format!("{reply}\r\n"))
            }
            7 => ("nonsense\r\n".into(), "ERROR\r\n".into()),
            8 => {
                let length = VALUE_MAX + 1;
                known.remove(&key);
                let reply = "SERVER_ERROR object too large for cache\r\n";
                (format!("set {key} 0 0 {length}\r\n{}\r\n", "x".repeat(length)), reply.into())
            }
            9 => (format!("set {key} 0 0 3\r\nlonger\r\n"), "CLIENT_ERROR bad data chunk\r\n".into()),
            10 => {
                let reply = if old.is_some() { "EXISTS" } else { "NOT_FOUND" };
                (format!("cas {key} 0 0 1 0\r\nx\r\n"), format!("{reply}\r\n"))
            }
            verb => {
                let value = match sim.draw(3) {
                    0 => number.to_string(),
                    _ => filler(&format!("{number}:"), length(sim)),
                };
                let verb = if verb == 11 {
                    "append"
                } else if verb == 12 {
                    "add"
                } else {
                    "set"
                };
                upload(&mut known, verb, &key, number, value)
            }
        };
        script = sent_in_pieces(sim, script, &command).expect(reply);
    }
    script
}

/// Returns a command that stores a value, and the reply to it.
fn upload(
    known: &mut HashMap<String, (u32, String)>,
    verb: &str,
    key: &str,
    flags: u32,
    value: String,
) -> (String, String) {
    let command = format!("{verb} {key} {flags} 0 {}\r\n{value}\r\n", value.len());
    let new = match (verb, known.get(key)) {
        ("add", Some(_)) | ("append", None) => None,
        ("append", Some((flags, old))) => Some((*flags, format!("{old}{value}"))),
        _ => Some((flags, value)),
    };
    let reply = match new {
        Some((_, value)) if value.len() > VALUE_MAX => "SERVER_ERROR object too large for cache",
        Some(new) => {
            known.insert(key.into(), new);
            "STORED"
        }
        None => "NOT_STORED",
    };
    (command, format!("{reply}\r\n"))
}

/// Stores values under keys that all peers use, in a table that is too small for them. Whatever it gets must be a value
/// that some peer has stored under that key.
fn crowded(sim: &mut Sim<'_>, mut script: Script, peer: u32) -> Script {
    let mut eye = Eye::default();
    script = script.checked(move |connection, bytes| eye.see(connection, bytes));
    for number in 0..sim.draw(30) {
        let key = sim.draw(SHARED_KEYS);
        let command = if sim.draw(2) == 0 {
            format!("get c{key} c{}\r\n", sim.draw(SHARED_KEYS))
        } else {
            let value = filler(&format!("c{key}:{peer}:{number}:"), length(sim));
            format!("set c{key} 0 0 {}\r\n{value}\r\n", value.len())
        };
        script = sent_in_pieces(sim, script, &command);
    }
    script
}

/// Checks the replies to a peer of a crowded table.
#[derive(Default)]
struct Eye {
    connection: u32,
    unread: Vec<u8>,
}

impl Eye {
    fn see(&mut self, connection: u32, bytes: &[u8]) {
        if connection != self.connection {
            *self = Self { connection, unread: Vec::new() };
        }
        self.unread.extend_from_slice(bytes);
        while let Some(taken) = understand(&self.unread) {
            self.unread.drain(..taken);
        }
    }
}

/// Checks the first reply. Returns its length once it has arrived.
fn understand(unread: &[u8]) -> Option<usize> {
    let end = unread.windows(2).position(|window| window == b"\r\n")?;
    let line = String::from_utf8_lossy(unread.get(..end)?);
    let Some(item) = line.strip_prefix("VALUE ") else {
        let known = ["STORED", "END", "SERVER_ERROR out of memory storing object"];
        assert!(known.contains(&&*line), "streams: an unexpected reply {line:?}");
        return Some(end + 2);
    };
    let mut words = item.split(' ');
    let (key, length) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
    let length: usize = length.parse().unwrap_or_else(|_| panic!("streams: no length in {line:?}"));
    let value = unread.get(end + 2..end + 2 + length + 2)?;
    let value = String::from_utf8_lossy(value);
    let origin: String = value.split_inclusive(':').take(3).collect();
    assert!(origin.starts_with(&format!("{key}:")), "streams: {line:?} has the value of {origin:?}");
    assert_eq!(value, filler(&origin, length) + "\r\n", "streams: the value of {line:?}");
    Some(end + 2 + length + 2)
}

/// Returns a value of about this length, or longer if `origin` is.
fn filler(origin: &str, length: usize) -> String {
    let letters = ('a'..='w').cycle().skip(origin.len() % 23).take(length.saturating_sub(origin.len()));
    origin.chars().chain(letters).collect()
}

fn length(sim: &mut Sim<'_>) -> usize {
    let most = one_of(sim, &[50, 1_000, 6_000]).unwrap_or(50);
    sim.draw(most) as usize
}

/// Sends a text in up to two pieces, cut anywhere.
fn sent_in_pieces(sim: &mut Sim<'_>, script: Script, text: &str) -> Script {
    if sim.draw(3) != 1 {
        return script.send(text);
    }
    let (first, second) = text.split_at(sim.draw(u32::try_from(text.len()).unwrap_or(0)) as usize);
    script.send(first).pause(a_while(sim, 50)).send(second)
}
