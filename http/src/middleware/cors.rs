//! Cross-origin requests of scripts in browsers (the CORS protocol of the Fetch standard).

use core::fmt::{self, Display};

use crate::exchange::Done;
use crate::method::Method;
use crate::request::{Request, State};
use crate::respond::fields::Headers;
use crate::respond::response::{Reply, Response};
use crate::respond::validators::only;
use crate::status::Status;

use super::RequestMiddleware;

/// Lets scripts of other origins use the wrapped routes, as [`RequestMiddleware`].
///
/// A preflight, which is an `OPTIONS` request, is answered with 204 and never reaches a handler. All other responses get
/// the fields that let the script read them, including those of errors, those that are made later and those of the
/// [server itself](crate::Middleware#responses-of-the-server). Two kinds are excepted: the 500 after a panic has none,
/// and the refusal of a head that cannot be read has them only if any origin is allowed.
///
/// ```
/// use core::time::Duration;
/// use lightcone_http::{Cors, Http, Method};
///
/// const CORS: Cors = Cors::origins(&["https://app.example", "http://localhost:3000"])
///     .methods(&[Method::Get, Method::Post, Method::Put])
///     .headers(&["Content-Type", "Authorization"])
///     .credentials()
///     .max_age(Duration::from_secs(3600));
///
/// let server = Http::new().get("/", |_request, response| response.text("in")).wrap_each(CORS);
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "wrap a server in it"]
pub struct Cors {
    /// `None` for any origin.
    origins: Option<&'static [&'static str]>,
    methods: &'static [Method],
    headers: &'static [&'static str],
    exposed: &'static [&'static str],
    credentials: bool,
    /// In seconds.
    max_age: Option<u64>,
}

impl Cors {
    /// Allows all origins, without credentials: for what everyone may read.
    pub const fn any() -> Self {
        Self { origins: None, ..Self::origins(&[]) }
    }

    /// Allows these origins, such as `https://app.example` or `http://localhost:3000`, which are compared as they are
    /// written. An origin has no path and no final slash.
    ///
    /// # Panics
    /// If there are more than 255.
    pub const fn origins(origins: &'static [&'static str]) -> Self {
        assert!(origins.len() <= 255, "more than 255 origins");
        Self {
            origins: Some(origins),
            methods: &[Method::Get, Method::Head, Method::Post],
            headers: &[],
            exposed: &[],
            credentials: false,
            max_age: None,
        }
    }

    /// Sets the methods that scripts may use: by default `GET`, `HEAD` and `POST`.
    pub const fn methods(mut self, methods: &'static [Method]) -> Self {
        self.methods = methods;
        self
    }

    /// Sets the fields that scripts may add to requests, in addition to those that are always allowed.
    pub const fn headers(mut self, names: &'static [&'static str]) -> Self {
        self.headers = names;
        self
    }

    /// Sets the fields of responses that scripts may read, in addition to those that are always allowed.
    pub const fn expose(mut self, names: &'static [&'static str]) -> Self {
        self.exposed = names;
        self
    }

    /// Lets requests have cookies and other credentials.
    ///
    /// # Panics
    /// If any origin is allowed: then every page on the web could act as the user.
    pub const fn credentials(mut self) -> Self {
        assert!(self.origins.is_some(), "credentials require a list of origins");
        self.credentials = true;
        self
    }

    /// Sets how long a client may keep the result of a preflight.
    pub const fn max_age(mut self, age: core::time::Duration) -> Self {
        self.max_age = Some(age.as_secs());
        self
    }

    /// Adds the fields that every response has. `origin` is the number of the request's origin in the list, from 1.
    fn add_to(&self, origin: u8, add: &mut dyn FnMut(&str, &dyn Display)) {
        let Some(origins) = self.origins else {
            add("Access-Control-Allow-Origin", &"*");
            return;
        };
        // Also without an allowed origin: a cache must not serve this response to another one.
        add("Vary", &"Origin");
        let Some(origin) = usize::from(origin).checked_sub(1).and_then(|at| origins.get(at)) else { return };
        add("Access-Control-Allow-Origin", origin);
        if self.credentials {
            add("Access-Control-Allow-Credentials", &"true");
        }
    }

    /// Returns the number of the request's origin in the list, from 1; 0 if it is not in the list.
    fn origin(&self, received: Option<&[u8]>) -> u8 {
        let mut numbered = (1..=u8::MAX).zip(self.origins.unwrap_or(&[]));
        let found = numbered.find(|(_, origin)| received == Some(origin.as_bytes()));
        found.map_or(0, |(number, _)| number)
    }
}

impl<S: State> RequestMiddleware<S> for Cors {
    type Kept = u8;

    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        mut response: Response<'r>,
    ) -> Result<(Response<'r>, u8), Reply<Done>> {
        let received = only(request.head, "origin");
        let origin = self.origin(received);
        let asks = only(request.head, "access-control-request-method").is_some();
        if request.method() != Method::Options || !asks || received.is_none() {
            return Ok((response, origin));
        }
        let scratch = &mut response.writer.scratch;
        let mut add = |name: &str, value: &dyn Display| scratch.extra.add(name, value);
        self.add_to(origin, &mut add);
        if origin > 0 || self.origins.is_none() {
            add("Access-Control-Allow-Methods", &List(self.methods));
            if !self.headers.is_empty() {
                add("Access-Control-Allow-Headers", &List(self.headers));
            }
            if let Some(seconds) = self.max_age {
                add("Access-Control-Max-Age", &seconds);
            }
        }
        Err(response.status(Status::NO_CONTENT).empty())
    }

    fn head(&self, origin: &u8, _: Status, headers: &mut Headers<'_>) {
        self.add_to(*origin, &mut |name, value| headers.add(name, value));
        if !self.exposed.is_empty() && (*origin > 0 || self.origins.is_none()) {
            headers.add("Access-Control-Expose-Headers", List(self.exposed));
        }
    }

    fn head_of_unread(&self, status: Status, headers: &mut Headers<'_>) {
        RequestMiddleware::<S>::head(self, &0, status, headers);
    }
}

/// Values with commas between them.
struct List<T: 'static>(&'static [T]);

impl<T: Display> Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for value in self.0 {
            write!(f, "{separator}{value}")?;
            separator = ", ";
        }
        Ok(())
    }
}
