//! A client of the example `echo`: connects, sends lines one by one, and ends when each has been answered.
//!
//! ```sh
//! cargo run -p lightcone-examples --example echo
//! cargo run -p lightcone-examples --example client      # in another terminal
//! ```

use core::{convert::Infallible, net::SocketAddr, time::Duration};
use std::sync::mpsc::{Sender, channel};

use lightcone::{Address, Builder, CloseReason, Context, Error, ErrorKind, Handle, Handler, Origin, Socket};

struct Client {
    lines: &'static [&'static str],
    answers: Sender<String>,
    engine: Handle<Infallible>,
}

impl Handler for Client {
    type Data = usize; // how many lines were sent
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<usize> {
        Some(0)
    }

    fn open(&mut self, socket: &mut Socket<'_, usize>, _: &mut Context<'_, Infallible>) {
        match self.lines.get(*socket.data) {
            Some(line) if socket.send(line.as_bytes()).is_ok() => *socket.data += 1,
            _ => socket.close(),
        }
    }

    fn receive(&mut self, socket: &mut Socket<'_, usize>, cx: &mut Context<'_, Infallible>) {
        if socket.bytes().ends_with(b"\n") {
            let answer = socket.bytes().to_vec();
            socket.consume(answer.len());
            let _ = self.answers.send(String::from_utf8_lossy(&answer).into());
            self.open(socket, cx); // the next line
        }
    }

    fn refused(&mut self, _: &mut Socket<'_, usize>, _: ErrorKind, _: &mut Context<'_, Infallible>) {
        self.engine.shutdown(Duration::ZERO);
    }

    fn close(&mut self, _: &mut Socket<'_, usize>, _: CloseReason, _: &mut Context<'_, Infallible>) {
        self.engine.shutdown(Duration::ZERO);
    }
}

pub(crate) fn ask(server: SocketAddr, lines: &'static [&'static str]) -> Result<Vec<String>, Error> {
    let (answers, received) = channel();
    let engine = Builder::new().pollers(1).start(move |poller| {
        let answers = answers.clone();
        Client { lines, answers, engine: poller.handle() }
    })?;
    engine.handle().connect(Address::Inet(server), 0)?;
    engine.join();
    Ok(received.try_iter().collect())
}

fn main() -> Result<(), Error> {
    ask(([127, 0, 0, 1], 7000).into(), &["one\n", "two\n"]).map(|answers| eprintln!("{answers:?}"))
}
