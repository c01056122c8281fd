//! Sends a stream of server-sent events: the time of the engine, every second, until the client leaves or the server
//! stops.
//!
//! ```sh
//! cargo run --example events
//! curl --no-buffer http://127.0.0.1:8080/time
//! ```

use core::time::Duration;

use lightcone::http::{Exchange, Flow, Http, State, Transfer};
use lightcone::{Builder, Error, Handler, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// The state of one event stream.
#[derive(Default)]
struct Clock {
    /// When the next event is due; `None` before the first.
    next: Option<Instant>,
}

impl<S: State> Exchange<S> for Clock {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let now = io.now();
        let due = self.next.is_none_or(|next| now >= next);
        // The write fails if the client does not read, so that there is no room. `advance` is called again when there
        // is.
        if due && write!(io, "data: {} ms\n\n", now.as_millis()).is_ok() {
            self.next = Some(now + INTERVAL);
        }
        if let Some(next) = self.next {
            io.wake_at(next);
        }
        Flow::More
    }

    /// Ends the stream when the server stops, with a last event that shows that it is complete.
    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let _ = write!(io, "event: end\ndata: the server is stopping\n\n"); // if the client has left room for it
        Flow::Done
    }
}

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::new().get("/time", |_request, response| {
        response.header("Content-Type", "text/event-stream").stream(None, Clock::default())
    })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
