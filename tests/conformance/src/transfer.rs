//! Bytes of all sizes, at all speeds.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::thread;

use lightcone_core::CloseReason;
use lightcone_unix::Listener;
use lightcone_unix::driver::Driver;

use crate::case::{Case, Event, by_default, consume_all, echo, small};
use crate::ending::wait_until_stalled;
use crate::peer::{Peer, pattern};

/// One byte, sizes around a block, sizes around one read, and much more.
const SIZES: [usize; 14] =
    [1, 2, 63, 64, 65, 1_023, 1_024, 1_025, 4_095, 4_096, 4_097, 16_384, 100_000, 1_048_576];

/// The message that makes the handler continue.
const GO: u64 = 1;

/// Each size is echoed completely, one after the other on one connection.
pub fn every_size_comes_back<D: Driver>() {
    let case = Case::echo::<D>();
    let mut peer = case.peer();
    for size in SIZES {
        peer.exchange(&pattern(size));
    }
    drop(peer);
    assert_eq!(case.trace.closed(0), CloseReason::Peer);
}

/// The same over a Unix socket, where buffers are counted differently.
pub fn every_size_comes_back_over_unix<D: Driver>() {
    let case = Case::echo::<D>();
    let mut peer = Peer::connect(case.listen_unix().endpoint());
    for size in SIZES {
        peer.exchange(&pattern(size));
    }
    drop(peer);
    assert_eq!(case.trace.closed(0), CloseReason::Peer);
}

/// The same to a peer with the smallest buffers that the system allows, so that most sends are partial.
pub fn every_size_comes_back_through_narrow_buffers<D: Driver>() {
    let case = Case::echo::<D>();
    let mut peer = Peer::connect_narrow(case.listen().endpoint(), 1);
    for size in SIZES.into_iter().filter(|size| *size <= 20_000) {
        peer.exchange(&pattern(size));
    }
}

/// Two thousand sends of one byte each are echoed in order.
pub fn single_bytes_come_back_in_order<D: Driver>() {
    let case = Case::echo::<D>();
    let mut peer = case.peer();
    let bytes = pattern(2_000);
    let mut writer = peer.clone();
    thread::scope(|scope| {
        let bytes = &bytes;
        scope.spawn(move || bytes.chunks(1).for_each(|byte| writer.send(byte)));
        assert!(peer.receive(bytes.len()) == *bytes);
    });
}

/// A handler that consumes one byte at a time loses none.
pub fn a_handler_may_consume_byte_by_byte<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive | Event::Writable => {
            let (mut input, mut output) = socket.stream.split();
            while let Some(byte) = input.bytes().first() {
                if output.send(&[*byte]).is_err() {
                    return;
                }
                input.consume(1);
            }
        }
        other => by_default(socket, other),
    });
    case.peer().exchange(&pattern(20_000));
}

/// Bytes that a handler does not consume are passed again with the next ones, in one slice.
pub fn bytes_that_are_left_are_kept_in_one_piece<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive | Event::Writable if socket.bytes().len() >= 3_000 => echo(socket),
        Event::Receive => {}
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    let bytes = pattern(3_000);
    for piece in bytes.chunks(700) {
        peer.send(piece);
        thread::sleep(Duration::from_millis(2));
    }
    assert!(peer.receive(3_000) == bytes);
}

/// A full input buffer stops reading for its socket only, and reading resumes when there is room.
pub fn a_handler_that_never_consumes_pauses_its_own_socket<D: Driver>() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let case = Case::start(small::<D>(), move |socket, event, _| match event {
        Event::Receive if socket.data.socket == 0 && socket.data.count == 0 => {
            seen.fetch_max(socket.bytes().len(), Ordering::Relaxed);
        }
        Event::Message(GO) => {
            socket.data.count = 1;
            echo(socket);
        }
        Event::Receive | Event::Writable => echo(socket),
        other => by_default(socket, other),
    });
    let listener = case.listen();
    let mut stuck = Peer::connect(listener.endpoint());
    let token = case.trace.token(0);
    let bytes = pattern(1 << 20);
    let mut writer = stuck.clone();
    thread::scope(|scope| {
        let bytes = &bytes;
        scope.spawn(move || writer.send(bytes));
        // the input buffer is full at 4 KiB: more is never received
        case.trace.wait("a full input buffer", |_| (most.load(Ordering::Relaxed) == 4_096).then_some(()));
        let mut other = Peer::connect(listener.endpoint());
        for _ in 0..100 {
            other.exchange(b"served");
        }
        case.handle().post(token, GO).unwrap();
        assert!(stuck.receive(bytes.len()) == *bytes);
    });
    assert_eq!(most.load(Ordering::Relaxed), 4_096);
}

