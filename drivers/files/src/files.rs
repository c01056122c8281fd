//! Settings, and the routes of a folder.

use alloc::sync::Arc;
use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lightcone_http::{
    Boxed, ChainEnd, Head, Http, LocalPath, Method, Reply, Representation, Request, RequestId, Response,
    Routes, State, Status,
};

use crate::body::FileBody;
use crate::locate::{Located, locate};
use crate::target::Target;
use crate::threads::{Task, Threads};
use crate::tree::{OpenError, Tree};

/// The maximum length of the location of a redirect, which has to fit into a head with other fields.
const LOCATION_MAX: usize = 1024;

/// Limits of a [`Files`] and its clones together. Take those that are not set from [`FileLimits::DEFAULT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileLimits {
    /// The maximum number of open files. A request for one more gets a 503. Default: 1024.
    ///
    /// A folder counts as open until its listing is sent.
    ///
    /// The descriptors of the process must suffice for these in addition to its sockets.
    pub open: usize,
    /// The number of threads that wait for disks, at least 1. Default: 4.
    pub threads: usize,
    /// The maximum number of tasks that wait for a thread. A request for one more gets a 503, and a response that has
    /// begun tries again later. Default: 1024.
    pub waiting: usize,
}

impl FileLimits {
    /// The default limits.
    pub const DEFAULT: Self = Self { open: 1024, threads: 4, waiting: 1024 };
}

impl Default for FileLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The error of a folder that cannot be served.
#[non_exhaustive]
pub struct FilesError {
    /// The path of the folder.
    pub path: PathBuf,
    /// Why it cannot be served.
    pub cause: io::Error,
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot serve the folder {}: {}", self.path.display(), self.cause)
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Skips the error whose text `Display` contains.
impl core::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.cause.source()
    }
}

/// The files of a folder. A clone serves the same folder, with the same limits: each poller has one.
#[derive(Clone)]
#[must_use = "files are served by their routes"]
pub struct Files {
    pub(crate) tree: Arc<Tree>,
    pub(crate) options: Arc<FileOptions>,
    pub(crate) threads: Arc<Threads>,
    pub(crate) notify: Option<Arc<dyn Fn(RequestId) + Send + Sync>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("tree", &self.tree)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FileOptions {
    pub(crate) index: bool,
    pub(crate) listing: bool,
    pub(crate) hidden: bool,
    pub(crate) precompressed: bool,
    nosniff: bool,
    cache_control: String,
    pub(crate) types: Vec<(String, String)>,
}

impl Files {
    /// Opens a folder, with the default limits.
    ///
    /// # Errors
    /// If `root` cannot be opened or is not a folder, or if the system refuses a thread.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, FilesError> {
        Self::with_limits(root, FileLimits::DEFAULT)
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// If `root` cannot be opened or is not a folder, or if the system refuses a thread.
    pub fn with_limits(root: impl AsRef<Path>, limits: FileLimits) -> Result<Self, FilesError> {
        let path = root.as_ref();
        let error = |cause| FilesError { path: path.to_owned(), cause };
        let tree = Tree::new(path, limits.open).map_err(error)?;
        Self::over(tree, limits).map_err(error)
    }

    pub(crate) fn over(tree: Tree, limits: FileLimits) -> io::Result<Self> {
        let options = FileOptions {
            index: true,
            listing: false,
            hidden: false,
            precompressed: false,
            nosniff: true,
            cache_control: String::new(),
            types: Vec::new(),
        };
        let threads = Arc::new(Threads::start(limits.threads.max(1), limits.waiting)?);
        Ok(Self { tree: Arc::new(tree), options: Arc::new(options), threads, notify: None })
    }

    fn set(mut self, set: impl FnOnce(&mut FileOptions)) -> Self {
        set(Arc::make_mut(&mut self.options));
        self
    }

    /// Sets whether the response for a folder is its `index.html`, if there is one. Default: yes.
    pub fn index(self, yes: bool) -> Self {
        self.set(|options| options.index = yes)
    }

