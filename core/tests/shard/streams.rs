//! Long streams in pieces of every size: each byte arrives once and in order, and each event is justified.

use crate::common::{Bench, Data, PLAIN, Peer, Wire, echo, pattern, rounds};
use core::cell::Cell;
use lightcone_core::{CloseReason, Config, Event, Socket, Token};
use std::rc::Rc;

const BLOCKS: [usize; 3] = [64, 128, 1024];
const KIB: usize = 1024;

fn stream(len: usize) -> Vec<u8> {
    (0..len).map(pattern).collect()
}

fn config(block_size: usize) -> Config {
    Config { block_size, receive_size: 4 * block_size, ..PLAIN }
}

/// Echoes like [`echo`], and checks that each event agrees with the state of the socket.
fn honest_echo(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    match event {
        Event::Sent => assert_eq!(socket.queued(), 0, "`sent` with bytes queued"),
        Event::Writable => assert!(socket.room() > 0, "`writable` without room"),
        Event::Receive => assert!(!socket.bytes().is_empty()),
        _ => {}
    }
    echo(socket, event);
}

fn deliver(wire: &mut Wire, token: Token, expected: &[u8]) {
    wire.settle();
    let at = wire.gone.iter().position(|(gone, _)| *gone == token).expect("the socket has not ended");
    let (_, peer) = wire.gone.swap_remove(at);
    assert!(peer.got == expected, "{} of {} bytes, or wrong bytes", peer.got.len(), expected.len());
    assert_eq!(wire.bench.last().event, Event::Close(CloseReason::Peer));
}

/// One stream that steps through all combinations of piece sizes.
#[test]
fn an_echo_in_pieces_of_all_combinations_of_sizes() {
    for block_size in BLOCKS {
        for large in [0, 1] {
            let config = Config { receive_blocks: large, ..config(block_size) };
            let bytes = stream(400 * KIB);
            let mut wire = Wire::new(Bench::new(&config, honest_echo));
            let token = wire.accept(Peer::new(&[], false));
            let mut at = 0;
            for receive in 1..=65 {
                for send in 1..=65 {
                    let piece = bytes.len() / (65 * 65) + 1;
                    let piece = &bytes[at..bytes.len().min(at + piece)];
                    at += piece.len();
                    let peer = wire.peers.get_mut(&token).unwrap();
                    peer.pieces = (receive, send);
                    peer.sends.extend(piece);
                    wire.settle();
                }
            }
            wire.bench.handler.inner_mut().trace.clear();
            wire.peers.get_mut(&token).unwrap().ends = true;
            deliver(&mut wire, token, &bytes);
            wire.bench.is_clean();
        }
    }
}

/// Whole streams in pieces of fixed sizes, through a kernel that blocks repeatedly.
#[test]
fn an_echo_through_a_narrow_window() {
    let bytes = stream(rounds(300) as usize * KIB);
    for block_size in BLOCKS {
        for (receive, send, window) in
            [(1, 65, 4_000), (65, 1, 900), (63, 64, 65), (usize::MAX, 1_000, 3_000)]
        {
            let mut wire = Wire::new(Bench::new(&config(block_size), honest_echo));
            let mut peer = Peer::new(&bytes, true);
            peer.pieces = (receive, send);
            peer.window = 0;
            let token = wire.accept(peer);
            while let Some(peer) = wire.peers.get_mut(&token) {
                peer.window += window;
                wire.settle();
                wire.bench.handler.inner_mut().trace.drain(..).for_each(drop);
                if wire.gone.is_empty() {
                    let peer = &wire.peers[&token];
                    assert!(bytes.starts_with(&peer.got));
                    assert_eq!(peer.window, 0, "the socket stalls although the window is open");
                }
            }
            let (_, peer) = wire.gone.pop().unwrap();
            assert!(peer.got == bytes, "{block_size} {receive} {send} {window}");
            let stats = wire.bench.shard.stats();
            assert_eq!((stats.bytes_in, stats.bytes_out), (bytes.len() as u64, bytes.len() as u64));
            wire.bench.is_clean();
        }
    }
}

/// More sockets than blocks: all streams complete, in any order of waiting.
#[test]
fn many_echoes_share_few_blocks() {
    for (input_blocks, output_blocks) in [(1, 1), (1, 3), (3, 1), (5, 5)] {
        let config = Config { sockets: 12, input_blocks, output_blocks, ..PLAIN };
        let mut wire = Wire::new(Bench::new(&config, |socket, event| match event {
            Event::Writable => echo(socket, event), // another socket may have taken the block in the meantime
            _ => honest_echo(socket, event),
        }));
        let streams: Vec<Vec<u8>> = (0..12).map(|i| stream(20 * KIB + i * 777)[i..].to_vec()).collect();
        let tokens: Vec<Token> = streams
            .iter()
            .enumerate()
            .map(|(i, bytes)| {
                let mut peer = Peer::new(bytes, true);
                peer.pieces = (1 + i * 9, 100 - i * 7);
                wire.accept(peer)
            })
            .collect();
        wire.settle();
        for (token, bytes) in tokens.iter().zip(&streams) {
            let (_, peer) = wire.gone.iter().find(|(gone, _)| gone == token).expect("the socket starved");
            assert!(peer.got == *bytes);
        }
        wire.bench.is_clean();
    }
}

