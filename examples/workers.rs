//! Runs routes that compute or block on threads of their own, so that no other connection waits for them.
//!
//! ```sh
//! cargo run --release --example workers
//! curl http://127.0.0.1:8080/primes/1000000
//! ```

use core::error::Error;
use core::time::Duration;

use lightcone::http::Http;
use lightcone::{Builder, Handler, workers};

/// The highest limit of a request, which takes a second or so.
const LIMIT_MAX: u32 = 5_000_000;

/// Returns how many primes are below a limit.
fn primes(limit: u32) -> usize {
    let is_prime = |n: &u32| !(2..=n.isqrt()).any(|divisor| n.is_multiple_of(divisor));
    (2..limit).filter(is_prime).count()
}

/// Creates the server of one worker. Its routes may block, and its user data moves between threads.
pub(crate) fn server() -> impl Handler<Data: Send, Message: Send> {
    Http::new().get("/primes/{limit}", |request, response| match request.param("limit").parse() {
        Ok(limit @ 0..=LIMIT_MAX) => response.display(primes(limit)),
        _ => response.status(400).display(format_args!("limit: a number from 0 to {LIMIT_MAX}\n")),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let workers = workers::Builder::new().workers(4).start(|_worker| server())?;
    let engine = Builder::new().start(workers.offload())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    workers.shutdown(Duration::from_secs(5));
    Ok(())
}
