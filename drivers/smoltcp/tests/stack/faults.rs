//! Streams in both directions over wires that lose, double, delay and reorder frames, and peers that vanish.

use core::convert::Infallible;
use core::time::Duration;

use crate::wire::{Clients, Faults, Random, SERVER, interface, received, run, wire};
use lightcone_core::poller::Alone;
use lightcone_core::{
    Address, CloseReason, Config, Context, ContractChecker, Handler, Instant, ListenerId, Origin, Socket,
    Timeouts,
};
use lightcone_smoltcp::smoltcp::socket::tcp::State;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};

const LENGTH: usize = 20_000;
/// How many of them may end early, by the timeouts of a connection that smoltcp no longer sends again on: see `watch_queue`
/// in the pool.
const STALLS_MAX: usize = 15;
const SEEDS: u64 = 300;
const CONFIG: Config = Config {
    sockets: 4,
    block_size: 512,
    input_blocks: 4,
    output_blocks: 12,
    receive_blocks: 0,
    // the client of a download sends nothing, and after two losses TCP waits for long
    timeouts: Timeouts {
        first_byte: None,
        write_stall: Some(Duration::from_secs(60)),
        drain: Some(Duration::from_secs(60)),
        ..Timeouts::DEFAULT
    },
    ..Config::DEVICE
};
type Memory<'s, T> = StackMemory<'s, T, { CONFIG.sockets }, { CONFIG.memory() }, 1024, 1024>;

/// The byte at a position of every stream.
fn byte(position: usize) -> u8 {
    (position * 31 + (position >> 8)) as u8
}

fn stream() -> Vec<u8> {
    (0..LENGTH).map(byte).collect()
}

/// Returns what comes back, by the port: all bytes, a stream, or how many bytes of a stream were received.
#[derive(Default)]
struct Streams {
    closed: Vec<CloseReason>,
}

const ECHO: u16 = 1;
const DOWNLOAD: u16 = 2;
const UPLOAD: u16 = 3;

struct Progress {
    port: u16,
    position: usize,
}

impl Handler for Streams {
    type Data = Progress;
    type Message = Infallible;

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<Progress> {
        let Origin::Accepted { listener } = origin else { return None };
        Some(Progress { port: u16::from(listener.0) + 1, position: 0 })
    }

    fn open(&mut self, socket: &mut Socket<'_, Progress>, cx: &mut Context<'_, Infallible>) {
        self.writable(socket, cx);
    }

    fn receive(&mut self, socket: &mut Socket<'_, Progress>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output, progress) = socket.split();
        if progress.port == ECHO {
            let taken = output.send_some(input.bytes());
            input.consume(taken);
            return;
        }
        for received in input.bytes() {
            assert_eq!(*received, byte(progress.position), "byte {}", progress.position);
            progress.position += 1;
        }
        input.consume_all();
    }

    fn writable(&mut self, socket: &mut Socket<'_, Progress>, cx: &mut Context<'_, Infallible>) {
        if socket.data.port != DOWNLOAD {
            return self.receive(socket, cx);
        }
        let rest: Vec<u8> = (socket.data.position..LENGTH).map(byte).collect();
        let (_, mut output, progress) = socket.split();
        progress.position += output.send_some(&rest);
        if progress.position == LENGTH {
            socket.stream.close();
        }
    }

    fn peer_closed(&mut self, socket: &mut Socket<'_, Progress>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
        if socket.data.port == UPLOAD {
            let count = socket.data.position.to_string();
            socket.stream.send(count.as_bytes()).unwrap();
        }
        if socket.stream.bytes().is_empty() {
            socket.stream.close();
        }
    }

    fn close(&mut self, _: &mut Socket<'_, Progress>, reason: CloseReason, _: &mut Context<'_, Infallible>) {
        self.closed.push(reason);
    }
}

/// Carries an echo, a download and an upload at once over a wire with these faults. What arrives must be right. Returns
/// when all has arrived, or `None` if a connection has ended before.
fn three_streams(faults: Option<Faults>) -> Option<Instant> {
    let (mut device, there) = wire();
    if let Some(faults) = &faults {
        there.set_faults(faults);
    }
    let mut memory = Memory::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let start = Instant::from_millis(0);
    let handler = ContractChecker::new(Streams::default());
    let mut stack: Stack<'_, _, _> = Stack::new(&mut memory, &CONFIG, uplink, handler, Alone, start).unwrap();
    for (id, port) in (0..).zip([ECHO, DOWNLOAD, UPLOAD]) {
        assert!(stack.listen(port, ListenerId(id)));
    }
    let mut clients = Clients::new(there, 3);
    let sockets = [ECHO, DOWNLOAD, UPLOAD].map(|port| {
        let handle = clients.socket(700, 900);
        clients.connect(handle, port);
        (handle, port)
    });
    let (mut sent, mut got) = ([0; 3], [const { Vec::new() }; 3]);
    let all = stream();
    let now = run(&mut stack, &mut clients, start, |clients, now| {
        for (n, (handle, port)) in sockets.into_iter().enumerate() {
            let socket = clients.of(handle);
            got[n].extend(received(socket));
            if port != DOWNLOAD && socket.can_send() {
                sent[n] += socket.send_slice(&all[sent[n]..]).unwrap();
                if port == UPLOAD && sent[n] == LENGTH {
                    socket.close();
                }
            }
            if (port == ECHO && got[n].len() == LENGTH) || socket.state() == State::CloseWait {
                socket.close();
            }
        }
        let closed = |(handle, _)| matches!(clients.of(handle).state(), State::Closed | State::TimeWait);
        sockets.into_iter().all(closed) || now > Instant::from_millis(300_000)
    });
    let seed = faults.map(|faults| faults.random.0);
    for (n, got) in got[..2].iter().enumerate() {
        let begin = all.get(..got.len());
        assert!(begin == Some(&got[..]), "stream {n} has other bytes than were sent, seed {seed:?}");
    }
    let count = String::from_utf8_lossy(&got[2]);
    assert!(count.is_empty() || count == LENGTH.to_string(), "the upload has {count} bytes, seed {seed:?}");
    let closed = &stack.poller().handler().inner().closed;
    let clean = closed.iter().all(|reason| matches!(reason, CloseReason::Peer | CloseReason::Local));
    let is_whole = got[0] == all && got[1] == all && !got[2].is_empty() && clean && closed.len() == 3;
    is_whole.then_some(now)
}

/// Runs three streams over wires of many seeds. Returns how many runs were not complete.
fn stalls(faults: impl Fn(Random) -> Faults) -> usize {
    let runs = (1..=SEEDS).map(|seed| three_streams(Some(faults(Random(seed)))));
    runs.filter(Option::is_none).count()
}

#[test]
fn streams_arrive_whole() {
    let now = three_streams(None).expect("no connection ends early");
    assert!(now < Instant::from_millis(5_000), "took until {now:?}");
}

#[test]
fn streams_arrive_whole_over_bad_wires() {
    let stalls = stalls(|random| Faults { random, lost: 5, doubled: 5, delayed: 40, delay: 30 });
    assert!(stalls <= STALLS_MAX, "{stalls} of {SEEDS} runs were not complete");
}

#[test]
fn streams_arrive_whole_if_frames_are_only_doubled_and_reordered() {
    let stalls = stalls(|random| Faults { random, lost: 0, doubled: 30, delayed: 60, delay: 15 });
    assert!(stalls <= STALLS_MAX, "{stalls} of {SEEDS} runs were not complete");
}
