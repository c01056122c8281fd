//! Whole engines: pollers with handlers, peers, and other threads, by the driver of `loom-tests/model`.
//!
//! In addition to its own assertions, each model shows that callbacks of a socket neither overlap nor run unordered
//! (its user data has a cell that loom watches), that events come in the order of `ContractChecker`, that each socket
//! has its last event, that each connection is closed by its poller, that there are as many permits as sockets after
//! each turn, that the loads end at zero, and that no thread sleeps forever.

use std::sync::{Arc, Mutex};

use loom_tests::plain::balance::Policy;
use loom_tests::{
    Address, CloseReason, Context, ErrorKind, Handle, Handler, Instant, Model, Origin, Peer, PollerId,
    Rejected, Socket, Stats, TimerId, Token,
};
use loom_tests::{Seen, check, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// A message for one socket. Its `Arc` shows whether the message was dropped.
type Message = (Token, Arc<()>);

/// The state that all handlers and the other threads share. loom does not see it, so it orders nothing.
#[derive(Default)]
struct Shared {
    /// Tokens of the sockets, in the order in which they opened.
    tokens: Mutex<Vec<Token>>,
    counts: Mutex<Counts>,
    /// Cloned into every message.
    held: Arc<()>,
}

#[derive(Clone, Default)]
struct Counts {
    messages: usize,
    shutdowns: usize,
    refused: usize,
    closed: Vec<CloseReason>,
}

impl Shared {
    fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    fn token(&self, index: usize) -> Option<Token> {
        self.tokens.lock().unwrap().get(index).copied()
    }
}

/// Echoes bytes. `!` first posts a message to every socket, and `stop` shuts the engine down.
struct Keeper(Arc<Shared>, Handle<Message>);

impl Handler for Keeper {
    type Data = ();
    type Message = Message;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Message>) {
        self.0.tokens.lock().unwrap().push(socket.token());
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Message>) {
        if socket.bytes() == b"stop" {
            self.1.shutdown();
        }
        let all = if socket.bytes() == b"!" { self.0.tokens.lock().unwrap().clone() } else { Vec::new() };
        for to in all {
            let posted = cx.post(to, (to, Arc::clone(&self.0.held)));
            assert!(matches!(posted, Ok(()) | Err(Rejected::Gone(_))), "{posted:?}");
        }
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
    }

    fn message(&mut self, socket: &mut Socket<'_, ()>, message: Message, _: &mut Context<'_, Message>) {
        assert_eq!(message.0, socket.token(), "a message reached the wrong socket");
        self.0.counts.lock().unwrap().messages += 1;
    }

    fn shutdown(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Message>) {
        self.0.counts.lock().unwrap().shutdowns += 1;
        socket.close();
    }

    fn refused(&mut self, _: &mut Socket<'_, ()>, _: ErrorKind, _: &mut Context<'_, Message>) {
        self.0.counts.lock().unwrap().refused += 1;
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, reason: CloseReason, _: &mut Context<'_, Message>) {
        self.0.counts.lock().unwrap().closed.push(reason);
    }
}

/// Runs a model with keepers. Returns what they counted, and the counts of the pollers.
fn run(model: Model<Message>, shared: &Arc<Shared>) -> (Counts, Vec<Stats>) {
    let kept = Arc::clone(shared);
    let outcome = model.run(move |poller| Keeper(Arc::clone(&kept), poller.handle()));
    (shared.counts(), outcome.stats().to_vec())
}

fn echo() -> Peer {
    Peer::new().says("x").hears("x")
}

