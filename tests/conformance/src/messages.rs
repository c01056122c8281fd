//! Messages, broadcasts and requests from other threads.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use lightcone_contract::sockets::soon;
use lightcone_core::{CloseReason, Rejected, RequestError, Token, Topic};
use lightcone_unix::Policy;
use lightcone_unix::driver::Driver;

use crate::case::{Case, Event, by_default, consume_all, echoing, small};
use crate::peer::Peer;
use crate::trace::What;

/// Messages from one thread arrive complete and in order.
pub fn messages_keep_their_order<D: Driver>() {
    let case = Case::echo::<D>();
    let _peer = case.peer();
    let token = case.trace.token(0);
    for message in 0..1_000 {
        case.handle().post(token, message).unwrap();
    }
    case.trace.until_count("message", 1_000);
    let records = case.trace.records();
    let came = records.iter().filter_map(|it| if let What::Message(it) = it.what { Some(it) } else { None });
    assert!(came.eq(0..1_000));
}

/// Each message wakes a poller that has been idle for a while.
pub fn each_message_wakes_a_sleeper<D: Driver>() {
    let case = Case::echo::<D>();
    let _peer = case.peer();
    let token = case.trace.token(0);
    for message in 0..50 {
        // the longer the pause, the more likely the poller is asleep
        thread::sleep(Duration::from_millis(message / 5));
        case.handle().post(token, message).unwrap();
        case.trace.until_nth(0, "message", usize::try_from(message).unwrap() + 1);
    }
}

/// Eight threads post at once to a poller that keeps falling asleep: no message is lost, doubled or overtaken.
pub fn many_threads_wake_one_poller<D: Driver>() {
    const THREADS: u64 = 8;
    const EACH: u64 = 2_000;
    let next: Arc<[AtomicU64; 8]> = Arc::default();
    let seen = Arc::clone(&next);
    let case = Case::start(small::<D>().mailbox(64), move |socket, event, _| match event {
        Event::Message(message) => {
            let (thread, n) = (message / EACH, message % EACH);
            let before = seen[usize::try_from(thread).unwrap()].fetch_add(1, Ordering::Relaxed);
            assert_eq!(before, n, "of thread {thread}");
        }
        other => by_default(socket, other),
    });
    let _peer = case.peer();
    let token = case.trace.token(0);
    case.trace.keep_ends_only();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let handle = case.handle().clone();
            scope.spawn(move || {
                for n in 0..EACH {
                    soon("room", || handle.post(token, thread * EACH + n).ok());
                    if n % 500 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
    });
    soon("all messages", || next.iter().all(|n| n.load(Ordering::Relaxed) == EACH).then_some(()));
}

/// A full mailbox returns the message, and accepts more when it has room. Requests such as `close` still get through.
pub fn a_full_mailbox_returns_the_message<D: Driver>() {
    let (inside, outside) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (enter, leave) = (Arc::clone(&inside), Arc::clone(&outside));
    let case = Case::start(small::<D>().mailbox(8), move |socket, event, _| match event {
        Event::Receive => {
            enter.wait();
            leave.wait();
            consume_all(socket);
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    let token = case.trace.token(0);
    peer.send(b"x");
    inside.wait(); // from here on the poller is busy
    for message in 0..8 {
        case.handle().post(token, message).unwrap();
    }
    assert_eq!(case.handle().post(token, 99), Err(Rejected::Full(99)));
    assert_eq!(case.handle().broadcast(98), Err(Rejected::Full(98)));
    case.handle().close(token).unwrap();
    outside.wait();
    // the request to close overtakes the queued messages, which then have no receiver
    assert_eq!(case.trace.closed(0), CloseReason::Local);
    soon("room", || case.handle().post(token, 100).ok());
}

/// A socket whose message found the mailbox of another poller full is notified when there is room, and the messages
/// arrive complete and in order.
pub fn a_refused_socket_is_told_about_room<D: Driver>() {
    const MESSAGES: u64 = 10_000;
    let (to, next) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(0)));
    let (seen, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let (target, posted, arrived, full) = (Arc::clone(&to), next, Arc::clone(&seen), Arc::clone(&refused));
    let case = Case::start(small::<D>().pollers(2).mailbox(4), move |socket, event, cx| match event {
        Event::Receive | Event::Room(_) => {
            consume_all(socket);
            let to: Token = target.lock().unwrap().unwrap();
            while posted.load(Ordering::Relaxed) < MESSAGES {
                if cx.post(to, posted.load(Ordering::Relaxed)).is_err() {
                    full.fetch_add(1, Ordering::Relaxed);
                    return cx.request_room(to.poller(), Some(socket.token())).unwrap();
                }
                posted.fetch_add(1, Ordering::Relaxed);
            }
        }
        Event::Message(message) => {
            assert_eq!(arrived.fetch_add(1, Ordering::Relaxed), message);
        }
        other => by_default(socket, other),
    });
    let (_first, mut second) = (case.peer(), case.peer());
    let tokens = [case.trace.token(0), case.trace.token(1)];
    assert_ne!(tokens[0].poller(), tokens[1].poller());
    case.trace.keep_ends_only();
    *to.lock().unwrap() = Some(tokens[0]);
    second.send(b"x");
    soon("all messages", || (seen.load(Ordering::Relaxed) == MESSAGES).then_some(()));
    assert!(refused.load(Ordering::Relaxed) > 0, "the mailbox was never full");
}

/// A socket can post to itself; the message arrives after the callback.
pub fn a_socket_posts_to_itself<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Open => cx.post(socket.token(), 100).unwrap(),
        Event::Message(n) if n > 0 => cx.post(socket.token(), n - 1).unwrap(),
        other => by_default(socket, other),
    });
    let _peer = case.peer();
    case.trace.until_nth(0, "message", 101);
    assert_eq!(case.trace.records()[1].what, What::Open);
}

