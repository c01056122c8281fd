//! Receives a body of up to 1 MiB, with a length or chunked, and sends it back sorted by lines.
//!
//! ```sh
//! cargo run --example upload
//! curl --data-binary @Cargo.toml http://127.0.0.1:8080/sorted
//! ```

use lightcone::http::Http;
use lightcone::{Builder, Error, Handler};

/// A longer body is refused with 413.
const BODY_MAX: usize = 1 << 20;

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::new().post("/sorted", |request, response| {
        request.collect_vec(BODY_MAX, response, |_state, body, response| {
            let Ok(text) = core::str::from_utf8(&body) else {
                return response.status(400).text("not UTF-8\n").into_any();
            };
            let mut lines: Vec<_> = text.lines().collect();
            lines.sort_unstable();
            response.header("Content-Type", "text/plain").owned(lines.join("\n") + "\n")
        })
    })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
