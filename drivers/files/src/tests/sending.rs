//! Bytes: whole files, ranges of them, and files that change while they are sent.

use std::io::Write;

use super::*;

const LENGTH: usize = 300_000;

fn range(first: usize, last: usize) -> String {
    format!("bytes={first}-{last}")
}

#[test]
fn files_of_many_lengths_arrive_as_they_are() {
    let folder = Folder::new();
    let lengths = [0, 1, 4095, 4096, 4097, 32_768, 65_536, 65_537, LENGTH];
    for length in lengths {
        folder.write(length.to_string(), content(length));
    }
    for way in ways() {
        let files = files(&folder.0, way, FileLimits::DEFAULT);
        let mut server = server(&files);
        for length in lengths {
            let target = format!("/{length}");
            let response = ask(&mut server, TestRequest::get(&target));
            assert_eq!(response.status(), 200);
            assert!(response.body() == content(length), "{length} {way:?}");
            let head = ask(&mut server, TestRequest::new("HEAD", &target));
            assert_eq!(head.headers().collect::<Vec<_>>(), response.headers().collect::<Vec<_>>());
            assert!(head.body().is_empty());
        }
        assert_eq!(files.open_files(), 0);
    }
}

#[test]
fn ranges_join_to_the_file() {
    let folder = Folder::new();
    let whole = content(LENGTH);
    folder.write("a", &whole);
    for way in ways() {
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT));
        for (size, end) in [(997, 20_000), (70_000, LENGTH), (LENGTH, LENGTH)] {
            let mut joined = Vec::new();
            while joined.len() < end {
                let range = range(joined.len(), joined.len() + size - 1);
                let response = ask(&mut server, TestRequest::get("/a").header("Range", &range));
                assert_eq!(response.status(), 206, "{range}");
                joined.extend_from_slice(response.body());
            }
            assert!(joined == whole[..joined.len()], "{size} {way:?}");
        }
        for (range, status, body) in [
            ("bytes=-5", 206, &whole[LENGTH - 5..]),
            ("bytes=299999-", 206, &whole[LENGTH - 1..]),
            ("bytes=300000-", 416, &b"416 Range Not Satisfiable\n"[..]),
            ("bytes=5-3", 200, &whole),
        ] {
            let response = ask(&mut server, TestRequest::get("/a").header("Range", range));
            assert_eq!(response.status(), status, "{range}");
            assert!(response.body() == body, "{range}");
        }
    }
}

#[test]
fn several_ranges_in_one_response() {
    let folder = Folder::new();
    let whole = content(LENGTH);
    folder.write("a.txt", &whole);
    for way in ways() {
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT));
        let ranges = [(100_000, 199_999), (0, 0), (250_000, 250_099)];
        let list: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let request = TestRequest::get("/a.txt").header("Range", format!("bytes={}", list.join(",")));
        let response = ask(&mut server, request);
        assert_eq!(response.status(), 206);
        let kind = response.header("content-type").unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let mut expected = Vec::new();
        for (index, (first, last)) in ranges.into_iter().enumerate() {
            let start = if index == 0 { "" } else { "\r\n" };
            let lines = format!(
                "{start}--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Range: bytes {first}-{last}/{LENGTH}\r\n\r\n"
            );
            expected.extend_from_slice(lines.as_bytes());
            expected.extend_from_slice(&whole[first..=last]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(response.body() == expected, "{way:?}");
        let most: Vec<_> = (0..=crate::PARTS).map(|part| format!("{0}-{0}", 2 * part)).collect();
        for (parts, status) in [(crate::PARTS, 206), (crate::PARTS + 1, 200)] {
            let request =
                TestRequest::get("/a.txt").header("Range", format!("bytes={}", most[..parts].join(",")));
            assert_eq!(ask(&mut server, request).status(), status, "{parts}");
        }
    }
}

/// Starts a download of which the client takes only a little.
fn start<H: lightcone_core::Handler>(server: &mut TestServer<H>) -> usize {
    let connection = server.connect();
    server.set_window(connection, 1000);
    server.send_request(connection, TestRequest::get("/a"));
    wait(server, |server| server.partial(connection));
    connection
}

#[test]
fn a_file_that_gets_shorter_ends_the_connection() {
    let folder = Folder::new();
    for way in ways() {
        folder.write("a", content(LENGTH));
        let files = files(&folder.0, way, FileLimits::DEFAULT);
        let mut server = server(&files);
        let connection = start(&mut server);
        fs::File::options().write(true).open(folder.0.join("a")).unwrap().set_len(150_000).unwrap();
        server.set_window(connection, usize::MAX);
        wait(&mut server, |server| server.is_ended(connection).then_some(())).unwrap();
        assert!(server.response(connection).is_none(), "a response that looks complete");
        let received = server.receive(connection).len();
        assert!(received < LENGTH, "{received}");
        assert_eq!(files.open_files(), 0, "{way:?}");
    }
}

#[test]
fn of_a_file_that_grows_the_announced_length_is_sent() {
    let folder = Folder::new();
    for way in ways() {
        folder.write("a", content(LENGTH));
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT));
        let connection = start(&mut server);
        let mut file = fs::File::options().append(true).open(folder.0.join("a")).unwrap();
        file.write_all(&content(LENGTH)).unwrap();
        server.set_window(connection, usize::MAX);
        let response = wait(&mut server, |server| server.response(connection)).unwrap();
        assert!(response.body() == content(LENGTH), "{way:?}");
    }
}

#[test]
fn a_file_that_is_replaced_is_sent_as_it_was() {
    let folder = Folder::new();
    for way in ways() {
        folder.write("a", content(LENGTH));
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT));
        let connection = start(&mut server);
        folder.write("b", vec![0; LENGTH]);
        fs::rename(folder.0.join("b"), folder.0.join("a")).unwrap();
        server.set_window(connection, usize::MAX);
        let response = wait(&mut server, |server| server.response(connection)).unwrap();
        assert!(response.body() == content(LENGTH), "{way:?}");
    }
}

#[test]
fn a_range_after_four_gibibytes() {
    let folder = Folder::new();
    folder.write("a", "");
    fs::File::options().write(true).open(folder.0.join("a")).unwrap().set_len(1 << 40).unwrap();
    for way in ways() {
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT));
        let response = ask(&mut server, TestRequest::get("/a").header("Range", "bytes=1099511627775-"));
        assert_eq!((response.status(), response.body()), (206, &[0][..]));
        assert_eq!(response.header("content-range"), Some("bytes 1099511627775-1099511627775/1099511627776"));
        // Several would need positions of more than 32 bits: the client gets the whole.
        let connection = server.connect();
        server.set_window(connection, 1000);
        server.send_request(connection, TestRequest::get("/a").header("Range", "bytes=0-0,2-2"));
        let response = wait(&mut server, |server| server.partial(connection)).unwrap();
        assert_eq!((response.status(), response.header("content-length")), (200, Some("1099511627776")));
    }
}