    /// Sets whether the response for a folder without an index is a list of its files. Default: no.
    pub fn listing(self, yes: bool) -> Self {
        self.set(|options| options.listing = yes)
    }

    /// Sets whether files and folders are served whose names start with a dot. Default: no.
    pub fn hidden(self, yes: bool) -> Self {
        self.set(|options| options.hidden = yes)
    }

    /// Sets whether a neighbour that was compressed in advance is sent to clients that accept its coding: `x.js.br` or
    /// `x.js.gz` in place of `x.js`, unless it is older. All files then have `Vary: Accept-Encoding`. Default: no.
    pub fn precompressed(self, yes: bool) -> Self {
        self.set(|options| options.precompressed = yes)
    }

    /// Sets whether responses have `X-Content-Type-Options: nosniff`, so that browsers take the type as it is sent.
    /// Default: yes.
    pub fn nosniff(self, yes: bool) -> Self {
        self.set(|options| options.nosniff = yes)
    }

    /// Sets the value of `Cache-Control`, such as `max-age=3600`. It is not sent with errors. Default: no such field.
    pub fn cache_control(self, directives: impl Into<String>) -> Self {
        self.set(|options| options.cache_control = directives.into())
    }

    /// Sets the media type of files with a suffix, such as `("log", "text/plain; charset=utf-8")`. The case of suffixes
    /// is ignored. Other types come from a table of common ones.
    pub fn media_type(self, suffix: impl Into<String>, media_type: impl Into<String>) -> Self {
        self.set(|options| options.types.push((suffix.into(), media_type.into())))
    }

    /// Sets what wakes a request once a thread has done its task: a function that posts any message to the request.
    ///
    /// Without it, a request that waits for a thread looks for the result after 1 ms, 2 ms, and so on up to 32 ms. This
    /// spares the wait where files are often not in memory. A post may be refused; the request then looks after 100 ms.
    ///
    /// ```
    /// use lightcone::http::{Http, State};
    /// use lightcone::{Builder, Error};
    /// use lightcone_files::Files;
    ///
    /// struct App;
    ///
    /// impl State for App {
    ///     type Message = ();
    /// }
    ///
    /// let files = Files::new(".")?;
    /// let engine = Builder::new().pollers(1).start(move |poller| {
    ///     let handle = poller.handle();
    ///     let files = files.clone().notify(move |id| drop(handle.post(id.token(), id.message(()))));
    ///     Http::with(App).merge(files.routes())
    /// })?;
    /// # engine.shutdown(core::time::Duration::ZERO);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn notify(mut self, notify: impl Fn(RequestId) + Send + Sync + 'static) -> Self {
        self.notify = Some(Arc::new(notify));
        self
    }