/// Peers are accepted by the first poller, distributed by the balancer, and adopted by both pollers.
fn accept_and_adopt(model: Model<Message>) {
    let (counts, stats) = run(model.peer(echo()).peer(echo()), &Arc::default());
    assert_eq!(stats.iter().map(|stats| stats.accepted).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(counts.closed.len(), 2);
}

#[test]
fn from_the_acceptor_to_its_poller() {
    check("engine::from_the_acceptor_to_its_poller", &[], |_| accept_and_adopt(Model::new(2)));
}

#[test]
fn from_the_acceptor_to_a_poller_that_wakes_by_itself() {
    check("engine::from_the_acceptor_to_a_poller_that_wakes_by_itself", &[], |_| {
        accept_and_adopt(Model::new(2).spurious_wake_ups());
    });
}

/// One slot on each of two pollers. A connect from outside and the acceptor choose the same poller first; the later one
/// takes the other poller.
#[test]
fn a_full_poller_is_passed_over() {
    let outcomes = ["accepted by the first", "accepted by the second"];
    check("engine::a_full_poller_is_passed_over", &outcomes, |seen| {
        let at = ([192, 0, 2, 7], 7).into();
        let shared = Arc::new(Shared::default());
        let connected = Arc::new(Mutex::new(None));
        let told = Arc::clone(&connected);
        let model = Model::new(2).sockets(1).peer(echo()).remote(at, Peer::new());
        let model =
            model.thread(move |handle| *told.lock().unwrap() = Some(handle.connect(Address::Inet(at), 1)));
        let (counts, stats) = run(model, &shared);
        let connected = connected.lock().unwrap().expect("the thread has run").is_ok();
        assert!(connected, "the other poller had room");
        assert_eq!(stats.iter().map(|stats| stats.accepted + stats.connected).collect::<Vec<_>>(), [1, 1]);
        assert_eq!((counts.refused, counts.closed.len()), (0, 2));
        seen.note("accepted by the first", stats[0].accepted == 1);
        seen.note("accepted by the second", stats[1].accepted == 1);
    });
}

/// A single slot, which a connect from outside may take when a peer arrives. If that happens between the check for room
/// and the choice of a poller, the accepted connection is held until there is room, or until a shutdown.
fn a_connection_without_a_place(seen: &Seen, peer: Peer, shutdown: bool) {
    let shared = Arc::new(Shared::default());
    let connected = Arc::new(Mutex::new(false));
    let told = Arc::clone(&connected);
    let model = Model::new(1).sockets(1).peer(peer).thread(move |handle| {
        // the connect is refused, so that the slot is soon free again
        let at = ([192, 0, 2, 7], 7).into();
        *told.lock().unwrap() = handle.connect(Address::Inet(at), 1).is_ok();
        if shutdown {
            handle.shutdown();
        }
    });
    let (counts, stats) = run(model, &shared);
    let connected = *connected.lock().unwrap();
    assert!(shutdown || stats[0].accepted == 1);
    assert_eq!((counts.refused, counts.closed.len() as u64), (usize::from(connected), stats[0].accepted));
    seen.note("connected", connected);
    seen.note("not connected", !connected);
}

const PLACES: [&str; 2] = ["connected", "not connected"];

#[test]
fn a_connection_without_a_place_is_held() {
    check("engine::a_connection_without_a_place_is_held", &PLACES, |seen| {
        a_connection_without_a_place(seen, echo().ends(), false);
    });
}

#[test]
fn a_connection_that_is_held_during_a_shutdown() {
    check("engine::a_connection_that_is_held_during_a_shutdown", &PLACES, |seen| {
        a_connection_without_a_place(seen, Peer::new(), true);
    });
}

/// A connection is assigned to another poller while one of the two shuts the engine down, because the peer's script is
/// empty. It is admitted and receives `shutdown`, or is refused and closed if that poller has ended. (The policy names
/// no other poller.)
#[test]
fn an_assignment_during_a_shutdown() {
    check("engine::an_assignment_during_a_shutdown", &["admitted", "not admitted"], |seen| {
        let model = Model::new(2).balancer(Policy::Pinned(1)).peer(Peer::new());
        let (counts, stats) = run(model, &Arc::default());
        assert_eq!(stats[0].accepted, 0);
        let accepted = stats[1].accepted as usize;
        assert_eq!([counts.shutdowns, counts.closed.len()], [accepted; 2]);
        seen.note("admitted", accepted == 1);
        seen.note("not admitted", accepted == 0);
    });
}

/// Two connects from a thread that is not a poller: each poller gets one.
#[test]
fn connects_from_outside() {
    check("engine::connects_from_outside", &[], |_| {
        let at = [1, 2].map(|conn| ([192, 0, 2, 7], conn).into());
        let model = Model::new(2).remote(at[0], echo()).remote(at[1], Peer::new()).thread(move |handle| {
            at.into_iter().for_each(|at| handle.connect(Address::Inet(at), 1).expect("room for both"));
        });
        let (counts, stats) = run(model, &Arc::default());
        assert_eq!(stats.iter().map(|stats| stats.connected).collect::<Vec<_>>(), [1, 1]);
        assert_eq!((counts.closed.len(), counts.refused), (2, 0));
    });
}

/// A connect from outside during a shutdown is accepted or refused. An accepted one leaves nothing behind, not even a
/// reserved slot.
#[test]
fn a_connect_during_a_shutdown() {
    check("engine::a_connect_during_a_shutdown", &["refused", "taken"], |seen| {
        let taken = Arc::new(Mutex::new(false));
        let told = Arc::clone(&taken);
        let model = Model::new(1).thread(|handle| handle.shutdown()).thread(move |handle| {
            let at = ([192, 0, 2, 7], 7).into();
            *told.lock().unwrap() = handle.connect(Address::Inet(at), 1).is_ok();
        });
        let (counts, _) = run(model, &Arc::default());
        let taken = *taken.lock().unwrap();
        // no peer is there, so an accepted connect ends as refused
        assert_eq!((counts.refused, counts.closed.len()), (usize::from(taken), 0));
        seen.note("refused", !taken);
        seen.note("taken", taken);
    });
}

/// A message from outside during a shutdown is returned, delivered or dropped, even if a handle still exists.
#[test]
fn a_message_during_a_shutdown() {
    let outcomes = ["no socket yet", "given back", "taken and dropped"];
    check("engine::a_message_during_a_shutdown", &outcomes, |seen| {
        let shared = Arc::new(Shared::default());
        let (from, sent) = (Arc::clone(&shared), Arc::new(Mutex::new(None)));
        let told = Arc::clone(&sent);
        let model = Model::new(1).peer(Peer::new()).thread(move |handle| {
            let to = from.token(0);
            handle.shutdown();
            let sent = to.map(|to| handle.post(to, (to, Arc::clone(&from.held))).is_ok());
            *told.lock().unwrap() = Some((sent, handle));
        });
        let (counts, _) = run(model, &shared);
        let (sent, handle) = sent.lock().unwrap().take().unwrap();
        assert_eq!(Arc::strong_count(&shared.held), 1, "a message was neither delivered nor dropped");
        drop(handle);
        seen.note("no socket yet", sent.is_none());
        seen.note("given back", sent == Some(false));
        seen.note("taken and dropped", sent == Some(true) && counts.messages == 0);
    });
}

/// A message that was posted before a shutdown is delivered first, because a turn announces the shutdown after the
/// messages.
#[test]
fn a_message_before_a_shutdown() {
    check("engine::a_message_before_a_shutdown", &["delivered", "no socket yet"], |seen| {
        let shared = Arc::new(Shared::default());
        let (from, sent) = (Arc::clone(&shared), Arc::new(Mutex::new(false)));
        let told = Arc::clone(&sent);
        let model = Model::new(1).peer(Peer::new()).thread(move |handle| {
            let to = from.token(0);
            *told.lock().unwrap() =
                to.is_some_and(|to| handle.post(to, (to, Arc::clone(&from.held))).is_ok());
            handle.shutdown();
        });
        let (counts, _) = run(model, &shared);
        let sent = *sent.lock().unwrap();
        assert_eq!(counts.messages, usize::from(sent), "a message was overtaken by the shutdown");
        seen.note("delivered", sent);
        seen.note("no socket yet", !sent);
    });
}

/// A handler posts to a socket of its own poller upon `shutdown`. That wakes no poller, because this one checks its
/// mailbox before it sleeps. The message is delivered before time passes.
#[test]
fn a_farewell_on_the_same_poller() {
    /// Records the time of each event.
    struct Leaves(Arc<Mutex<Vec<(&'static str, Instant)>>>);

    impl Handler for Leaves {
        type Data = ();
        type Message = ();

        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            Some(())
        }

        fn message(&mut self, socket: &mut Socket<'_, ()>, (): (), cx: &mut Context<'_, ()>) {
            self.0.lock().unwrap().push(("message", cx.now()));
            socket.close();
        }

        fn shutdown(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, ()>) {
            self.0.lock().unwrap().push(("shutdown", cx.now()));
            cx.post(socket.token(), ()).expect("room");
        }
    }

    check("engine::a_farewell_on_the_same_poller", &[], |_| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        let model = Model::new(1).peer(Peer::new()).thread(|handle| handle.shutdown());
        let outcome = model.run(move |_| Leaves(Arc::clone(&kept)));
        assert_eq!(outcome.stats()[0].accepted, 1, "a waiting connection is served");
        let now = Instant::from_millis(0);
        assert_eq!(*events.lock().unwrap(), [("shutdown", now), ("message", now)]);
    });
}

/// A message from outside, while its socket receives and ends.
#[test]
fn a_message_from_outside() {
    let outcomes = ["in between", "too late", "no socket yet"];
    check("engine::a_message_from_outside", &outcomes, |seen| {
        let shared = Arc::new(Shared::default());
        let (from, sent) = (Arc::clone(&shared), Arc::new(Mutex::new(false)));
        let told = Arc::clone(&sent);
        let model = Model::new(1).peer(Peer::new().says("x").says("y").ends()).thread(move |handle| {
            let Some(to) = from.token(0) else { return };
            *told.lock().unwrap() = handle.post(to, (to, Arc::clone(&from.held))).is_ok();
        });
        let (counts, _) = run(model, &shared);
        let sent = *sent.lock().unwrap();
        assert!(counts.messages <= usize::from(sent));
        seen.note("in between", counts.messages > 0);
        seen.note("too late", sent && counts.messages == 0);
        seen.note("no socket yet", !sent);
    });
}

/// A close or an abort and then a shutdown from outside, while the socket receives. The socket ends once.
fn an_end_from_outside(seen: &Seen, abort: bool) {
    let shared = Arc::new(Shared::default());
    let from = Arc::clone(&shared);
    let model = Model::new(1).peer(Peer::new().says("x").says("y"));
    let model = model.thread(move |handle| {
        let _ = from.token(0).map(|token| if abort { handle.abort(token) } else { handle.close(token) });
        handle.shutdown();
    });
    let (counts, stats) = run(model, &shared);
    assert_eq!(counts.closed.len() as u64, stats[0].accepted);
    let reason = counts.closed.first();
    seen.note("by the thread", matches!(reason, Some(CloseReason::Local | CloseReason::Aborted)));
    seen.note("by the shutdown", reason == Some(&CloseReason::Shutdown));
    assert!(reason.is_some(), "a waiting connection is accepted before the end");
}

const ENDS: [&str; 2] = ["by the thread", "by the shutdown"];

#[test]
fn a_close_from_outside() {
    check("engine::a_close_from_outside", &ENDS, |seen| an_end_from_outside(seen, false));
}

#[test]
fn an_abort_from_outside() {
    check("engine::an_abort_from_outside", &ENDS, |seen| an_end_from_outside(seen, true));
}

/// A slot that is used by two sockets in turn. A message for the first one never reaches the second one.
fn a_place_used_again(seen: &Seen) {
    let shared = Arc::new(Shared::default());
    let from = Arc::clone(&shared);
    let model = Model::new(1).sockets(1).peer(Peer::new().says("x").ends()).peer(Peer::new().says("y"));
    let model = model.thread(move |handle| {
        let Some(to) = from.token(0) else { return };
        drop(handle.post(to, (to, Arc::clone(&from.held))));
    });
    let (counts, stats) = run(model, &shared);
    let tokens = shared.tokens.lock().unwrap().clone();
    assert_eq!(tokens.len(), 2);
    assert_eq!(tokens[0].index(), tokens[1].index(), "the slot is reused");
    assert_ne!(tokens[0], tokens[1]);
    seen.note("in time", counts.messages > 0);
    seen.note("too late", stats[0].gone > 0);
}

#[test]
fn a_stale_token_reaches_no_socket() {
    check("engine::a_stale_token_reaches_no_socket", &["in time", "too late"], a_place_used_again);
}

/// A socket posts to sockets of both pollers while another socket shuts the engine down. Every message is delivered or
/// dropped, and every socket receives `shutdown` and `close`.
#[test]
fn a_shutdown_with_messages_in_flight() {
    let outcomes = ["both delivered", "one delivered", "none delivered"];
    check("engine::a_shutdown_with_messages_in_flight", &outcomes, |seen| {
        let shared = Arc::new(Shared::default());
        let model =
            Model::new(2).peer(Peer::new().says("!")).peer(Peer::new().says("x").hears("x").says("stop"));
        let (counts, stats) = run(model, &shared);
        let accepted: u64 = stats.iter().map(|stats| stats.accepted).sum();
        assert_eq!(counts.closed.len() as u64, accepted);
        assert!(counts.messages <= 2);
        assert_eq!(Arc::strong_count(&shared.held), 1, "a message was neither delivered nor dropped");
        seen.note("both delivered", counts.messages == 2);
        seen.note("one delivered", counts.messages == 1);
        seen.note("none delivered", counts.messages == 0);
    });
}

/// Messages to sockets of the sender's poller and of the other one: no wake-up is missing.
#[test]
fn messages_between_pollers() {
    check("engine::messages_between_pollers", &["to one", "to both"], |seen| {
        let shared = Arc::new(Shared::default());
        let model = Model::new(2).peer(Peer::new()).peer(Peer::new().says("!").hears("!"));
        let (counts, _) = run(model, &shared);
        seen.note("to one", counts.messages == 1);
        seen.note("to both", counts.messages == 2);
    });
}

/// How many messages the socket that opens second posts.
const POSTS: usize = 3;

/// Posts to the first socket, again when there is room for what was refused.
struct Poster {
    tokens: Arc<Mutex<Vec<Token>>>,
    refused: Arc<Mutex<usize>>,
    to: Option<Token>,
    left: usize,
    got: usize,
}

impl Poster {
    fn post(&mut self, socket: &Socket<'_, ()>, cx: &mut Context<'_, Option<Token>>) {
        let Some(to) = self.to else { return };
        while self.left > 0 {
            match cx.post(to, Some(socket.token())) {
                Ok(()) => self.left -= 1,
                Err(Rejected::Full(_)) => {
                    *self.refused.lock().unwrap() += 1;
                    return cx.request_room(to.poller(), Some(socket.token())).expect("the first request");
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }
}

impl Handler for Poster {
    type Data = ();
    type Message = Option<Token>; // the socket to notify when all have arrived

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Option<Token>>) {
        let mut tokens = self.tokens.lock().unwrap();
        self.to = tokens.first().copied();
        tokens.push(socket.token());
        drop(tokens);
        self.left = POSTS;
        self.post(socket, cx);
    }

    fn room(&mut self, socket: &mut Socket<'_, ()>, _: PollerId, cx: &mut Context<'_, Option<Token>>) {
        self.post(socket, cx);
    }

    fn message(
        &mut self,
        socket: &mut Socket<'_, ()>,
        back: Option<Token>,
        cx: &mut Context<'_, Option<Token>>,
    ) {
        self.got += 1;
        if let Some(back) = back {
            if self.got < POSTS {
                return;
            }
            cx.post(back, None).expect("room");
        }
        socket.send(b"!").expect("room");
    }
}

/// The socket that opens second posts more to the first one than its poller's mailbox holds, and requests to be
/// notified when there is room. Everything arrives: no wake-up is missing on the way of the request or of its answer.
#[test]
fn room_for_what_was_refused() {
    check("engine::room_for_what_was_refused", &["refused", "not refused"], |seen| {
        let (tokens, refused) = (Arc::default(), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&refused);
        let model = Model::new(2).mailbox(2).peer(Peer::new().hears("!")).peer(Peer::new().hears("!"));
        model.run(move |_| Poster {
            tokens: Arc::clone(&tokens),
            refused: Arc::clone(&count),
            to: None,
            left: 0,
            got: 0,
        });
        let refused = *refused.lock().unwrap();
        seen.note("refused", refused > 0);
        seen.note("not refused", refused == 0);
    });
}

/// The socket that opens second greets the first one, on another poller, and is greeted back: each message wakes its
/// poller.
#[test]
fn a_greeting_and_one_back() {
    struct Greets(Arc<Mutex<Vec<Token>>>);

    impl Handler for Greets {
        type Data = ();
        type Message = Option<Token>; // the socket to greet back

        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            Some(())
        }

        fn open(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Option<Token>>) {
            let mut tokens = self.0.lock().unwrap();
            let first = tokens.first().copied();
            tokens.push(socket.token());
            drop(tokens);
            first.into_iter().for_each(|first| cx.post(first, Some(socket.token())).expect("room"));
        }

        fn message(
            &mut self,
            socket: &mut Socket<'_, ()>,
            back: Option<Token>,
            cx: &mut Context<'_, Option<Token>>,
        ) {
            back.into_iter().for_each(|back| cx.post(back, None).expect("room"));
            socket.send(b"!").expect("room");
        }
    }

    check("engine::a_greeting_and_one_back", &["the first poller", "the second poller"], |seen| {
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&tokens);
        let peer = Peer::new().hears("!");
        Model::new(2).peer(peer.clone()).peer(peer).run(move |_| Greets(Arc::clone(&kept)));
        let first = tokens.lock().unwrap()[0].poller().0;
        seen.note("the first poller", first == 0);
        seen.note("the second poller", first == 1);
    });
}

/// The last socket to open broadcasts: the sockets of both pollers receive the message.
#[test]
fn a_broadcast() {
    struct Tells(Arc<Mutex<usize>>);

    impl Handler for Tells {
        type Data = ();
        type Message = ();

        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            Some(())
        }

        fn open(&mut self, _: &mut Socket<'_, ()>, cx: &mut Context<'_, ()>) {
            let mut opened = self.0.lock().unwrap();
            *opened += 1;
            let all = *opened == 3;
            drop(opened);
            if all {
                cx.broadcast(()).expect("room");
            }
        }

        fn message(&mut self, socket: &mut Socket<'_, ()>, (): (), _: &mut Context<'_, ()>) {
            socket.send(b"!").expect("room");
        }
    }

    check("engine::a_broadcast", &[], |_| {
        let opened = Arc::new(Mutex::new(0));
        let peer = Peer::new().hears("!");
        let model = Model::new(2).peer(peer.clone()).peer(peer.clone()).peer(peer);
        let outcome = model.run(move |_| Tells(Arc::clone(&opened)));
        assert_eq!([0, 1, 2].map(|peer| outcome.heard(peer)), [b"!"; 3]);
    });
}

