//! Types, validators, variants, indexes and listings.

use super::*;

fn get(path: &str, fields: &[(&str, &str)]) -> TestRequest {
    fields.iter().fold(TestRequest::get(path), |request, (name, value)| request.header(name, value))
}

#[test]
fn fields_of_a_file() {
    let folder = Folder::new();
    folder.write("a.txt", "hello");
    folder.write("b.own", "hello");
    for way in ways() {
        let files =
            files(&folder.0, way, FileLimits::DEFAULT).cache_control("max-age=60").media_type("own", "a/b");
        let mut server = server(&files);
        let response = ask(&mut server, TestRequest::get("/a.txt"));
        let field = |name| response.header(name).unwrap_or("absent").to_owned();
        assert_eq!(field("content-type"), "text/plain; charset=utf-8");
        assert_eq!(field("x-content-type-options"), "nosniff");
        assert_eq!(field("cache-control"), "max-age=60");
        assert_eq!(field("last-modified"), "Sun, 09 Sep 2001 01:46:40 GMT");
        assert_eq!(field("accept-ranges"), "bytes");
        assert_eq!(field("content-length"), "5");
        assert_eq!(field("vary"), "absent");
        assert_eq!(ask(&mut server, TestRequest::get("/b.own")).header("content-type"), Some("a/b"));
        let absent = ask(&mut server, TestRequest::get("/c"));
        assert_eq!(absent.header("cache-control"), None);
    }
    let mut server = server(&files(&folder.0, ways()[0], FileLimits::DEFAULT).nosniff(false));
    assert_eq!(ask(&mut server, TestRequest::get("/a.txt")).header("x-content-type-options"), None);
}

#[test]
fn a_client_that_has_the_file_gets_a_304() {
    let folder = Folder::new();
    folder.write("a.txt", "hello");
    for way in ways() {
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT));
        let first = ask(&mut server, TestRequest::get("/a.txt"));
        let (etag, date) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
        assert!(etag.starts_with('"'), "{etag}");
        for (fields, status) in [
            ([("If-None-Match", etag)], 304),
            ([("If-None-Match", "\"other\"")], 200),
            ([("If-Modified-Since", date)], 304),
            ([("If-Modified-Since", "Sun, 09 Sep 2001 01:46:39 GMT")], 200),
            ([("If-Match", etag)], 200),
            ([("If-Match", "\"other\"")], 412),
        ] {
            let response = ask(&mut server, get("/a.txt", &fields));
            assert_eq!(response.status(), status, "{fields:?}");
            assert_eq!(response.header("etag").is_some(), status != 412);
        }
        for (condition, status) in [(etag, 206), (date, 206), ("\"other\"", 200)] {
            let response =
                ask(&mut server, get("/a.txt", &[("Range", "bytes=1-2"), ("If-Range", condition)]));
            assert_eq!(response.status(), status, "{condition}");
        }
    }
}

#[test]
fn each_version_has_its_tag() {
    let folder = Folder::new();
    let mut server = server(&files(&folder.0, ways()[0], FileLimits::DEFAULT));
    let tag = |server: &mut TestServer<_>| {
        ask(server, TestRequest::get("/a.txt")).header("etag").unwrap().to_owned()
    };
    folder.write("a.txt", "hello");
    let first = tag(&mut server);
    assert_eq!(tag(&mut server), first);
    folder.write("a.txt", "hello!");
    let longer = tag(&mut server);
    folder.write_at("a.txt", "hullo!", 1_000_000_001);
    let later = tag(&mut server);
    folder.write_at("b.txt", "hallo!", 1_000_000_001);
    fs::rename(folder.0.join("b.txt"), folder.0.join("a.txt")).unwrap();
    let replaced = tag(&mut server);
    let tags = [first, longer, later, replaced];
    for (index, tag) in tags.iter().enumerate() {
        assert!(!tags[..index].contains(tag), "{tags:?}");
    }
}

