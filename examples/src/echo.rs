//! The handler of the smallest server: it copies input to output. The engine supplies the backpressure.

use core::convert::Infallible;

use lightcone::{Address, Context, Handler, Origin, Socket};

/// Sends all input back to its sender.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Handler for Echo {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken); // the rest stays until `writable`
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
    }

    /// Finishes the output: a peer that still reads gets all of its bytes, then the end of stream.
    fn peer_closed(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        socket.finish();
    }
}