/// A producer that sends until it is refused, and continues at `writable`: exactly one event per refusal.
#[test]
fn writable_comes_exactly_once_per_refusal() {
    for limit in 1..=4 {
        for (write, send) in [(1, 1), (7, 64), (64, 7), (50, 1_000), (33, 33)] {
            let total = 20 * KIB;
            let counts = Rc::new(Cell::new((0, 0)));
            let seen = counts.clone();
            let react = move |socket: &mut Socket<'_, Data>, event| {
                let (mut refusals, mut grants) = seen.get();
                if event == Event::Writable {
                    grants += 1;
                    assert_eq!(grants, refusals, "`writable` without a refusal");
                    assert!(socket.room() > 0);
                }
                if matches!(event, Event::Open | Event::Writable) {
                    let mut at = socket.data.number as usize;
                    while at < total {
                        let bytes: Vec<u8> = (at..total.min(at + write)).map(pattern).collect();
                        if socket.send(&bytes).is_err() {
                            refusals += 1;
                            break;
                        }
                        at += bytes.len();
                    }
                    socket.data.number = at as u64;
                    if at == total {
                        socket.close();
                    }
                }
                seen.set((refusals, grants));
            };
            let mut wire = Wire::new(Bench::new(&Config { output_limit: limit, ..PLAIN }, react));
            let mut peer = Peer::new(&[], false);
            peer.pieces = (1, send);
            wire.accept(peer);
            wire.settle();
            let (_, peer) = wire.gone.pop().expect("the producer has stopped");
            assert!(peer.got == stream(total));
            let (refusals, grants) = counts.get();
            assert!(refusals > 0 && refusals == grants, "{refusals} refused, {grants} writable");
        }
    }
}

/// A request and its response cost one receive and one send.
#[test]
fn an_exchange_costs_one_receive_and_one_send() {
    let mut wire = Wire::new(Bench::new(&PLAIN, honest_echo));
    let token = wire.accept(Peer::new(&[], false));
    wire.settle();
    for n in 1..100 {
        let before = wire.calls;
        wire.peers.get_mut(&token).unwrap().sends.extend([n; 30]);
        let room = wire.bench.room(token);
        assert!(room >= 30);
        wire.settle();
        // One more receive finds nothing.
        assert!(wire.calls <= before + 4, "{} calls", wire.calls - before);
        assert_eq!(wire.peers[&token].got.len(), usize::from(n) * 30);
    }
    let sent = wire.bench.seen().iter().filter(|seen| seen.event == Event::Sent).count();
    assert_eq!(sent, 99);
}

/// Output written in place, with rewinds in between, produces the same stream.
#[test]
fn every_way_of_writing_makes_the_same_stream() {
    for block_size in BLOCKS {
        let total = 100 * KIB;
        let react = move |socket: &mut Socket<'_, Data>, event| {
            if !matches!(event, Event::Open | Event::Writable | Event::Sent) {
                return;
            }
            let (_, mut output, data) = socket.split();
            loop {
                let at = data.number as usize;
                let want = (at % 97 + 1).min(total - at);
                let bytes: Vec<u8> = (at..at + want).map(pattern).collect();
                let mark = output.mark();
                let _ = output.send_some(&[0xEE; 70]);
                output.rewind(mark);
                let n = match at % 4 {
                    0 => output.send_some(&bytes),
                    1 => output.send(&bytes).map_or(0, |()| want),
                    2 => {
                        let to = output.spare();
                        let n = to.len().min(want);
                        to[..n].copy_from_slice(&bytes[..n]);
                        output.commit(n);
                        n
                    }
                    _ => match output.reserve(want.min(64)) {
                        Ok(to) => {
                            let n = want.min(64);
                            to.copy_from_slice(&bytes[..n]);
                            output.commit(n);
                            n
                        }
                        Err(_) => 0,
                    },
                };
                data.number += n as u64;
                if n == 0 {
                    break;
                }
            }
            if data.number as usize == total {
                socket.close();
            } else {
                assert!(socket.is_writable_pending());
            }
        };
        let mut wire = Wire::new(Bench::new(&config(block_size), react));
        let mut peer = Peer::new(&[], true);
        peer.pieces = (1, 61);
        wire.accept(peer);
        wire.settle();
        let (_, peer) = wire.gone.pop().expect("the socket has stopped");
        assert!(peer.got == stream(total), "{block_size}");
    }
}
