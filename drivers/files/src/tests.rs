//! Tests of the routes over the testing server, for each way to open and to read files.

mod bounds;
mod hostile;
mod responses;
mod sending;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use lightcone_http::testing::{TestRequest, TestResponse, TestServer};
use lightcone_http::{Http, State};
use lightcone_unix::errno::Errno;

use crate::tree::{Resolver, Tree};
use crate::{FileLimits, Files};

/// A folder that is removed with its contents at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lightcone-files-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Writes a file that was last changed long ago.
    fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        self.write_at(name, content, 1_000_000_000);
    }

    fn write_at(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>, unix_time: u64) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(unix_time);
        fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How what is in memory is read.
#[derive(Clone, Copy, Debug)]
enum InMemory {
    /// The system is asked.
    Asked,
    /// The system does not know.
    Unknown,
    /// The system returns 0 at each place, as Linux 5.9 and 5.10 may.
    Zero,
}

/// The ways to open and to read.
fn ways() -> Vec<(Resolver, InMemory)> {
    #[cfg(target_os = "linux")]
    let ways = vec![
        (Resolver::Cached, InMemory::Asked),
        (Resolver::Cached, InMemory::Unknown),
        (Resolver::Cached, InMemory::Zero),
        (Resolver::Beneath, InMemory::Asked),
        (Resolver::Walk, InMemory::Unknown),
    ];
    #[cfg(not(target_os = "linux"))]
    let ways = vec![(Resolver::Walk, InMemory::Asked), (Resolver::Walk, InMemory::Zero)];
    ways
}

fn files(folder: &Path, (resolver, in_memory): (Resolver, InMemory), limits: FileLimits) -> Files {
    let tree = Tree::new(folder, limits.open).unwrap();
    let read_cached = match in_memory {
        InMemory::Asked => tree.read_cached,
        InMemory::Unknown => |_: &_, _: &mut _, _| Err(Errno(nix::libc::EOPNOTSUPP)),
        InMemory::Zero => |_: &_, _: &mut _, _| Ok(0),
    };
    Files::over(tree.with(resolver, read_cached), limits).unwrap()
}

/// Serves the files at `/` and below `/static`, on 9 September 2001.
fn server(files: &Files) -> TestServer<impl lightcone_core::Handler + use<>> {
    let mut server = TestServer::new(Http::new().nest("/static", files.routes()).merge(files.routes()));
    server.set_unix_time(Some(1_000_000_100));
    server
}

/// Sends a request, and lets the threads do their part until the response is complete.
fn ask<H: lightcone_core::Handler>(server: &mut TestServer<H>, request: TestRequest) -> TestResponse {
    let described = request.to_string();
    let connection = server.start(request);
    let response = wait(server, |server| server.response(connection));
    server.end(connection);
    response.unwrap_or_else(|| panic!("no response to {described}"))
}

/// Lets time pass until there is a result, at most about ten seconds.
fn wait<H: lightcone_core::Handler, T>(
    server: &mut TestServer<H>,
    mut result: impl FnMut(&mut TestServer<H>) -> Option<T>,
) -> Option<T> {
    for _ in 0..50_000 {
        let found = result(server);
        if found.is_some() {
            return found;
        }
        thread::sleep(Duration::from_micros(200));
        server.advance(Duration::from_millis(1));
    }
    None
}

/// A state with messages.
struct Mailing;

impl State for Mailing {
    type Message = ();
}

/// Returns bytes in which each piece differs from every other.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    core::iter::repeat_with(next).take(length).collect()
}

#[test]
fn a_result_wakes_its_request_at_once() {
    let folder = Folder::new();
    folder.write("a.txt", "hello");
    let (sender, ids) = std::sync::mpsc::channel();
    let files = files(&folder.0, (Resolver::Walk, InMemory::Unknown), FileLimits::DEFAULT);
    let files = files.notify(move |id| sender.send(id).unwrap());
    let mut server = TestServer::new(Http::with(Mailing).merge(files.routes()));
    let connection = server.start(TestRequest::get("/a.txt"));
    // Once when the file is open, and once when it is read, unless that is noticed at once. No time passes.
    let mut response = None;
    for _ in 0..2 {
        let id: lightcone_http::RequestId = ids.recv().unwrap();
        server.post(id.token(), id.message(()));
        response = response.or(server.response(connection));
    }
    assert_eq!(response.unwrap().text(), "hello");
    assert_eq!(Arc::strong_count(&files.tree), 3, "the routes have a clone each");
}
