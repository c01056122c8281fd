//! Trees and paths that try to leave the folder, or to make the server wait.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use lightcone_http::Status;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;
use crate::tree::OpenError;

/// Creates a tree with all kinds of entries below `root`, and a file beside it that must not be served.
fn plant(folder: &Folder) -> PathBuf {
    let root = folder.0.join("root");
    folder.write("outside.txt", "outside");
    let names =
        ["a.txt", "sub/b.txt", "100%.txt", "\u{e4} +&.txt", "page/index.html", "index/index.html/c.txt"];
    for name in names.into_iter().chain([".env", ".dir/d.txt", "sub/.env", "...", "%2e%2e", "a.txt.d/e.txt"])
    {
        folder.write(root.join(name), name);
    }
    folder.write(root.join("n".repeat(255)), "long");
    folder.write(root.join(std::ffi::OsStr::from_bytes(b"\xff\n")), "not text");
    folder.write(root.join("back\\slash"), "backslash");
    let links = [
        ("inside", "sub/b.txt"),
        ("folder", "sub"),
        ("sub/back", "../a.txt"),
        ("around", "sub/../page/../sub/./b.txt"),
        ("twice", "folder/back"),
        ("here", "."),
        ("out", "../outside.txt"),
        ("parent", ".."),
        ("sub/parent", "../.."),
        ("escape", "sub/../../outside.txt"),
        ("return", "../root/a.txt"),
        ("absolute", "/etc/passwd"),
        ("rooted", "/a.txt"),
        ("proc", "/proc/self/root/etc/passwd"),
        ("loop", "loop"),
        ("ping", "pong"),
        ("pong", "ping"),
        ("dangling", "nothing"),
        ("through", "a.txt/../a.txt"),
        ("to-hidden", ".env"),
    ];
    for (name, to) in links {
        symlink(to, root.join(name)).unwrap();
    }
    symlink(root.join("a.txt"), root.join("absolute-inside")).unwrap();
    symlink("a.txt", root.join("chain0")).unwrap();
    for link in 1..=40 {
        symlink(format!("chain{}", link - 1), root.join(format!("chain{link}"))).unwrap();
    }
    mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    symlink("/dev/zero", root.join("zero")).unwrap();
    fs::set_permissions(root.join("a.txt.d/e.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    root
}

/// Paths with the status and the body of the response.
const SERVED: &[(&str, u16, &str)] = &[
    ("/a.txt", 200, "a.txt"),
    ("/a%2Etxt", 200, "a.txt"),
    ("/sub/b.txt", 200, "sub/b.txt"),
    ("/100%25.txt", 200, "100%.txt"),
    ("/%252e%252e", 200, "%2e%2e"),
    ("/%c3%a4%20+&.txt", 200, "\u{e4} +&.txt"),
    ("/%ff%0a", 200, "not text"),
    ("/page/", 200, "page/index.html"),
    ("/page/?a=b", 200, "page/index.html"),
    ("/inside", 200, "sub/b.txt"),
    ("/folder/b.txt", 200, "sub/b.txt"),
    ("/folder/back", 200, "a.txt"),
    ("/sub/back", 200, "a.txt"),
    ("/around", 200, "sub/b.txt"),
    ("/twice", 200, "a.txt"),
    ("/here/here/a.txt", 200, "a.txt"),
    ("/chain39", 200, "a.txt"),
    ("/to-hidden", 200, ".env"), // a link that was made on purpose
    ("/page", 301, ""),
    ("/folder", 301, ""),
    ("/here", 301, ""),
    ("/index/index.html", 301, ""),
    ("/100%.txt", 400, "400 Bad Request\n"),
    ("/a%", 400, "400 Bad Request\n"),
];

/// Paths of which nothing is said but that nothing is there.
const ABSENT: &[&str] = &[
    "/",
    "/index/",
    "/sub/",
    "/a.txt/",
    "/a.txt/b",
    "/a.txt/index.html",
    "/page/index.html/",
    "/inside/",
    "/.env",
    "/%2eenv",
    "/.dir/d.txt",
    "/sub/.env",
    "/...",
    "/%2e%2e",
    "/..",
    "/../outside.txt",
    "/sub/../../outside.txt",
    "/..%2foutside.txt",
    "/sub/%2e%2e/%2e%2e/outside.txt",
    "/sub/..",
    "/./a.txt",
    "//a.txt",
    "/sub//b.txt",
    "/%2Fetc/passwd",
    "//etc/passwd",
    "/a.txt%00",
    "/a.txt%00.html",
    "/%61.txt",
    "/sub/%62.txt",
    "/s%75b/b.txt",
    "/%31",
    "/back\\slash",
    "/back%5cslash",
    "/..%5coutside.txt",
    "/out",
    "/parent/outside.txt",
    "/parent/",
    "/sub/parent/outside.txt",
    "/escape",
    "/return",
    "/absolute",
    "/rooted",
    "/absolute-inside",
    "/proc",
    "/zero",
    "/loop",
    "/loop/a",
    "/ping",
    "/chain40",
    "/dangling",
    "/through",
    "/fifo",
    "/socket",
    "/fifo/",
    "/A.TXT.",
    "/nothing",
    "/nothing/",
];

#[test]
fn nothing_outside_of_the_folder_is_served_and_nothing_waits() {
    let folder = Folder::new();
    let root = plant(&folder);
    // The superuser may read everything.
    let unreadable = match fs::read(root.join("a.txt.d/e.txt")) {
        Ok(_) => (200, "a.txt.d/e.txt"),
        Err(_) => (403, "403 Forbidden\n"),
    };
    let long = format!("/{}", "n".repeat(255));
    let (too_long, deep) = (format!("/{}", "n".repeat(256)), "/a".repeat(2500));
    let extra = [(&*long, 200, "long"), ("/a.txt.d/e.txt", unreadable.0, unreadable.1)];
    for way in ways() {
        let files = files(&root, way, FileLimits::DEFAULT);
        let mut server = server(&files);
        let absent = ABSENT.iter().map(|path| (*path, 404, "404 Not Found\n"));
        let absent = absent.chain([(&*too_long, 404, "404 Not Found\n"), (&*deep, 404, "404 Not Found\n")]);
        for (path, status, body) in SERVED.iter().copied().chain(extra).chain(absent) {
            for prefix in ["", "/static"] {
                let path = format!("{prefix}{path}");
                let response = ask(&mut server, TestRequest::get(&path));
                assert_eq!(response.status(), status, "{path} {way:?}");
                assert_eq!(String::from_utf8_lossy(response.body()), body, "{path} {way:?}");
            }
        }
        assert_eq!(files.open_files(), 0);
    }
}

#[test]
fn a_route_beside_is_not_avoided_by_escaped_letters() {
    let folder = Folder::new();
    for name in ["admin/a.txt", "admin/index.html", "my-files/a.txt"] {
        folder.write(name, "secret");
    }
    let files = files(&folder.0, ways()[0], FileLimits::DEFAULT);
    let guarded = Http::new()
        .get("/admin/{*path}", |_request, response| response.refuse(403))
        .get("/my-files/{*path}", |_request, response| response.refuse(403));
    let mut server = TestServer::new(guarded.merge(files.routes()));
    assert_eq!(ask(&mut server, TestRequest::get("/admin/a.txt")).status(), 403);
    for path in ["/%61dmin/a.txt", "/a%64min/a.txt", "/a%64%6D%69n/%61.txt"] {
        assert_eq!(ask(&mut server, TestRequest::get(path)).status(), 404, "{path}");
    }
    // As documented, other requests avoid such routes, so they are no protection.
    for path in ["/admin/", "/my%2Dfiles/a.txt"] {
        assert_eq!(ask(&mut server, TestRequest::get(path)).text(), "secret", "{path}");
    }
}

#[test]
fn hidden_files_on_request() {
    let folder = Folder::new();
    let root = plant(&folder);
    for way in ways() {
        let mut server = server(&files(&root, way, FileLimits::DEFAULT).hidden(true));
        for (path, status) in [
            ("/.env", 200),
            ("/.dir/d.txt", 200),
            ("/sub/.env", 200),
            ("/...", 200),
            ("/..", 404),
            ("/../outside.txt", 404),
            ("/%2e%2e/outside.txt", 404),
            ("/./a.txt", 404),
        ] {
            assert_eq!(ask(&mut server, TestRequest::get(path)).status(), status, "{path} {way:?}");
        }
    }
}

#[test]
fn a_folder_that_is_renamed_is_still_served() {
    let folder = Folder::new();
    folder.write("old/a.txt", "hello");
    for way in ways() {
        fs::rename(folder.0.join("old"), folder.0.join("new")).unwrap();
        fs::rename(folder.0.join("new"), folder.0.join("old")).unwrap();
        let mut server = server(&files(&folder.0.join("old"), way, FileLimits::DEFAULT));
        fs::rename(folder.0.join("old"), folder.0.join("new")).unwrap();
        assert_eq!(ask(&mut server, TestRequest::get("/a.txt")).text(), "hello");
        fs::rename(folder.0.join("new"), folder.0.join("old")).unwrap();
    }
}

#[test]
fn redirects_stay_on_the_server() {
    let folder = Folder::new();
    folder.write("sub/a.txt", "");
    folder.write("b c/a.txt", "");
    let mut server = server(&files(&folder.0, ways()[0], FileLimits::DEFAULT));
    for (path, location) in [
        ("/sub", Some("/sub/")),
        ("/sub?a=/b", Some("/sub/?a=/b")),
        ("/b%20c", Some("/b%20c/")),
        ("/static", Some("/static/")),
        ("/static?a", Some("/static/?a")),
        ("/static/sub", Some("/static/sub/")),
        ("//sub", None),
        ("/%2Fsub", None),
        ("/\\sub", None),
    ] {
        let response = ask(&mut server, TestRequest::get(path));
        assert_eq!(response.header("location"), location, "{path}");
        assert_eq!(response.status(), if location.is_some() { 301 } else { 404 }, "{path}");
    }
}

#[test]
fn the_location_of_a_redirect_has_a_bound() {
    let folder = Folder::new();
    folder.write("sub/a.txt", "");
    for way in ways() {
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT));
        for (length, status) in [(1024, 301), (1025, 414), (2000, 414)] {
            let query = "a".repeat(length - "/sub/?".len());
            let response = ask(&mut server, TestRequest::get(&format!("/sub?{query}")));
            assert_eq!(response.status(), status, "{length} {way:?}");
            let location = (status == 301).then(|| format!("/sub/?{query}"));
            assert_eq!(response.header("location"), location.as_deref());
        }
    }
}

#[test]
fn errors_of_the_system_have_their_statuses() {
    for (errno, status) in [
        (nix::errno::Errno::EACCES, Status::FORBIDDEN),
        (nix::errno::Errno::EMFILE, Status::SERVICE_UNAVAILABLE),
        (nix::errno::Errno::EAGAIN, Status::SERVICE_UNAVAILABLE),
        (nix::errno::Errno::EIO, Status::INTERNAL_SERVER_ERROR),
        (nix::errno::Errno::ENOENT, Status::NOT_FOUND),
        (nix::errno::Errno::EXDEV, Status::NOT_FOUND),
    ] {
        assert_eq!(OpenError::from(errno), OpenError::Refused(status), "{errno}");
    }
}
