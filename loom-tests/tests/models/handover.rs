//! A socket's way from the acceptor through the balancer to its poller, with its user data: every thread that touches
//! the data does so after the one before.

use loom::sync::Arc;
use loom::thread;
use loom_tests::balance::{Balancer, Policy};
use loom_tests::protocol::{Post, Sleep};
use loom_tests::sync::{Load, Reservation};
use loom_tests::{Racy, check, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

type Share = Reservation<Arc<Load>>;

enum Message {
    /// A socket: its user data, and its share of the load.
    Adopt(Racy, Share),
    User,
}

/// The report of a poller that has ended.
struct Report {
    adopted: usize,
    messages: usize,
    /// Callbacks for messages.
    reached: usize,
    sleeps: usize,
}

/// Runs a poller that owns its sockets by value.
fn poller(post: &Post<Message>, load: &Arc<Load>) -> Report {
    let mut owned = Reservation::none(Arc::clone(load));
    let mut sockets = Vec::new();
    let (mut messages, mut reached) = (0, 0);
    let sleeps = post.poll(|message| {
        match message {
            Message::Adopt(data, share) => {
                data.touch();
                owned.merge(share);
                sockets.push(data);
            }
            Message::User => {
                sockets.iter().for_each(Racy::touch);
                messages += 1;
                reached += sockets.len();
            }
        }
        true
    });
    let adopted = sockets.len();
    for socket in sockets {
        socket.touch();
        assert!(owned.release());
    }
    assert!(!owned.release(), "more shares than sockets");
    Report { adopted, messages, reached, sleeps }
}

/// Touches a socket and sends it on.
fn pass_on(message: Message, to: &Post<Message>) -> bool {
    if let Message::Adopt(data, _) = &message {
        data.touch();
    }
    assert!(to.send(message).is_ok(), "one place, one socket");
    true
}

/// Picks a poller, reserves and sends, and tries the alternatives when a poller is full. Returns the poller that
/// accepted.
fn accept(balancer: &mut Balancer, pollers: &[(Arc<Post<Message>>, Arc<Load>)], max: u32) -> Option<usize> {
    let loads: Vec<_> = pollers.iter().map(|(_, load)| &**load).collect();
    let first = balancer.pick(&loads, 0);
    let mut data = Racy::new();
    data.touch();
    for index in core::iter::once(first).chain(balancer.alternatives(first, &loads)) {
        let (post, load) = &pollers[index];
        let Some(share) = Reservation::try_acquire(Arc::clone(load), max) else { continue };
        match post.send(Message::Adopt(data, share)) {
            Ok(()) => return Some(index),
            Err(refused) => match refused.into_inner() {
                Message::Adopt(back, _) => data = back,
                Message::User => unreachable!("it was not sent"),
            },
        }
    }
    data.touch();
    None
}

/// Two pollers and two sockets: one each in every schedule, because picking a poller also reserves a place.
#[test]
fn acceptor_to_two_pollers() {
    check("handover::acceptor_to_two_pollers", &["slept", "never slept"], |seen| {
        let pollers =
            [Sleep::Exact, Sleep::Spurious].map(|sleep| (Post::new(1, sleep), Arc::new(Load::new())));
        let acceptor = thread::spawn({
            let pollers = pollers.clone();
            move || {
                let mut balancer = Balancer::new(Policy::LeastConnections, 2).expect("two pollers");
                let picked = [(); 2].map(|()| accept(&mut balancer, &pollers, 1));
                pollers.iter().for_each(|(post, _)| post.stop());
                picked
            }
        });
        let [(post, load), (second_post, second_load)] = pollers.clone();
        let second = thread::spawn(move || poller(&second_post, &second_load));
        let first = poller(&post, &load);
        let second = second.join().expect("no panic");
        assert_eq!((first.adopted, second.adopted), (1, 1));
        seen.note("slept", first.sleeps > 0 || second.sleeps > 0);
        seen.note("never slept", first.sleeps == 0 && second.sleeps == 0);
        assert_eq!(acceptor.join().expect("no panic"), [Some(0), Some(1)]);
        assert_eq!([pollers[0].1.get(), pollers[1].1.get()], [0, 0]);
    });
}

/// Two acceptors prefer the same one of two pollers with one place each: the other poller is found.
#[test]
fn two_acceptors_find_the_next_best() {
    check(
        "handover::two_acceptors_find_the_next_best",
        &["the one was first", "the other was first"],
        |seen| {
            let pollers = Arc::new([(); 2].map(|()| (Post::new(1, Sleep::Exact), Arc::new(Load::new()))));
            let acceptors = [(); 2].map(|()| {
                let pollers = Arc::clone(&pollers);
                thread::spawn(move || {
                    let mut balancer = Balancer::new(Policy::LeastOfTwo, 2).expect("two pollers");
                    accept(&mut balancer, &pollers[..], 1)
                })
            });
            let [one, two] = acceptors.map(|acceptor| acceptor.join().expect("no panic"));
            assert!(one.is_some() && two.is_some() && one != two, "{one:?} {two:?}");
            seen.note("the one was first", one == Some(0));
            seen.note("the other was first", two == Some(0));
            for (post, load) in pollers.iter() {
                assert_eq!(load.get(), 1);
                post.stop();
                assert_eq!(poller(post, load).adopted, 1);
                assert_eq!(load.get(), 0);
            }
        },
    );
}

/// The acceptor sends a socket and stops the poller while another thread sends a message: the message arrives or is
/// refused, the owner closes the socket, and the poller ends.
#[test]
fn foreign_sender_and_stop() {
    check("handover::foreign_sender_and_stop", &["sent", "not sent", "to the socket"], |seen| {
        let pollers = [(Post::new(2, Sleep::Exact), Arc::new(Load::new()))];
        let (post, load) = &pollers[0];
        let acceptor = thread::spawn({
            let pollers = pollers.clone();
            move || {
                let mut balancer = Balancer::new(Policy::Pinned(0), 1).expect("one poller");
                assert_eq!(accept(&mut balancer, &pollers, 1), Some(0));
                pollers[0].0.stop();
            }
        });
        let sender = thread::spawn({
            let post = Arc::clone(post);
            move || post.send(Message::User).is_ok()
        });
        let report = poller(post, load);
        acceptor.join().expect("no panic");
        let sent = sender.join().expect("no panic");
        assert_eq!((report.adopted, report.messages), (1, usize::from(sent)));
        seen.note("sent", sent);
        seen.note("not sent", !sent);
        seen.note("to the socket", report.reached > 0);
        assert_eq!(load.get(), 0);
    });
}

/// A thread with a message for a socket sends it to the owner, which alone runs the callback.
#[test]
fn a_foreign_thread_leaves_the_data_alone() {
    check("handover::a_foreign_thread_leaves_the_data_alone", &["slept", "never slept"], |seen| {
        let (post, data) = (Post::new(1, Sleep::Exact), Arc::new(Racy::new()));
        let foreign = thread::spawn({
            let (post, data) = (Arc::clone(&post), Arc::clone(&data));
            move || post.send_about(&data, ()).expect("room")
        });
        data.touch();
        let sleeps = post.poll(|()| {
            data.touch();
            false
        });
        foreign.join().expect("no panic");
        seen.note("slept", sleeps > 0);
        seen.note("never slept", sleeps == 0);
    });
}

/// A socket moves on: acceptor, first owner, second owner.
#[test]
fn from_poller_to_poller() {
    check("handover::from_poller_to_poller", &["slept", "never slept"], |seen| {
        let (first, second) = (Post::new(1, Sleep::Spurious), Post::new(1, Sleep::Exact));
        let load = Arc::new(Load::new());
        let moving = thread::spawn({
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            move || {
                first.poll(|message| pass_on(message, &second));
                second.stop();
            }
        });
        let acceptor = thread::spawn({
            let pollers = [(first, Arc::clone(&load))];
            move || {
                let mut balancer = Balancer::new(Policy::RoundRobin, 1).expect("one poller");
                assert_eq!(accept(&mut balancer, &pollers, 1), Some(0));
                pollers[0].0.stop();
            }
        });
        let report = poller(&second, &load);
        assert_eq!(report.adopted, 1);
        seen.note("slept", report.sleeps > 0);
        seen.note("never slept", report.sleeps == 0);
        moving.join().expect("no panic");
        acceptor.join().expect("no panic");
        assert_eq!(load.get(), 0);
    });
}
