//! Real threads on a whole engine while it shuts down. The models check this for a few messages; this test does it for
//! many, with the machine's memory orderings and real descriptors.
#![expect(clippy::expect_used, reason = "a panic is how a test fails")]
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests have std")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lightcone::{Builder, Handle};
use lightcone_core::{Address, CloseReason, Context, Handler, Origin, Rejected, Socket, Token};

const ROUNDS: usize = 200;
const POLLERS: usize = 3;
const CONNECTS: usize = 40;

/// The token that the message is for, and a value whose drop is observed.
type Message = (Token, Arc<()>);

#[derive(Default)]
struct Shared {
    tokens: Mutex<Vec<Token>>,
    opened: AtomicUsize,
    closed: AtomicUsize,
    delivered: AtomicUsize,
}

struct Counts(Arc<Shared>);

impl Handler for Counts {
    type Data = ();
    type Message = Message;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        self.0.tokens.lock().expect("no panic").push(socket.token());
    }

    fn message(
        &mut self,
        socket: &mut Socket<'_, ()>,
        (to, _): Self::Message,
        _: &mut Context<'_, Self::Message>,
    ) {
        assert_eq!(to, socket.token(), "a message reached another socket");
        self.0.delivered.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, _: CloseReason, _: &mut Context<'_, Self::Message>) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Posts to the socket that opened last, and sometimes closes it, until the engine has ended. Returns the number of
/// accepted messages.
fn post_until_gone(handle: &Handle<Message>, shared: &Shared, held: &Arc<()>) -> usize {
    let mut posted = 0;
    loop {
        // Before the first socket opens, the message is for no socket, but its result still shows when the engine has
        // ended.
        let last = shared.tokens.lock().expect("no panic").last().copied();
        let to = last.unwrap_or(Token::from_bits(0));
        match handle.post(to, (to, Arc::clone(held))) {
            Ok(()) => posted += 1,
            Err(Rejected::Gone(_)) => return posted,
            Err(_) => thread::yield_now(),
        }
        if posted % 7 == 0 {
            let _ = handle.close(to);
        }
    }
}

/// Threads connect, post and close until the engine has ended. Each accepted message is delivered or dropped, and
/// nothing is left although a handle still exists: no load, no message.
#[test]
fn nothing_is_left_after_a_shutdown_in_the_middle() {
    let (mut opened, mut delivered, mut dropped) = (0, 0, 0);
    for round in 0..ROUNDS {
        let shared = Arc::new(Shared::default());
        let held = Arc::new(());
        let ours = Arc::clone(&shared);
        let engine = Builder::new()
            .pollers(POLLERS)
            .sockets(64)
            .mailbox(4)
            .start(move |_poller| Counts(Arc::clone(&ours)))
            .expect("an engine");
        let listener = engine.listen("127.0.0.1:0").expect("a listener");
        let handle = engine.handle();
        let to = handle.address(listener.endpoint()).expect("an address");
        let posted = thread::scope(|scope| {
            scope.spawn(|| (0..CONNECTS).for_each(|tag| _ = handle.connect(to, tag as u64)));
            let poster = scope.spawn(|| post_until_gone(&handle, &shared, &held));
            scope.spawn(|| {
                thread::sleep(Duration::from_micros(200 * (round % 20) as u64));
                handle.shutdown(Duration::from_millis(50));
            });
            poster.join().expect("no panic")
        });
        engine.join();
        assert_eq!(handle.loads(), [0; POLLERS], "round {round}");
        assert_eq!(Arc::strong_count(&held), 1, "round {round}: a message is left");
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        assert_eq!(count(&shared.opened), count(&shared.closed), "round {round}");
        assert!(count(&shared.delivered) <= posted, "round {round}");
        opened += count(&shared.opened);
        delivered += count(&shared.delivered);
        dropped += posted - count(&shared.delivered);
    }
    assert!(opened > 0 && delivered > 0 && dropped > 0, "{opened} {delivered} {dropped}");
}