    /// Returns the number of open files, of this and its clones together.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.tree.open_files()
    }

    /// Returns the routes of the folder, for [`Http::nest`] below a prefix or [`Http::merge`] at the root: `/` and
    /// `/{*path}`. More specific routes go before them.
    ///
    /// Do not protect a part of the folder by a route beside these: routes compare paths as received, while the names
    /// of files are decoded. A route `/my-files/{*path}` matches neither `/my%2Dfiles/a` nor `/my-files/`, which these
    /// routes then serve. See [Protected files](crate#protected-files).
    ///
    /// ```
    /// use lightcone_files::Files;
    /// use lightcone_http::Http;
    ///
    /// let files = Files::new(".")?;
    /// let server = Http::new()
    ///     .get("/time", |request, response| response.display(request.now().as_millis()))
    ///     .merge(files.routes());
    /// # drop(server);
    /// # Ok::<(), lightcone_files::FilesError>(())
    /// ```
    pub fn routes<S: State>(&self) -> Http<S, impl Routes<S, Body: Send> + use<S>, ()> {
        let (files, root) = (self.clone(), self.clone());
        Http::<S, ChainEnd, ()>::group()
            .get("/", move |request, response| root.serve(&request, response, ""))
            .get("/{*path}", move |request, response| files.serve(&request, response, request.param("path")))
    }

    /// Responds with the file at `path`: a part of the path of the request, as received, without a slash in front.
    /// [`routes`](Self::routes) calls this; call it in a route of your own to decide about a request before.
    ///
    /// Fields that were added to `response` before are lost if the file has to be opened by a thread: add them in
    /// [`Middleware::head`](lightcone_http::Middleware::head).
    ///
    /// ```
    /// use lightcone_files::Files;
    /// use lightcone_http::Http;
    ///
    /// let files = Files::new(".")?;
    /// let server = Http::new().get("/private/{*path}", move |request, response| {
    ///     match request.cookie("key") {
    ///         Some("secret") => files.serve(&request, response, request.param("path")),
    ///         _ => response.refuse(403).into_any(),
    ///     }
    /// });
    /// # drop(server);
    /// # Ok::<(), lightcone_files::FilesError>(())
    /// ```
    pub fn serve<S: State>(
        &self,
        request: &Request<'_, S>,
        response: Response<'_>,
        path: &str,
    ) -> Reply<Boxed<FileBody>> {
        let head = request.head;
        // In a fallback, there are requests of all methods.
        if !matches!(head.method, Method::Get | Method::Head) {
            let response = response.header("Allow", "GET, HEAD, OPTIONS");
            if head.method == Method::Options {
                return response.status(Status::NO_CONTENT).empty().into_any();
            }
            return response.refuse(Status::METHOD_NOT_ALLOWED).into_any();
        }
        let target = match Target::new(path, self.options.hidden) {
            Ok(target) => target,
            Err(status) => return response.refuse(status).into_any(),
        };
        // The prefix of a group without a slash after it.
        if path.is_empty() && !request.path().ends_with('/') {
            return redirect(head, response).into_any();
        }
        match locate(&self.tree, &self.options, head, &target, false) {
            Ok(located) => self.respond(head, response, located).boxed(),
            Err(OpenError::WouldBlock) => {
                response.defer(FileBody::opening(self.clone(), head, target)).boxed()
            }
            Err(OpenError::Refused(status)) => response.refuse(status).into_any(),
        }
    }

    /// Begins the response to a request for what was found.
    pub(crate) fn respond(
        &self,
        head: &Head<'_>,
        mut response: Response<'_>,
        located: Located,
    ) -> Reply<FileBody> {
        if self.options.nosniff {
            response = response.header("X-Content-Type-Options", "nosniff");
        }
        match located {
            Located::Refused(status) => response.refuse(status).into_any(),
            Located::Folder => redirect(head, response).into_any(),
            Located::Listing(folder, page) => {
                let representation = Representation::new("text/html; charset=utf-8", page.len() as u64);
                representation.respond(head, response, |selection| FileBody::listing(page, folder, selection))
            }
            Located::File(file, facts) => {
                if self.options.precompressed {
                    response = response.header("Vary", "Accept-Encoding");
                }
                let validators = file.state.validators(response.unix_time());
                let representation = facts
                    .representation(file.state.length, validators)
                    .cache_control(&self.options.cache_control);
                representation.respond(head, response, |selection| {
                    FileBody::sending(self.clone(), file, facts.clone(), validators, selection)
                })
            }
        }
    }

    /// Queues a task, after which the request `id` is woken; returns whether there was a place for it.
    pub(crate) fn queue(&self, id: RequestId, task: impl FnOnce() + Send + 'static) -> bool {
        let notify = self.notify.clone();
        let task: Task = Box::new(move || {
            task();
            if let Some(notify) = notify {
                notify(id);
            }
        });
        self.threads.queue(task)
    }
}

/// Redirects to the path with a slash at the end.
fn redirect(head: &Head<'_>, response: Response<'_>) -> Reply<lightcone_http::Done> {
    let path = String::from_utf8_lossy(head.path);
    let query = head.query.map(|query| format!("?{}", String::from_utf8_lossy(query)));
    let location = format!("{path}/{}", query.unwrap_or_default());
    if location.len() > LOCATION_MAX {
        return response.refuse(Status::URI_TOO_LONG);
    }
    match LocalPath::new(&location) {
        Some(location) => response.status(Status::MOVED_PERMANENTLY).redirect(location),
        None => response.refuse(Status::NOT_FOUND),
    }
}
