//! Uses what core offers, so that its code is in the program and not merely among its dependencies.

use core::convert::Infallible;
use core::mem::MaybeUninit;

use lightcone_core::sync::{Popped, StaticMailbox, WakeFlag};
use lightcone_core::{
    Address, CloseReason, Config, Context, Handler, Instant, Interest, ListenerId, Next, NoOutbox, Origin,
    PollerId, Shard, Socket, Storage, Token,
};

/// Whether core does its work here.
pub fn works() -> bool {
    one_connection().is_some() && a_mailbox().is_some()
}

/// Sends every line back, and remembers why its socket closed.
struct Lines {
    closed: Option<CloseReason>,
}

impl Handler for Lines {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output, ()) = socket.split();
        while let Some(end) = input.bytes().iter().position(|byte| *byte == b'\n') {
            let Some(line) = input.bytes().get(..=end) else { return };
            if output.send(line).is_err() {
                return;
            }
            input.consume(end + 1);
        }
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, reason: CloseReason, _: &mut Context<'_, Infallible>) {
        self.closed = Some(reason);
    }
}

const CONFIG: Config =
    Config { sockets: 2, block_size: 64, input_blocks: 2, output_blocks: 2, ..Config::DEVICE };

/// Plays the driver of one connection: it opens, a line comes in two pieces and goes back, the peer leaves.
fn one_connection() -> Option<()> {
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut memory = [0; CONFIG.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let start = Instant::from_millis(0);
    let mut shard = Shard::new(storage, &CONFIG, start).ok()?;
    let mut handler = Lines { closed: None };
    let mut outbox = NoOutbox;
    let mut cx = Context::new(start, None, PollerId(0), &mut outbox);
    let peer = Address::Inet(([192, 0, 2, 1], 49152).into());

    let token = shard.admit(&mut handler, Origin::Accepted { listener: ListenerId(0) }, &peer).ok()?;
    let next = shard.port(token)?.run(&mut handler, &mut cx);
    (next == Next::Wait(Interest::READ)).then_some(())?;
    shard.next_deadline()?;

    for (piece, answer) in [(b"half ", &b""[..]), (b"line\n", b"half line\n")] {
        let mut port = shard.port(token)?;
        port.received(piece);
        let next = port.run(&mut handler, &mut cx);
        (sent(&mut shard, token, next, answer)? == Next::Wait(Interest::READ)).then_some(())?;
    }

    let mut port = shard.port(token)?;
    port.ended();
    let mut next = port.run(&mut handler, &mut cx);
    while next == Next::Shut {
        let mut port = shard.port(token)?;
        port.shut();
        next = port.run(&mut handler, &mut cx);
    }
    (next == Next::Close && shard.port(token).is_none() && handler.closed.is_some()).then_some(())
}

/// Carries out an order to send, and sees that `expected` is what goes out.
fn sent(shard: &mut Shard<'_, ()>, token: Token, next: Next, expected: &[u8]) -> Option<Next> {
    if next != Next::Send {
        return expected.is_empty().then_some(next);
    }
    let mut port = shard.port(token)?;
    let mut slices = [&[][..]; 2];
    let filled = port.outputs(&mut slices);
    let queued = slices.get(..filled)?.iter().copied().flatten();
    queued.eq(expected).then_some(())?;
    port.sent(expected.len());
    let mut outbox = NoOutbox;
    let mut cx = Context::new(Instant::from_millis(0), None, PollerId(0), &mut outbox);
    Some(port.run(&mut Lines { closed: None }, &mut cx))
}

/// Hands a number from a static mailbox's one end to the other, with the wake call that is due.
fn a_mailbox() -> Option<()> {
    static MAILBOX: StaticMailbox<u32, 2> = StaticMailbox::new();
    static AWAKE: WakeFlag = WakeFlag::new();
    let mut receiver = MAILBOX.receiver()?;
    AWAKE.try_sleep().then_some(())?;
    MAILBOX.push(7).ok()?;
    AWAKE.notify().then_some(())?;
    AWAKE.awake();
    matches!(receiver.pop(), Popped::Item(7)).then_some(())?;
    MAILBOX.close().then_some(())?;
    matches!(receiver.pop(), Popped::Finished).then_some(())
}