/// Timers wake their pollers when nothing else does: one that was set at the start of a poller without sockets, whose
/// message reaches the socket of the other poller, and one that this message sets. One that was cancelled does not come.
#[test]
fn a_timer_without_a_socket() {
    struct Reminds(Arc<Mutex<Vec<(&'static str, Instant)>>>);

    impl Handler for Reminds {
        type Data = ();
        type Message = ();

        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            Some(())
        }

        fn started(&mut self, cx: &mut Context<'_, ()>) {
            if cx.poller() == PollerId(1) {
                let set = |cx: &mut Context<'_, ()>, ms| cx.set_timer(Instant::from_millis(ms), ms);
                assert!(set(cx, 3).is_ok());
                let cancelled = set(cx, 2).expect("room for two");
                assert!(cx.cancel_timer(cancelled));
            }
        }

        fn timer(&mut self, _: TimerId, tag: u64, cx: &mut Context<'_, ()>) {
            self.0.lock().unwrap().push((if tag == 3 { "first" } else { "second" }, cx.now()));
            cx.broadcast(()).expect("room");
        }

        fn stopping(&mut self, cx: &mut Context<'_, ()>) {
            self.0.lock().unwrap().push(("stopping", cx.now()));
        }

        fn message(&mut self, socket: &mut Socket<'_, ()>, (): (), cx: &mut Context<'_, ()>) {
            socket.send(b"!").expect("room");
            if cx.now() == Instant::from_millis(3) {
                cx.set_timer(Instant::from_millis(5), 5).expect("room");
            }
        }
    }

    check("engine::a_timer_without_a_socket", &[], |_| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        let model = Model::new(2).peer(Peer::new().hears("!!"));
        let outcome = model.run(move |_| Reminds(Arc::clone(&kept)));
        assert_eq!(outcome.heard(0), b"!!");
        let [first, second] = [3, 5].map(Instant::from_millis);
        let expected = [("first", first), ("second", second), ("stopping", second), ("stopping", second)];
        assert_eq!(*events.lock().unwrap(), expected);
    });
}
