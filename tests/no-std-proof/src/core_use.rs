//! Uses core, so that its code is in the program and not merely among the dependencies.

use core::cell::Cell;
use core::convert::Infallible;

use lightcone_core::sync::{StaticMailbox, TryRecv, WakeFlag};
use lightcone_core::{Address, CloseReason, Context, Handler, Origin, Socket};

use crate::connection::play;

/// Returns whether core works here.
pub fn works() -> bool {
    one_connection().is_some() && a_mailbox().is_some()
}

/// Echoes every line, and stores the reason for which its socket closed.
struct Lines<'a> {
    closed: &'a Cell<Option<CloseReason>>,
}

impl Handler for Lines<'_> {
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
        self.closed.set(Some(reason));
    }
}

/// Sends a line in two pieces, which must be echoed, then closes.
fn one_connection() -> Option<()> {
    let closed = Cell::new(None);
    let mut heard = [0; 16];
    let told = play(Lines { closed: &closed }, &[b"half ", b"line\n"], &mut heard)?;
    (heard.get(..told)? == b"half line\n" && closed.get().is_some()).then_some(())
}

/// Passes a number through a static mailbox, with the wake call that is due.
fn a_mailbox() -> Option<()> {
    static MAILBOX: StaticMailbox<u32, 2> = StaticMailbox::new();
    static AWAKE: WakeFlag = WakeFlag::new();
    let mut receiver = MAILBOX.receiver()?;
    AWAKE.try_sleep().then_some(())?;
    MAILBOX.push(7).ok()?;
    AWAKE.notify().then_some(())?;
    AWAKE.awake();
    matches!(receiver.pop(), TryRecv::Item(7)).then_some(())?;
    MAILBOX.close().then_some(())?;
    matches!(receiver.pop(), TryRecv::Finished).then_some(())
}
