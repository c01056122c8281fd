//! The smallest TCP server: sends back what it receives on port 7.
#![no_std]
#![no_main]

use core::convert::Infallible;

use lightcone_core::poller::Alone;
use lightcone_core::{Address, Config, Context, Handler, Instant, ListenerId, Origin, Socket};
use lightcone_embedded::{Board, Frames, interface, restart, sleep};
use lightcone_smoltcp::{Stack, StackMemory, Uplink};

/// The maximum size of a frame, which bounds a TCP segment to 536 bytes.
const FRAME: usize = 590;

/// Two connections.
const CONFIG: Config = Config {
    sockets: 2,
    block_size: 256,
    input_blocks: 2,
    output_blocks: 2,
    output_limit: 1,
    receive_blocks: 0,
    ..Config::DEVICE
};

struct Echo;

impl Handler for Echo {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken); // the rest stays; `writable` is called when there is room
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut frames = Frames::<FRAME>::new();
    let Some(Board { mut ethernet, mut clock, mut uart, mut watchdog, .. }) = Board::take(&mut frames) else {
        restart()
    };
    uart.print("echo: started\n");
    let mut memory = StackMemory::<(), { CONFIG.sockets }, { CONFIG.memory() }, 256, 256>::new();
    let interface = interface(&mut ethernet);
    let now = Instant::from_millis(clock.now());
    let stack = Stack::<_, _, Alone, false, 1, 4>::new(
        &mut memory,
        &CONFIG,
        Uplink { device: ethernet, interface },
        Echo,
        Alone,
        now,
    );
    let Ok(mut stack) = stack else { restart() };
    if !stack.listen(7, ListenerId(0)) {
        restart();
    }
    loop {
        watchdog.feed();
        let next = stack.poll(Instant::from_millis(clock.now()));
        sleep(|| stack.device().has_work() || next.is_some_and(|next| clock.now() >= next.as_millis()));
    }
}