/// A poller that is never idle still publishes its counts and serves its sockets.
pub fn a_busy_poller_publishes_its_counts<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Open if socket.data.socket == 0 => cx.post(socket.token(), 1).unwrap(),
        Event::Message(n) => cx.post(socket.token(), n).unwrap(),
        other => echoing(socket, other, cx),
    });
    let listener = case.listen();
    let _busy = Peer::connect(listener.endpoint());
    case.trace.until(0, "message");
    case.trace.keep_ends_only();
    let mut peer = Peer::connect(listener.endpoint());
    for n in 1..=3 {
        peer.exchange(&[7; 100]);
        soon("the counts", || (case.handle().stats()[0].bytes_in >= n * 100).then_some(()));
    }
}

/// Sockets of two pollers exchange ten thousand messages.
pub fn two_pollers_play_ball<D: Driver>() {
    const BOUNCES: u64 = 10_000;
    let tokens: Arc<Mutex<Vec<Token>>> = Arc::default();
    let (known, last) = (Arc::clone(&tokens), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&last);
    let case = Case::start(small::<D>().pollers(2), move |socket, event, cx| match event {
        Event::Open => known.lock().unwrap().push(socket.token()),
        Event::Message(n) => {
            seen.store(n, Ordering::Relaxed);
            let other = known.lock().unwrap().iter().find(|it| **it != socket.token()).copied().unwrap();
            assert_ne!(other.poller(), cx.poller());
            if n < BOUNCES {
                cx.post(other, n + 1).unwrap();
            }
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    let _peers = [Peer::connect(listener.endpoint()), Peer::connect(listener.endpoint())];
    soon("both tokens", || (tokens.lock().unwrap().len() == 2).then_some(()));
    case.trace.keep_ends_only();
    case.handle().post(case.trace.token(0), 1).unwrap();
    soon("the last bounce", || (last.load(Ordering::Relaxed) == BOUNCES).then_some(()));
}

/// A broadcast reaches every open socket of every poller once, including the sender, and no closed one.
pub fn a_broadcast_reaches_everyone_once<D: Driver>() {
    let case = Case::start(small::<D>().pollers(3), |socket, event, cx| match event {
        Event::Message(1) => cx.broadcast(2).unwrap(),
        other => echoing(socket, other, cx),
    });
    let listener = case.listen();
    let mut peers: Vec<_> = (0..20).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", 20);
    peers.truncate(15);
    case.trace.until_count("close", 5);
    case.handle().broadcast(0).unwrap();
    case.trace.until_count("message", 15);
    let first = case.trace.socket_of(peers[0].address());
    case.handle().post(case.trace.token(first), 1).unwrap();
    case.trace.until_count("message", 15 + 1 + 15);
    let records = case.trace.records();
    for peer in &peers {
        let socket = case.trace.socket_of(peer.address());
        for message in [0, 2] {
            let is_it = |it: &&crate::trace::Record| it.socket == socket && it.what == What::Message(message);
            assert_eq!(records.iter().filter(is_it).count(), 1, "message {message} of socket {socket}");
        }
    }
}

/// A broadcast reaches all sockets even if there are more than one turn handles.
pub fn a_broadcast_reaches_thousands<D: Driver>() {
    let hard = lightcone_unix::limits::DescriptorLimit::read().unwrap().hard;
    let count = if D::DESCRIPTORS_MAX.is_some() || hard < 4_000 { 100 } else { 1_300 };
    if count < 1_300 {
        println!("skipped: only {count} sockets are possible here, fewer than one turn reaches");
    }
    let got = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&got);
    let case = Case::start(small::<D>().sockets(count), move |socket, event, _| match event {
        Event::Message(_) => {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    case.trace.keep_ends_only();
    let peers: Vec<_> = (0..count).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", count);
    for round in 1..=2 {
        case.handle().broadcast(1).unwrap();
        soon("all sockets", || (got.load(Ordering::Relaxed) == round * count).then_some(()));
    }
    drop(peers);
    case.trace.until_count("close", count);
    assert_eq!(got.load(Ordering::Relaxed), 2 * count);
}

/// What is published reaches the subscribers of its topic and no one else, in its order, on all pollers, even if there
/// are more than one turn handles.
pub fn what_is_published_reaches_thousands<D: Driver>() {
    const ROUNDS: usize = 20;
    let hard = lightcone_unix::limits::DescriptorLimit::read().unwrap().hard;
    let count = if D::DESCRIPTORS_MAX.is_some() || hard < 6_000 { 100 } else { 2_600 };
    if count < 2_600 {
        println!("skipped: only {count} sockets are possible here, fewer than one turn reaches");
    }
    // the number of the next message for each socket
    let next: Arc<Vec<_>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
    let (got, wrong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (heard, counted, failed) = (Arc::clone(&next), Arc::clone(&got), Arc::clone(&wrong));
    let builder = small::<D>().pollers(2).sockets(count).balancer(Policy::RoundRobin);
    let case = Case::start(builder, move |socket, event, cx| match event {
        Event::Open if socket.data.socket % 10 != 0 => cx.subscribe(Topic(7), socket.token()).unwrap(),
        Event::Open => cx.subscribe(Topic(8), socket.token()).unwrap(),
        Event::Message(number) => {
            counted.fetch_add(1, Ordering::Relaxed);
            let is_next = heard[socket.data.socket].swap(number + 1, Ordering::Relaxed) == number;
            failed.fetch_add(usize::from(!is_next), Ordering::Relaxed);
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    case.trace.keep_ends_only();
    let peers: Vec<_> = (0..count).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", count);
    for number in 0..ROUNDS as u64 {
        case.handle().publish(Topic(7), number).unwrap();
    }
    let all = (count - count / 10) * ROUNDS;
    soon("all subscribers", || (got.load(Ordering::Relaxed) == all).then_some(()));
    drop(peers);
    case.trace.until_count("close", count);
    assert_eq!((got.load(Ordering::Relaxed), wrong.load(Ordering::Relaxed)), (all, 0));
    let topics: Vec<_> = case.stop().pollers.iter().map(|poller| poller.stats.topics).collect();
    assert!(topics.iter().all(|topics| topics.published == ROUNDS as u64), "{topics:?}");
    assert_eq!(topics.iter().map(|topics| topics.delivered).sum::<u64>(), all as u64);
    assert!(topics.iter().all(|topics| topics.subscribed > 0 && topics.subscriptions() == 0), "{topics:?}");
}

/// A stale token reaches no socket, although its slot and descriptor are reused at once.
pub fn a_stale_token_never_reaches_the_successor<D: Driver>() {
    let case = Case::echo::<D>();
    let listener = case.listen();
    let mut stale = Vec::new();
    for round in 0..30 {
        let mut peer = Peer::connect(listener.endpoint());
        peer.exchange(b"hello");
        let socket = case.trace.socket_of(peer.address());
        let token = case.trace.token(socket);
        for old in &stale {
            case.handle().post(*old, round).unwrap();
            case.handle().close(*old).unwrap();
            case.handle().abort(*old).unwrap();
        }
        peer.exchange(b"still here");
        stale.push(token);
        assert_eq!(case.trace.count("message"), 0);
        drop(peer);
        assert_eq!(case.trace.closed(socket), CloseReason::Peer);
    }
    let places: Vec<_> = stale.iter().map(|token| token.index()).collect();
    assert!(places.windows(2).any(|it| it[0] == it[1]), "no slot was reused: {places:?}");
    assert!(case.stop().pollers[0].stats.gone >= 30);
}

/// A token of another engine is rejected as gone, or reaches no socket.
pub fn a_token_of_another_engine_is_gone<D: Driver>() {
    let (here, there) = (Case::echo::<D>(), Case::start(small::<D>().pollers(3), echoing));
    let mut own = here.peer();
    let listener = there.listen();
    let _peers: Vec<_> = (0..3).map(|_| Peer::connect(listener.endpoint())).collect();
    there.trace.until_count("open", 3);
    here.trace.token(0);
    let mut gone = 0;
    for socket in 0..3 {
        let foreign = there.trace.token(socket);
        if here.handle().post(foreign, 1) == Err(Rejected::Gone(1)) {
            gone += 1;
            assert_eq!(here.handle().close(foreign), Err(RequestError::Gone));
        } else {
            here.handle().close(foreign).unwrap();
            here.handle().abort(foreign).unwrap();
        }
    }
    assert_eq!(gone, 2, "the tokens of pollers that this engine does not have");
    own.exchange(b"hello");
    assert_eq!(here.trace.count("message"), 0);
}

/// After the end of an engine, requests are rejected as gone, and none of them hangs.
pub fn a_stopped_engine_is_gone<D: Driver>() {
    let case = Case::echo::<D>();
    let _peer = case.peer();
    let (token, handle) = (case.trace.token(0), case.handle().clone());
    case.stop();
    assert_eq!(handle.post(token, 1), Err(Rejected::Gone(1)));
    assert_eq!(handle.broadcast(2), Err(Rejected::Gone(2)));
    assert_eq!(handle.close(token), Err(RequestError::Gone));
    assert_eq!(handle.abort(token), Err(RequestError::Gone));
    assert_eq!(handle.connect(crate::connecting::nowhere(), 1), Err(RequestError::Gone));
    handle.shutdown(Duration::ZERO);
    assert_eq!(handle.loads(), [0]);
    assert_eq!(handle.stats()[0].closed_total(), 1);
}

/// Messages in the mailbox when the engine stops are dropped, each once.
pub fn messages_on_their_way_are_dropped_once<D: Driver>() {
    let case = Case::echo::<D>();
    let _peer = case.peer();
    let token = case.trace.token(0);
    let handle = case.handle().clone();
    let posting = thread::spawn(move || {
        let mut posted = 0_u64;
        loop {
            match handle.post(token, posted) {
                Ok(()) => posted += 1,
                Err(Rejected::Gone(_)) => return posted,
                Err(_) => thread::yield_now(),
            }
        }
    });
    case.trace.until_count("message", 100);
    let trace = case.trace.clone();
    case.stop();
    let posted = posting.join().unwrap();
    assert!(trace.count("message") as u64 <= posted);
}

/// Many threads may close the same active sockets at once.
pub fn many_threads_close_at_random<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2), echoing);
    let listener = case.listen();
    case.trace.keep_ends_only();
    for _ in 0..5 {
        let before = case.trace.count("open");
        let peers: Vec<_> = (0..20).map(|_| Peer::connect(listener.endpoint())).collect();
        case.trace.until_count("open", before + 20);
        let tokens: Vec<_> = (before..before + 20).map(|socket| case.trace.token(socket)).collect();
        thread::scope(|scope| {
            for mut peer in peers {
                scope.spawn(
                    move || while peer.try_send(&[1; 500]).is_ok() && peer.try_receive(500).is_ok() {},
                );
            }
            for shift in 0..4 {
                let (tokens, handle) = (&tokens, case.handle());
                scope.spawn(move || {
                    for n in 0..tokens.len() {
                        let token = tokens[(n * 7 + shift * 5) % tokens.len()];
                        let told = if n % 2 == 0 { handle.close(token) } else { handle.abort(token) };
                        told.unwrap();
                        let _ = handle.post(token, 1);
                    }
                });
            }
        });
        case.trace.until_count("close", before + 20);
    }
}

/// A reused descriptor number receives the events of the new socket only.
pub fn a_descriptors_number_is_used_again_at_once<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => {
            consume_all(socket);
            socket.send(b"once").unwrap();
            socket.close();
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    let mut numbers = Vec::new();
    for _ in 0..50 {
        let mut peer = Peer::connect(listener.endpoint());
        numbers.push(peer.as_fd().as_raw_fd());
        peer.send(b"x");
        assert_eq!(peer.receive_to_end(), b"once");
    }
    case.trace.until_count("close", 50);
    for socket in 0..50 {
        assert_eq!(case.trace.count_of(socket, "receive"), 1);
        let shape = case.trace.shape(socket);
        assert!(shape.starts_with("admit open receive"), "{shape}");
    }
}
