//! Sends a stream of server-sent events: the time of the engine, every second, until the client leaves or the server
//! stops.
//!
//! ```sh
//! cargo run --example events
//! curl --no-buffer http://127.0.0.1:8080/time
//! ```

use core::time::Duration;

use lightcone::http::{EventFeed, EventWriter, Flow, Http, ServerEvent, State};
use lightcone::{Builder, Error, Handler, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// The state of one event stream.
struct Clock {
    /// When the next event is due.
    next: Instant,
}

impl<S: State> EventFeed<S> for Clock {
    fn advance(&mut self, events: &mut EventWriter<'_, '_, S>) -> Flow {
        let now = events.now();
        if now >= self.next {
            let time = format_args!("{} ms", now.as_millis());
            if events.send(&ServerEvent::new(time)).is_err() {
                return Flow::More; // the client reads slowly; `advance` is called again when there is room
            }
            self.next = now + INTERVAL;
        }
        events.wake_at(self.next);
        Flow::More
    }

    /// Ends the stream when the server stops, with a last event that shows that it is complete.
    fn shutdown(&mut self, events: &mut EventWriter<'_, '_, S>) -> Flow {
        let _ = events.send(&ServerEvent::new("the server is stopping").name("end")); // if there is room for it
        Flow::Done
    }
}

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::new().get("/time", |request, response| request.events(response, Clock { next: request.now() }))
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