/// A paused socket is not read; after `resume` it is, and no bytes are lost.
pub fn pause_stops_reading_and_resume_goes_on<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open => socket.pause(),
        Event::Message(GO) => socket.resume(),
        Event::Receive | Event::Writable => echo(socket),
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    let token = case.trace.token(0);
    peer.send(b"hello");
    peer.expect_silence(Duration::from_millis(50));
    assert_eq!(case.trace.count_of(0, "receive"), 0);
    case.handle().post(token, GO).unwrap();
    assert_eq!(peer.receive(5), b"hello");
    case.trace.until(0, "sent");
    assert_eq!(case.trace.shape(0), "admit open message(1) receive sent");
}

/// Both directions at full speed at once, with unrelated bytes.
pub fn both_directions_flow_at_once<D: Driver>() {
    const TOTAL: usize = 2 << 20;
    let (bytes, came) = (Arc::new(pattern(TOTAL)), Arc::new(AtomicUsize::new(0)));
    let (to_send, counted) = (Arc::clone(&bytes), Arc::clone(&came));
    let case = Case::start(small::<D>(), move |socket, event, _| match event {
        Event::Open | Event::Writable => {
            socket.data.count += socket.stream.split().1.send_some(&to_send[socket.data.count..]);
        }
        Event::Receive => {
            counted.fetch_add(socket.bytes().len(), Ordering::Relaxed);
            consume_all(socket);
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    let mut writer = peer.clone();
    thread::scope(|scope| {
        let bytes = &bytes;
        scope.spawn(move || writer.send(bytes));
        assert!(peer.receive(TOTAL) == **bytes);
    });
    case.trace.wait("all bytes", |_| (came.load(Ordering::Relaxed) == TOTAL).then_some(()));
}

/// A peer with a small window that reads slowly receives everything.
pub fn a_slow_reader_gets_everything<D: Driver>() {
    const TOTAL: usize = 200_000;
    let bytes = Arc::new(pattern(TOTAL));
    let to_send = Arc::clone(&bytes);
    let case = Case::start(small::<D>(), move |socket, event, _| match event {
        Event::Open | Event::Writable => {
            socket.data.count += socket.stream.split().1.send_some(&to_send[socket.data.count..]);
            if socket.data.count == TOTAL {
                socket.close();
            }
        }
        other => by_default(socket, other),
    });
    let mut peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
    let mut received = Vec::new();
    while received.len() < TOTAL {
        received.extend(peer.try_receive(777).unwrap());
    }
    assert!(received == *bytes);
    peer.expect_end();
    assert_eq!(case.trace.closed(0), CloseReason::Local);
    assert_eq!(case.trace.lost(0), 0);
}

/// A peer that reads nothing for a while receives everything in the end.
pub fn a_stalled_reader_gets_everything<D: Driver>() {
    stalled_reader::<D>(|case| case.listen());
}

/// The same over a Unix socket.
pub fn a_stalled_unix_reader_gets_everything<D: Driver>() {
    stalled_reader::<D>(|case| case.listen_unix());
}

fn stalled_reader<D: Driver>(listen: impl Fn(&Case) -> Listener<u64>) {
    const TOTAL: usize = 12 << 20; // more than systems buffer for a socket
    let bytes = Arc::new(pattern(TOTAL));
    let to_send = Arc::clone(&bytes);
    let case = Case::start(small::<D>(), move |socket, event, _| match event {
        Event::Open | Event::Writable => {
            socket.data.count += socket.stream.split().1.send_some(&to_send[socket.data.count..]);
        }
        other => by_default(socket, other),
    });
    case.trace.keep_ends_only();
    let mut peer = Peer::connect(listen(&case).endpoint());
    case.trace.token(0);
    wait_until_stalled(&case);
    assert!(case.handle().stats()[0].bytes_out < TOTAL as u64, "nothing stalled");
    assert!(peer.receive(TOTAL) == *bytes);
}

/// Many small sends, more than one system call gathers, arrive in order.
pub fn many_small_sends_arrive_in_order<D: Driver>() {
    let bytes = Arc::new(pattern(4_000));
    let pieces = Arc::clone(&bytes);
    let case = Case::start(small::<D>(), move |socket, event, _| match event {
        Event::Open => pieces.chunks(7).for_each(|piece| socket.send(piece).unwrap()),
        other => by_default(socket, other),
    });
    assert!(case.peer().receive(4_000) == *bytes);
}

/// A send that does not fit is refused as a whole, and is followed by one `writable` when there is room.
pub fn a_refused_send_brings_one_writable<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open => {
            // the second send exceeds the output limit while the first is queued
            socket.send(&[1; 4_000]).unwrap();
            let queued = socket.queued();
            assert!(socket.send(&[2; 4_000]).is_err());
            assert_eq!(socket.queued(), queued, "a refused send has queued bytes");
            assert!(socket.is_writable_pending());
        }
        Event::Writable => {
            assert!(!socket.is_writable_pending());
            socket.send(&[3; 2_000]).unwrap();
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    assert_eq!(peer.receive(6_000), [vec![1; 4_000], vec![3; 2_000]].concat());
    case.trace.until(0, "sent");
    peer.expect_silence(Duration::from_millis(20));
    assert_eq!(case.trace.count_of(0, "writable"), 1);
}

/// A send that can never fit is not followed by `writable`, and the socket continues.
pub fn a_send_beyond_the_bound_is_refused_for_good<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open => {
            assert!(socket.send(&[1; 5_000]).is_err());
            assert!(!socket.is_writable_pending());
        }
        Event::Receive => echo(socket),
        other => by_default(socket, other),
    });
    case.peer().exchange(b"alive");
    assert_eq!(case.trace.count_of(0, "writable"), 0);
}

