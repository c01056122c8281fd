//! Wraps routes in middleware, which lets only requests with a password through.
//!
//! ```sh
//! cargo run --example middleware
//! curl --oauth2-bearer sesame http://127.0.0.1:8080/cave/treasure
//! ```

use lightcone::http::{Done, Http, Middleware, Reply, Request, Response, State, is_same_secret};
use lightcone::{Builder, Error, Handler};

struct Password(&'static str);

impl<S: State> Middleware<S> for Password {
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        match request.header("authorization") {
            Some(word) if is_same_secret(word.as_bytes(), self.0.as_bytes()) => Ok(response), // the route comes next
            _ => Err(response.header("WWW-Authenticate", "Bearer").refuse(401)),
        }
    }
}

pub(crate) fn server() -> impl Handler<Message: Send> {
    let cave = Http::group()
        .get("/treasure", |_request, response| response.text("gold\n"))
        .wrap(Password("Bearer sesame"));
    Http::new().get("/", |_request, response| response.text("a rock\n")).nest("/cave", cave)
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
