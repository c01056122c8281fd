use core::time::Duration;
use std::sync::Arc;

use lightcone::Timeouts;
use lightcone::engine_core::Config;
use lightcone::sim::{Engine, Reading, Script, Sim};

use super::{a_while, one_of, server};
use crate::chat::{Chat, Counts};

/// Checks what one participant receives: whole lines, those of each other participant in order and without repetition.
struct Ear {
    /// The connection, and the part of a line received so far.
    connection: u32,
    line: Vec<u8>,
    /// The number of the last line received, by participant.
    heard: Vec<Option<u32>>,
}

impl Ear {
    fn new(people: u32) -> Self {
        Self { connection: 0, line: Vec::new(), heard: vec![None; people as usize] }
    }

    fn hear(&mut self, connection: u32, bytes: &[u8]) {
        if connection != self.connection {
            let people = u32::try_from(self.heard.len()).unwrap_or(0);
            *self = Self { connection, ..Self::new(people) };
        }
        for byte in bytes {
            if *byte == b'\n' {
                let line = core::mem::take(&mut self.line);
                self.understand(&String::from_utf8_lossy(&line));
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn understand(&mut self, line: &str) {
        if line.starts_with("* ") {
            let known = line.starts_with("* welcome") || line.starts_with("* you missed ");
            assert!(known, "streams: an unexpected notice {line:?}");
            return;
        }
        let said = line.split_once(": line ").and_then(|(name, number)| {
            let person: usize = name.strip_prefix('p')?.parse().ok()?;
            let number: u32 = number.strip_suffix('.')?.parse().ok()?;
            Some((person, number))
        });
        let Some((person, number)) = said else { panic!("streams: no participant says {line:?}") };
        let Some(last) = self.heard.get_mut(person) else {
            panic!("streams: there is no participant {person}")
        };
        assert!(last.is_none_or(|last| last < number), "streams: {line:?} comes after line {last:?}");
        *last = Some(number);
    }
}

pub(super) fn run(sim: &mut Sim<'_>) {
    let drawn = sim.drawn_engine();
    let timeouts = Timeouts { first_byte: None, idle: Some(Duration::from_mins(10)), ..Timeouts::DEFAULT };
    // The greeting must fit into one block.
    let config = Config { block_size: drawn.config.block_size.max(256), timeouts, ..drawn.config };
    let receive_size = config.receive_size.max(config.block_size);
    let engine = Engine { config: Config { receive_size, ..config }, ..drawn };
    let counts = Arc::new(Counts::default());
    let chat = sim.engine(engine, |_poller| Chat::new(Arc::clone(&counts)));
    sim.listen(chat, server(1));
    let people = one_of(sim, &[8, 2, 16]).unwrap_or(8);
    for person in 0..people {
        let mut ear = Ear::new(people);
        let mut script = Script::to(server(1)).after(a_while(sim, 200));
        script = script.checked(move |connection, bytes| ear.hear(connection, bytes));
        script = script.send(format!("p{person}\n"));
        for number in 0..sim.draw(12) {
            // A line may arrive in pieces.
            script = script.send("line ");
            if sim.draw(3) == 1 {
                script = script.pause(a_while(sim, 50));
            }
            script = script.send(format!("{number}.\n"));
        }
        let script = match sim.draw(6) {
            1 => script.reading(Reading::Slowly { bytes: 10, every: Duration::from_millis(10) }),
            2 => script.reading(Reading::Never).pause(Duration::from_secs(60)),
            3 => script.reset(),
            _ => script.pause(a_while(sim, 2_000)).half_close().until_end(),
        };
        sim.peer(script);
    }
    sim.finish();
}