/// Empty sends, consumes and reservations cause no event.
pub fn nothing_is_no_event<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open => {
            socket.send(b"").unwrap();
            socket.consume(0);
            let (mut input, mut output) = socket.stream.split();
            input.consume(0);
            assert_eq!(output.send_some(b""), 0);
            assert!(output.reserve(0).is_ok());
            output.commit(0);
            assert_eq!(socket.queued(), 0);
        }
        Event::Receive => {
            consume_all(socket);
            socket.send(b"").unwrap();
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.send(b"");
    peer.expect_silence(Duration::from_millis(30));
    assert_eq!(case.trace.shape(0), "admit open");
    peer.send(b"x");
    case.trace.until(0, "receive");
    peer.finish();
    case.trace.closed(0);
    assert_eq!(case.trace.shape(0), "admit open receive peer_closed close(closed by the peer)");
}

/// Backpressure: while `writable` is pending, the socket is not read.
pub fn a_client_that_reads_no_answers_is_not_read_from<D: Driver>() {
    let case = Case::echo::<D>();
    let listener = case.listen();
    let peer = Peer::connect(listener.endpoint());
    let mut writer = peer.clone();
    let taken = || case.handle().stats()[0].bytes_in;
    let flood = thread::spawn(move || {
        let _ = writer.try_send(&vec![7; 64 << 20]);
    });
    // the flow stops well before everything has been received
    let mut last = u64::MAX;
    lightcone_contract::sockets::soon("a stop", || {
        thread::sleep(Duration::from_millis(150));
        let now = taken();
        (core::mem::replace(&mut last, now) == now && now > 0).then_some(())
    });
    assert!(last < 32 << 20, "{last} bytes were received");
    peer.cut();
    flood.join().unwrap();
}
