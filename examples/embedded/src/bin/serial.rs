//! The smallest program without a network: sends back the messages that arrive on a serial line.
//!
//! A serial line carries bytes, some of which may be lost. COBS (Consistent Overhead Byte Stuffing) encodes messages
//! without zero bytes, so that a zero byte marks the end of a message: whatever was lost, the next message is found
//! again. The handler would be the same over TCP.
#![no_std]
#![no_main]

use core::convert::Infallible;
use core::mem::MaybeUninit;

use lightcone_core::framing::{Delimited, FrameState};
use lightcone_core::{
    Address, Calls, Config, Context, ErrorKind, Handler, Instant, ListenerId, NoOutbox, Origin, PollerId,
    Sent, Settled, Shard, Socket, Storage, Timeouts, carry_out,
};
use lightcone_embedded::{Board, Frames, Uart, restart, sleep};

/// The maximum length of an encoded message, without the zero byte.
const MESSAGE: usize = 127;

/// One line. Nothing times out on it.
const CONFIG: Config = Config {
    sockets: 1,
    block_size: MESSAGE + 1,
    input_blocks: 1,
    output_blocks: 2,
    output_limit: 2,
    receive_blocks: 0,
    timeouts: Timeouts::NONE,
    ..Config::DEVICE
};

const MESSAGES: Delimited<'_> = Delimited::new(b"\0");

/// Sends back each message.
struct Echo;

impl Handler for Echo {
    type Data = FrameState;
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<FrameState> {
        Some(FrameState::default())
    }

    fn receive(&mut self, socket: &mut Socket<'_, FrameState>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output, state) = socket.split();
        loop {
            let frame = match MESSAGES.next(state, &mut input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_too_long) => break,
            };
            let mut message = [0; MESSAGE];
            let Ok(decoded) = cobs::decode(&frame, &mut message) else {
                continue; // damaged
            };
            let mut encoded = [0; cobs::max_encoding_length(MESSAGE)];
            let (message, _) = message.split_at(decoded.frame_size());
            let length = cobs::encode(message, &mut encoded);
            if MESSAGES.send(&mut output, encoded.split_at(length).0).is_err() {
                frame.keep(); // it is returned again when `writable` has come
                return;
            }
        }
        // A message that is too long, or two of which the end of the first was lost: begin again at the next zero byte.
        input.consume_all();
        *state = FrameState::default();
    }

    fn writable(&mut self, socket: &mut Socket<'_, FrameState>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
    }
}

/// The line, for the actions of its socket.
struct Line(Uart);

impl Calls for Line {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.0.write(bytes);
        Sent::Bytes(bytes.len())
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        Ok(()) // a line has no end
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut frames = Frames::<60>::new();
    let Some(Board { mut clock, mut uart, mut watchdog, .. }) = Board::take(&mut frames) else { restart() };
    uart.print("serial: started\n");
    uart.receive_interrupts();
    let mut line = Line(uart);
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut memory = [0; CONFIG.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let Ok(mut shard) = Shard::new(storage, &CONFIG, Instant::from_millis(clock.now())) else { restart() };
    let peer = Address::Inet(([0, 0, 0, 0], 0).into()); // a line has no address
    let Ok(token) = shard.admit(&mut Echo, Origin::Accepted { listener: ListenerId(0) }, &peer) else {
        restart()
    };
    loop {
        watchdog.feed();
        let now = Instant::from_millis(clock.now());
        shard.tick(now);
        let Some(mut conn) = shard.connection(token) else { restart() };
        // No more than there is room for. The rest waits in the port, and what does not fit there is lost.
        let mut bytes = [0; 16];
        let mut received = 0;
        for (place, byte) in bytes.iter_mut().take(conn.room()).zip(line.0.by_ref()) {
            *place = byte;
            received += 1;
        }
        if received > 0 {
            conn.received(bytes.split_at_mut(received).0);
        }
        let mut outbox = NoOutbox;
        let mut cx = Context::new(now, None, PollerId(0), &mut outbox);
        let next = conn.run(&mut Echo, &mut cx);
        let settled = carry_out(&mut conn, next, 0, &mut line, |conn, _| conn.run(&mut Echo, &mut cx));
        if settled == Settled::Closed {
            restart();
        }
        sleep(|| line.0.has_work() || settled == Settled::Deferred);
    }
}
