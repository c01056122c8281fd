//! Answers `curl http://127.0.0.1:8080/hello/you`.

use lightcone::http::Http;
use lightcone::{Builder, Error};

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| {
        Http::new().get("/hello/{name}", |request, response| response.display(request.param("name")))
    })?;
    engine.listen("127.0.0.1:8080")?;
    engine.join(); // blocks until `shutdown` is called on a handle
    Ok(())
}
