//! Keeps state: a number that each poller has for itself, and one that all pollers share.
//!
//! ```sh
//! cargo run --example state
//! curl http://127.0.0.1:8080/
//! ```

use core::convert::Infallible;
use core::sync::atomic::{AtomicU64, Ordering};

use lightcone::http::{Http, State};
use lightcone::{Builder, Error, Handler};

/// The state of one poller's server. Its routes run on one thread, so it needs no lock.
struct Visits {
    here: u64,
}

impl State for Visits {
    type Message = Infallible;
}

/// State that pollers share must be safe to use from several threads, such as this number or a value in an `Arc`.
static EVERYWHERE: AtomicU64 = AtomicU64::new(0);

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::with(Visits { here: 0 }).get("/", |request, response| {
        request.state.here += 1;
        let here = request.state.here;
        let everywhere = EVERYWHERE.fetch_add(1, Ordering::Relaxed) + 1;
        response.display(format_args!("visit {everywhere}, visit {here} of this poller\n"))
    })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