#[test]
fn a_change_within_two_seconds_has_a_weak_tag_and_no_date() {
    let folder = Folder::new();
    let mut server = server(&files(&folder.0, ways()[0], FileLimits::DEFAULT));
    for (age, is_weak) in [(2, false), (1, true), (0, true)] {
        folder.write_at("a.txt", "hello", 1_000_000_100 - age);
        let response = ask(&mut server, TestRequest::get("/a.txt"));
        assert_eq!(response.header("etag").unwrap().starts_with("W/"), is_weak, "{age}");
        assert_eq!(response.header("last-modified").is_none(), is_weak, "{age}");
    }
    // The weak tag does not match the file once it may have changed again.
    folder.write_at("a.txt", "hello", 1_000_000_100);
    let fresh = ask(&mut server, TestRequest::get("/a.txt")).header("etag").unwrap().to_owned();
    assert_eq!(ask(&mut server, get("/a.txt", &[("If-None-Match", &fresh)])).status(), 304);
    assert_eq!(
        ask(&mut server, get("/a.txt", &[("Range", "bytes=1-2"), ("If-Range", &fresh)])).status(),
        200
    );
    server.set_unix_time(Some(1_000_000_102));
    assert_eq!(ask(&mut server, get("/a.txt", &[("If-None-Match", &fresh)])).status(), 200);
}

#[test]
fn a_variant_that_the_client_prefers() {
    let folder = Folder::new();
    for (name, age) in
        [("a.js", 5), ("a.js.gz", 5), ("a.js.br", 4), ("b.js", 5), ("b.js.gz", 6), ("d/index.html", 0)]
    {
        folder.write_at(name, name, 1_000_000_000 - age);
    }
    folder.write("d/index.html.gz", "d/index.html.gz");
    fs::create_dir(folder.0.join("b.js.br")).unwrap();
    let table = [
        ("/a.js", "gzip, br", 200, "a.js.br"),
        ("/a.js", "gzip", 200, "a.js.gz"),
        ("/a.js", "br;q=0.5, gzip", 200, "a.js.gz"),
        ("/a.js", "deflate", 200, "a.js"),
        ("/a.js", "", 200, "a.js"),
        ("/a.js", "identity;q=0", 406, "406 Not Acceptable\n"),
        ("/a.js", "identity;q=0, br", 200, "a.js.br"),
        ("/b.js", "gzip, br", 200, "b.js"), // one is older, the other a folder
        ("/b.js", "gzip, identity;q=0", 406, "406 Not Acceptable\n"),
        ("/d/", "gzip", 200, "d/index.html.gz"),
        ("/a.js.gz", "gzip", 200, "a.js.gz"),
    ];
    for way in ways() {
        let mut server = server(&files(&folder.0, way, FileLimits::DEFAULT).precompressed(true));
        let mut tags = Vec::new();
        for (path, accepted, status, body) in table {
            let response = ask(&mut server, get(path, &[("Accept-Encoding", accepted)]));
            assert_eq!((response.status(), response.text()), (status, body), "{path} {accepted} {way:?}");
            if status == 406 {
                continue;
            }
            assert_eq!(response.header("vary"), Some("Accept-Encoding"), "{path} {accepted}");
            let coding = if path == "/a.js.gz" { None } else { body.rsplit_once('.').map(|(_, end)| end) };
            let coding = coding.filter(|end| *end != "js").map(|end| if end == "gz" { "gzip" } else { end });
            assert_eq!(response.header("content-encoding"), coding, "{path} {accepted}");
            let kind =
                if path == "/d/" { "text/html; charset=utf-8" } else { "text/javascript; charset=utf-8" };
            let kind = if path == "/a.js.gz" { "application/gzip" } else { kind };
            assert_eq!(response.header("content-type"), Some(kind), "{path} {accepted}");
            tags.push((body, response.header("etag").unwrap().to_owned()));
            let part = ask(&mut server, get(path, &[("Accept-Encoding", accepted), ("Range", "bytes=1-2")]));
            assert_eq!((part.status(), part.text()), (206, &body[1..3]));
        }
        // The same bytes under another name, and without the coding, are not the same representation.
        assert_ne!(tags[1].1, tags.last().unwrap().1);
        assert_ne!(tags[0].1, tags[1].1);
    }
    let mut server = server(&files(&folder.0, ways()[0], FileLimits::DEFAULT));
    let response = ask(&mut server, get("/a.js", &[("Accept-Encoding", "gzip, identity;q=0")]));
    assert_eq!((response.text(), response.header("vary")), ("a.js", None));
}

