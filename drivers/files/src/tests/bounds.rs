//! The bounds, from both sides.

use std::sync::mpsc::channel;

use super::*;

/// Lets three clients that do not read request a path, of which two may have a file open. Returns the connection of the
/// second one, after the first one has been reset.
fn two_of_three<H: lightcone_core::Handler>(server: &mut TestServer<H>, files: &Files, path: &str) -> usize {
    let mut slow = || {
        let connection = server.connect();
        server.set_window(connection, 1000);
        server.send_request(connection, TestRequest::get(path));
        let response = wait(server, |server| server.partial(connection)).unwrap();
        (connection, response.status())
    };
    let (first, second, third) = (slow(), slow(), slow());
    assert_eq!((first.1, second.1, third.1), (200, 200, 503));
    assert_eq!(files.open_files(), 2);
    server.reset(first.0);
    assert_eq!(wait(server, |_| (files.open_files() == 1).then_some(())), Some(()));
    second.0
}

#[test]
fn open_files_have_a_bound() {
    let folder = Folder::new();
    folder.write("a", content(300_000));
    for way in ways() {
        let files = files(&folder.0, way, FileLimits { open: 2, ..FileLimits::DEFAULT });
        let mut server = server(&files);
        let slow = two_of_three(&mut server, &files, "/a");
        assert_eq!(ask(&mut server, TestRequest::get("/a")).status(), 200, "there is room again");
        server.set_window(slow, usize::MAX);
        assert!(wait(&mut server, |server| server.response(slow)).is_some());
        assert_eq!(files.open_files(), 0);
    }
}

#[test]
fn pages_of_listings_have_a_bound() {
    let folder = Folder::new();
    for entry in 0..crate::LISTING_MAX {
        fs::write(folder.0.join(entry.to_string()), "").unwrap();
    }
    for way in ways() {
        let files = files(&folder.0, way, FileLimits { open: 2, ..FileLimits::DEFAULT }).listing(true);
        let mut server = server(&files);
        let slow = two_of_three(&mut server, &files, "/");
        server.set_window(slow, usize::MAX);
        let page = wait(&mut server, |server| server.response(slow)).unwrap();
        assert_eq!(page.text().matches("<li>").count(), crate::LISTING_MAX);
        assert_eq!(files.open_files(), 0);
    }
}

#[test]
fn what_the_system_refuses_is_not_counted() {
    let folder = Folder::new();
    let files = files(&folder.0, ways()[0], FileLimits { open: 1, ..FileLimits::DEFAULT });
    let mut server = server(&files);
    for _ in 0..3 {
        assert_eq!(ask(&mut server, TestRequest::get("/missing")).status(), 404);
    }
    folder.write("a", "hello");
    assert_eq!(ask(&mut server, TestRequest::get("/a")).text(), "hello");
}

/// Occupies the one thread until the result is dropped.
fn occupy(files: &Files) -> impl Drop + use<> {
    let (release, blocked) = channel::<()>();
    let (started, running) = channel();
    assert!(files.threads.queue(Box::new(move || {
        started.send(()).unwrap();
        let _ = blocked.recv();
    })));
    running.recv().unwrap();
    Release(Some(release))
}

struct Release(Option<std::sync::mpsc::Sender<()>>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0 = None;
    }
}

#[test]
fn requests_that_wait_for_a_thread_have_a_bound() {
    let folder = Folder::new();
    folder.write("a", "hello");
    let limits = FileLimits { threads: 1, waiting: 2, ..FileLimits::DEFAULT };
    let files = files(&folder.0, (Resolver::Walk, InMemory::Unknown), limits);
    let mut server = server(&files);
    let busy = occupy(&files);
    let connections: Vec<_> = (0..3).map(|_| server.start(TestRequest::get("/a"))).collect();
    server.advance(Duration::from_secs(1));
    let responses: Vec<_> = connections.iter().map(|connection| server.response(*connection)).collect();
    let statuses: Vec<_> = responses.iter().map(|response| response.as_ref().map(|it| it.status())).collect();
    assert_eq!(statuses, [None, None, Some(503)]);
    drop(busy);
    for connection in &connections[..2] {
        let response = wait(&mut server, |server| server.response(*connection));
        assert_eq!(response.unwrap().text(), "hello");
    }
}

#[test]
fn a_response_that_has_begun_waits_for_a_place() {
    let folder = Folder::new();
    folder.write("a", content(300_000));
    let limits = FileLimits { threads: 1, waiting: 1, ..FileLimits::DEFAULT };
    // Each attempt to read asks first what is in memory.
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let tree = Tree::new(&folder.0, limits.open).unwrap().with(Resolver::Walk, |_, _, _| {
        ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        Err(Errno(nix::libc::EOPNOTSUPP))
    });
    let files = Files::over(tree, limits).unwrap();
    let mut server = server(&files);
    let connection = server.connect();
    server.set_window(connection, 1000);
    server.send_request(connection, TestRequest::get("/a"));
    assert!(
        wait(&mut server, |server| server.partial(connection).filter(|it| it.body().len() > 500)).is_some()
    );
    let busy = occupy(&files);
    assert!(files.threads.queue(Box::new(|| {})), "the last place");
    server.set_window(connection, usize::MAX);
    let before = ATTEMPTS.load(Ordering::Relaxed);
    server.advance(Duration::from_secs(1));
    let attempts = ATTEMPTS.load(Ordering::Relaxed) - before;
    assert!((20..=40).contains(&attempts), "{attempts} attempts in a second");
    let so_far = server.partial(connection).unwrap().body().len();
    assert!(so_far < 300_000 && !server.is_ended(connection), "{so_far}");
    drop(busy);
    let response = wait(&mut server, |server| server.response(connection)).unwrap();
    assert!(response.body() == content(300_000));
}

#[test]
fn a_client_that_does_not_read_causes_no_reads() {
    let folder = Folder::new();
    folder.write("a", content(1 << 20));
    let limits = FileLimits { threads: 1, waiting: 1, ..FileLimits::DEFAULT };
    let files = files(&folder.0, (Resolver::Walk, InMemory::Unknown), limits);
    let mut server = server(&files);
    let connection = server.connect();
    server.set_window(connection, 0);
    server.send_request(connection, TestRequest::get("/a"));
    // Until the output is full and one buffer is read.
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(1));
        server.advance(Duration::from_millis(50));
    }
    let busy = occupy(&files);
    server.advance(Duration::from_secs(20));
    assert!(files.threads.queue(Box::new(|| {})), "nothing waits for the thread");
    drop(busy);
    server.set_window(connection, usize::MAX);
    let response = wait(&mut server, |server| server.response(connection)).unwrap();
    assert!(response.body() == content(1 << 20));
}

#[test]
fn a_client_that_leaves_loses_no_place() {
    let folder = Folder::new();
    folder.write("a", content(300_000));
    for way in ways() {
        let files = files(&folder.0, way, FileLimits { open: 3, threads: 1, ..FileLimits::DEFAULT });
        let mut server = server(&files);
        for turn in 0..50 {
            let connection = server.connect();
            server.set_window(connection, if turn % 2 == 0 { 0 } else { 1000 });
            server.send_request(connection, TestRequest::get("/a"));
            server.reset(connection);
        }
        assert_eq!(wait(&mut server, |_| (files.open_files() == 0).then_some(())), Some(()), "{way:?}");
        assert_eq!(ask(&mut server, TestRequest::get("/a")).status(), 200);
    }
}