#[test]
fn folders_have_an_index_or_a_listing_or_nothing() {
    let folder = Folder::new();
    folder.write("page/index.html", "page");
    folder.write("list/<b>&\"'.txt", "");
    folder.write("list/a b:c%.txt", "");
    folder.write("list/.hidden", "");
    folder.write("list/back\\slash", "");
    folder.write("list/sub/index.html", "");
    let listing = "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>/list</title>\n<h1>/list</h1>\n\
                   <ul>\n<li><a href=\"../\">../</a>\n\
                   <li><a href=\"./%3Cb%3E%26%22%27.txt\">&lt;b&gt;&amp;&quot;&#39;.txt</a>\n\
                   <li><a href=\"./a%20b%3Ac%25.txt\">a b:c%.txt</a>\n<li><a href=\"./sub/\">sub/</a>\n</ul>\n";
    for way in ways() {
        let files = files(&folder.0, way, FileLimits::DEFAULT);
        for (index, lists, page, list) in [
            (true, false, "page", "404 Not Found\n"),
            (true, true, "page", listing),
            (false, false, "404 Not Found\n", "404 Not Found\n"),
        ] {
            let mut server = server(&files.clone().index(index).listing(lists));
            assert_eq!(ask(&mut server, TestRequest::get("/page/")).text(), page);
            assert_eq!(ask(&mut server, TestRequest::get("/list/")).text(), list);
        }
        let mut server = server(&files.clone().listing(true));
        let root = ask(&mut server, TestRequest::get("/"));
        assert!(!root.text().contains("../") && root.text().contains("./list/"), "{}", root.text());
        let part = ask(&mut server, get("/list/", &[("Range", "bytes=0-14")]));
        assert_eq!(part.text(), "<!DOCTYPE html>");
        assert_eq!(ask(&mut server, TestRequest::get("/page/index.html/")).status(), 404);
        assert_eq!(files.open_files(), 0);
    }
}

#[test]
fn a_listing_has_a_bound() {
    let folder = Folder::new();
    for entry in 0..crate::LISTING_MAX {
        fs::write(folder.0.join(entry.to_string()), "").unwrap();
    }
    let mut server = server(&files(&folder.0, ways()[0], FileLimits::DEFAULT).listing(true));
    let full = ask(&mut server, TestRequest::get("/"));
    assert_eq!(full.text().matches("<li>").count(), crate::LISTING_MAX);
    assert!(!full.text().contains("more than"));
    fs::write(folder.0.join("one-more"), "").unwrap();
    let beyond = ask(&mut server, TestRequest::get("/"));
    assert_eq!(beyond.text().matches("<li>").count(), crate::LISTING_MAX);
    assert!(beyond.text().contains("There are more than 4096 entries."));
}

#[test]
fn methods_other_than_get_and_head() {
    let folder = Folder::new();
    folder.write("a.txt", "hello");
    let own = files(&folder.0, ways()[0], FileLimits::DEFAULT);
    let fallback = own.clone();
    let mut server = TestServer::new(Http::new().fallback(move |request, response| {
        fallback.serve(&request, response, request.path().strip_prefix('/').unwrap())
    }));
    for (method, status) in [("GET", 200), ("HEAD", 200), ("OPTIONS", 204), ("POST", 405), ("DELETE", 405)] {
        let response = ask(&mut server, TestRequest::new(method, "/a.txt"));
        assert_eq!(response.status(), status, "{method}");
        assert_eq!(response.header("allow"), (status > 200).then_some("GET, HEAD, OPTIONS"), "{method}");
    }
    let mut routes = super::server(&own);
    assert_eq!(ask(&mut routes, TestRequest::new("POST", "/a.txt")).status(), 405);
}

#[test]
fn a_folder_that_cannot_be_served() {
    let folder = Folder::new();
    folder.write("a.txt", "");
    for (name, reason) in [("missing", "No such file or directory"), ("a.txt", "Not a directory")] {
        let path = folder.0.join(name);
        let error = Files::new(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot serve the folder {}: {reason}", path.display())), "{text}");
        assert_eq!(format!("{error:?}"), text);
    }
}
