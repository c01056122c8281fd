//! The rows of the table. `PATH` in an input is the path of the route; `REPEAT` is what [`Row::times`] repeats. Each
//! character is one byte, so `\u{ff}` is the byte 0xff.

use super::{Group, Outcome, Row, row};
use Outcome::{
    Answered, AnsweredLast, Continued, Incomplete, Malformed, Refused, Served, ServedLast, ServedThen,
    Unfinished,
};

/// A request with this request line.
macro_rules! line {
    ($line:literal) => {
        concat!($line, "\r\nHost: a\r\n\r\n")
    };
}

/// A `GET` request with these field lines after `Host`.
macro_rules! get {
    ($fields:literal) => {
        concat!("GET PATH HTTP/1.1\r\nHost: a\r\n", $fields, "\r\n")
    };
}

/// A `GET` request with these field lines, without another `Host`.
macro_rules! bare {
    ($fields:literal) => {
        concat!("GET PATH HTTP/1.1\r\n", $fields, "\r\n")
    };
}

/// A `POST` request with these field lines after `Host`, and a body.
macro_rules! post {
    ($fields:literal, $body:literal) => {
        concat!("POST PATH HTTP/1.1\r\nHost: a\r\n", $fields, "\r\n", $body)
    };
}

/// A `POST` request with a body that has this `Transfer-Encoding`.
macro_rules! coded {
    ($coding:literal) => {
        concat!("POST PATH HTTP/1.1\r\nHost: a\r\n", $coding, "\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    };
}

/// A `POST` request with this chunked body.
macro_rules! chunked {
    ($body:literal) => {
        concat!("POST PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", $body)
    };
}

const A128: &str = concat!(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
);
const EXTENSION: &str = concat!(
    "1;eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
    "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\r\na\r\n"
);

/// The table.
pub const GROUPS: &[Group] = &[
    Group { title: "Before a request", rows: BEFORE },
    Group { title: "Method", rows: METHODS },
    Group { title: "Request target", rows: TARGETS },
    Group { title: "Version and the end of the request line", rows: VERSIONS },
    Group { title: "Field lines", rows: FIELDS },
    Group { title: "Host", rows: HOSTS },
    Group { title: "Content-Length", rows: LENGTHS },
    Group { title: "Transfer-Encoding", rows: CODINGS },
    Group { title: "Chunk sizes and chunk data", rows: CHUNKS },
    Group { title: "Chunk extensions", rows: EXTENSIONS },
    Group { title: "Trailer section", rows: TRAILERS },
    Group { title: "Expect", rows: EXPECTATIONS },
    Group { title: "Connection and Upgrade", rows: CONNECTIONS },
    Group { title: "Requests in a row", rows: PIPELINES },
];

const BEFORE: &[Row] = &[
    row("9112 2.2", "one empty line", "\r\nGET PATH HTTP/1.1\r\nHost: a\r\n\r\n", Served("")),
    row("9112 2.2", "two empty lines", "\r\n\r\nGET PATH HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    row("9112 2.2", "a bare line feed", "\nGET PATH HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    row("9112 2.2", "a bare carriage return", "\rGET PATH HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    row(
        "9112 2.2",
        "two carriage returns and a line feed",
        "\r\r\nGET PATH HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    row("9112 2.2", "a line of one space", " \r\nGET PATH HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    row("9112 2.2", "a space", " GET PATH HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    row("9112 2.2", "a NUL", "\0GET PATH HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    row(
        "9112 2.2",
        "a byte order mark",
        "\u{ef}\u{bb}\u{bf}GET PATH HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    row(
        "9112 2.2",
        "a TLS handshake",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n",
        Refused(400),
    ),
    row("9112 3", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(505)),
    row("9112 8", "the stream ends within the request line", "GET PATH HT", Incomplete),
    row("9112 8", "the stream ends within the fields", "GET PATH HTTP/1.1\r\nHost: a\r\nX: ", Incomplete),
    row(
        "9112 8",
        "the stream ends before the last line feed",
        "GET PATH HTTP/1.1\r\nHost: a\r\n\r",
        Incomplete,
    ),
];

const METHODS: &[Row] = &[
    row("9110 9.3.1", "`GET`", line!("GET PATH HTTP/1.1"), Served("")),
    row("9110 9.3.2", "`HEAD`: no body in the response", line!("HEAD PATH HTTP/1.1"), Served("")),
    row("9110 9.3.3", "`POST` without a body", line!("POST PATH HTTP/1.1"), Served("")),
    row("9110 15.5.6", "`PUT` without a route", line!("PUT PATH HTTP/1.1"), Answered(405)),
    row("9110 9.3.5", "`DELETE` without a route", line!("DELETE PATH HTTP/1.1"), Answered(405)),
    row("9110 9.3.8", "`TRACE` without a route", line!("TRACE PATH HTTP/1.1"), Answered(405)),
    row("9110 9.3.7", "`OPTIONS` of a path", line!("OPTIONS PATH HTTP/1.1"), Answered(204)),
    row("9110 9.3.6", "`CONNECT`, as this is no proxy", line!("CONNECT a:80 HTTP/1.1"), Refused(501)),
    row("9112 3.2.3", "`CONNECT` with a path", line!("CONNECT PATH HTTP/1.1"), Refused(501)),
    row("9110 9.1", "an unknown method", line!("BREW PATH HTTP/1.1"), Refused(501)),
    row("9110 9.1", "a known method in lower case", line!("get PATH HTTP/1.1"), Refused(501)),
    row("9110 9.1", "a known method with a suffix", line!("GETS PATH HTTP/1.1"), Refused(501)),
    row(
        "9112 3.1",
        "an unknown method of rare token characters",
        line!("A!#$%&'*+.^_`|~9 PATH HTTP/1.1"),
        Refused(501),
    ),
    row("9112 3", "an unknown method without an end", "REPEAT", Refused(501)).times("M", 64),
    row("9112 3.1", "an empty method", line!(" PATH HTTP/1.1"), Refused(400)),
    row("9112 3.1", "a method with an at sign", line!("G@T PATH HTTP/1.1"), Refused(400)),
    row("9112 3.1", "a method with a colon", line!("GET: PATH HTTP/1.1"), Refused(400)),
    row("9112 3.1", "a method with a NUL", line!("GE\0T PATH HTTP/1.1"), Refused(400)),
    row("9112 3.1", "a method with a byte beyond ASCII", line!("G\u{c9}T PATH HTTP/1.1"), Refused(400)),
    row(
        "9110 9.3.1",
        "`GET` with a body",
        "GET PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        Served("abc"),
    ),
    row(
        "9110 9.3.1",
        "`GET` with a chunked body",
        "GET PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Served("abc"),
    ),
    row(
        "9110 9.3.2",
        "`HEAD` with a body",
        "HEAD PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        Served("abc"),
    ),
    row(
        "9110 9.3.7",
        "`OPTIONS` with a body, which is dropped",
        "OPTIONS PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        Answered(204),
    ),
    row(
        "9110 9.3.8",
        "`TRACE` with a body, which is dropped",
        "TRACE PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        Answered(405),
    ),
    row(
        "9110 9.3.4",
        "`PUT` with a body and without a route",
        "PUT PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        Answered(405),
    ),
    row(
        "9112 7.1",
        "`PUT` with a malformed body and without a route",
        "PUT PATH HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        AnsweredLast(405),
    ),
];

const TARGETS: &[Row] = &[
    row("9112 3.2.1", "a path with a query", line!("GET PATH?a=b&c HTTP/1.1"), Served("")),
    row("9112 3.2.1", "an empty query", line!("GET PATH? HTTP/1.1"), Served("")),
    row("3986 3.4", "a question mark in a query", line!("GET PATH?a?b/c HTTP/1.1"), Served("")),
    row("9110 15.5.5", "a path without a route", line!("GET PATH/none HTTP/1.1"), Answered(404)),
    row("3986 3.3", "an empty first segment", line!("GET /PATH HTTP/1.1"), Answered(404)),
    row("3986 6.2.2", "dot segments, which are not resolved", line!("GET /x/..PATH HTTP/1.1"), Answered(404)),
    row("9112 3.2.2", "the absolute form", line!("GET http://aPATH HTTP/1.1"), Served("")),
    row(
        "3986 3.1",
        "the absolute form with a scheme in upper case",
        line!("GET HTTP://aPATH HTTP/1.1"),
        Served(""),
    ),
    row(
        "9112 3.2.2",
        "the absolute form with a port and a query",
        line!("GET http://a:80PATH?b HTTP/1.1"),
        Served(""),
    ),
    row("9112 3.2.2", "the absolute form with `https`", line!("GET https://aPATH HTTP/1.1"), Served("")),
    row(
        "9112 3.2.2",
        "the absolute form with another host than `Host`, which is ignored",
        line!("GET http://bPATH HTTP/1.1"),
        Served(""),
    ),
    row("9112 3.2.2", "the absolute form without a path", line!("GET http://a HTTP/1.1"), Answered(404)),
    row(
        "9110 4.2.4",
        "the absolute form with user information",
        line!("GET http://user@aPATH HTTP/1.1"),
        Refused(400),
    ),
    row(
        "9110 4.2.1",
        "the absolute form with an empty host",
        line!("GET http://PATH HTTP/1.1"),
        Refused(400),
    ),
    row(
        "9110 4.2.1",
        "the absolute form with a port alone",
        line!("GET http://:80PATH HTTP/1.1"),
        Refused(400),
    ),
    row(
        "9110 4.2.1",
        "the absolute form with a port that is no number",
        line!("GET http://a:xPATH HTTP/1.1"),
        Refused(400),
    ),
    row(
        "9110 4.2.1",
        "the absolute form with a port above 65535",
        line!("GET http://a:65536PATH HTTP/1.1"),
        Refused(400),
    ),
    row(
        "9112 3.2.2",
        "the absolute form with another scheme",
        line!("GET ftp://aPATH HTTP/1.1"),
        Refused(400),
    ),
    row("9112 3.2.2", "the absolute form with one slash", line!("GET http:/aPATH HTTP/1.1"), Refused(400)),
    row("9112 3.2.2", "the absolute form without `Host`", "GET http://aPATH HTTP/1.1\r\n\r\n", Refused(400)),
    row("9112 3.2.3", "the authority form", line!("GET a:80 HTTP/1.1"), Refused(400)),
    row("9112 3.2.4", "`OPTIONS *`", line!("OPTIONS * HTTP/1.1"), Answered(204)),
    row(
        "9112 3.2.4",
        "`OPTIONS` in absolute form without a path",
        line!("OPTIONS http://a HTTP/1.1"),
        Answered(204),
    ),
    row("9112 3.2.4", "the asterisk form with another method", line!("GET * HTTP/1.1"), Refused(400)),
    row("9112 3.2.4", "an asterisk and more", line!("OPTIONS *x HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a path without its slash", line!("GET x HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a query alone", line!("GET ?x HTTP/1.1"), Refused(400)),
    row("9112 3.2", "an empty target", line!("GET  HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a fragment", line!("GET PATH#x HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a fragment after a query", line!("GET PATH?x#y HTTP/1.1"), Refused(400)),
    row("3986 2.1", "an encoded byte in a query", line!("GET PATH?a=%7e%7E HTTP/1.1"), Served("")),
    row(
        "3986 2.1",
        "an encoded byte in a path, which is not decoded to find the route",
        line!("GET /%69gnore HTTP/1.1"),
        Answered(404),
    ),
    row("3986 2.1", "an encoded NUL", line!("GET PATH%00 HTTP/1.1"), Answered(404)),
    row("3986 2.1", "an encoded line end", line!("GET PATH%0d%0aX:%20y HTTP/1.1"), Answered(404)),
    row("3986 2.1", "an encoded overlong UTF-8 sequence", line!("GET PATH%c0%af HTTP/1.1"), Answered(404)),
    row("3986 2.1", "a percent sign with one digit", line!("GET PATH%4 HTTP/1.1"), Refused(400)),
    row("3986 2.1", "a percent sign alone", line!("GET PATH% HTTP/1.1"), Refused(400)),
    row("3986 2.1", "a percent sign with other characters", line!("GET PATH%zz HTTP/1.1"), Refused(400)),
    row("3986 2.1", "a percent sign and `u0041`", line!("GET PATH%u0041 HTTP/1.1"), Refused(400)),
    row(
        "3986 2.1",
        "a percent sign with one digit in a query",
        line!("GET PATH?x=%4 HTTP/1.1"),
        Refused(400),
    ),
    row(
        "3986 2.1",
        "a percent sign with one digit in the absolute form",
        line!("GET http://aPATH?%4 HTTP/1.1"),
        Refused(400),
    ),
    row(
        "3986 2.2",
        "characters that browsers send as they are",
        line!("GET PATH?a[]=|^`{} HTTP/1.1"),
        Served(""),
    ),
    row("9112 3.2", "a NUL in a target", line!("GET PATH?\0 HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a control character in a target", line!("GET PATH?\u{1b} HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a DEL in a target", line!("GET PATH?\u{7f} HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a byte beyond ASCII in a path", line!("GET PATH\u{e9} HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a byte beyond ASCII in a query", line!("GET PATH?\u{c3}\u{a9} HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a space in a target", line!("GET PATH?a b HTTP/1.1"), Refused(400)),
    row("9112 3.2", "a tab in a target", line!("GET PATH?a\tb HTTP/1.1"), Refused(400)),
    row("9112 3", "a target of 8 KiB", line!("GET PATH?REPEAT HTTP/1.1"), Served("")).times("x", 8_184),
    row("9112 3", "a target of more than 8 KiB", line!("GET PATH?REPEAT HTTP/1.1"), Refused(414))
        .times("x", 8_185),
    row("9112 3", "a target of more than 8 KiB without an end", "GET PATH?REPEAT", Refused(414))
        .times("x", 8_185),
];

const VERSIONS: &[Row] = &[
    row("9110 2.5", "HTTP/1.0 without `Host`", "GET PATH HTTP/1.0\r\n\r\n", ServedLast("")),
    row("9110 2.5", "HTTP/1.0 with `Host`", line!("GET PATH HTTP/1.0"), ServedLast("")),
    row("9110 2.5", "HTTP/1.2, which is answered as HTTP/1.1", line!("GET PATH HTTP/1.2"), Served("")),
    row("9110 2.5", "HTTP/1.9", line!("GET PATH HTTP/1.9"), Served("")),
    row("9110 15.6.6", "HTTP/2.0", line!("GET PATH HTTP/2.0"), Refused(505)),
    row("9110 15.6.6", "HTTP/3.0", line!("GET PATH HTTP/3.0"), Refused(505)),
    row("9110 15.6.6", "HTTP/0.9 as a version", line!("GET PATH HTTP/0.9"), Refused(505)),
    row("9112 3", "the request line of HTTP/0.9, without a version", "GET PATH\r\n", Refused(400)),
    row("9112 3", "a space in place of a version", line!("GET PATH "), Refused(400)),
    row("9112 2.3", "a version in lower case", line!("GET PATH http/1.1"), Refused(400)),
    row("9112 2.3", "a version with one letter in lower case", line!("GET PATH HTTp/1.1"), Refused(400)),
    row("9112 2.3", "a version of one number", line!("GET PATH HTTP/1"), Refused(400)),
    row("9112 2.3", "a version without a dot", line!("GET PATH HTTP/11"), Refused(400)),
    row("9112 2.3", "a version without its second digit", line!("GET PATH HTTP/1."), Refused(400)),
    row("9112 2.3", "a version with two digits after the dot", line!("GET PATH HTTP/1.10"), Refused(400)),
    row("9112 2.3", "a version with a leading zero", line!("GET PATH HTTP/01.1"), Refused(400)),
    row("9112 2.3", "a version with a comma", line!("GET PATH HTTP/1,1"), Refused(400)),
    row("9112 2.3", "a version with a space", line!("GET PATH HTTP/ 1.1"), Refused(400)),
    row("9112 2.3", "a version with a sign", line!("GET PATH HTTP/+1.1"), Refused(400)),
    row("9112 2.3", "another protocol", line!("GET PATH HTCPCP/1.0"), Refused(400)),
    row("9112 3", "two spaces after the method", line!("GET  PATH HTTP/1.1"), Refused(400)),
    row("9112 3", "two spaces before the version", line!("GET PATH  HTTP/1.1"), Refused(400)),
    row("9112 3", "a tab after the method", line!("GET\tPATH HTTP/1.1"), Refused(400)),
    row("9112 3", "a tab before the version", line!("GET PATH\tHTTP/1.1"), Refused(400)),
    row("9112 3", "a vertical tab before the version", line!("GET PATH\u{b}HTTP/1.1"), Refused(400)),
    row("9112 3", "a form feed before the version", line!("GET PATH\u{c}HTTP/1.1"), Refused(400)),
    row("9112 3", "a space after the version", line!("GET PATH HTTP/1.1 "), Refused(400)),
    row("9112 3", "a word after the version", line!("GET PATH HTTP/1.1 x"), Refused(400)),
    row(
        "9112 2.2",
        "a bare line feed after the request line",
        "GET PATH HTTP/1.1\nHost: a\r\n\r\n",
        Refused(400),
    ),
    row(
        "9112 2.2",
        "a bare carriage return after the request line",
        "GET PATH HTTP/1.1\rHost: a\r\n\r\n",
        Refused(400),
    ),
    row(
        "9112 2.2",
        "two carriage returns after the request line",
        "GET PATH HTTP/1.1\r\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    row("9112 2.2", "bare line feeds throughout", "GET PATH HTTP/1.1\nHost: a\n\n", Refused(400)),
];

const FIELDS: &[Row] = &[
    row("9110 5.1", "a name of rare token characters", get!("A1_!#$%&'*+.^`|~: b\r\n"), Served("")),
    row("9110 5.1", "a name in another case", bare!("hOST: a\r\n"), Served("")),
    row("9112 5", "no space after the colon", bare!("Host:a\r\n"), Served("")),
    row("9112 5", "spaces and tabs around a value", get!("X:\t  b \t\r\n"), Served("")),
    row("9112 5", "an empty value", get!("X:\r\n"), Served("")),
    row("9112 5", "a value of spaces", get!("X:   \r\n"), Served("")),
    row("9110 5.5", "a value with bytes beyond ASCII", get!("X: \u{80}\u{ff}\r\n"), Served("")),
    row("9110 5.5", "a value with a tab inside", get!("X: a\tb\r\n"), Served("")),
    row("9110 5.5", "a value with colons and quotes", get!("X: a:b\"c\r\n"), Served("")),
    row("9112 5.1", "a space before the colon", get!("X : b\r\n"), Refused(400)),
    row("9112 5.1", "a tab before the colon", get!("X\t: b\r\n"), Refused(400)),
    row(
        "9112 5.1",
        "a space before the colon of `Content-Length`",
        post!("Content-Length : 3\r\n", "abc"),
        Refused(400),
    ),
    row(
        "9112 5.1",
        "a space before the colon of `Transfer-Encoding`",
        coded!("Transfer-Encoding : chunked"),
        Refused(400),
    ),
    row("9112 5.1", "a space in a name", get!("X Y: b\r\n"), Refused(400)),
    row("9112 5", "an empty name", get!(": b\r\n"), Refused(400)),
    row("9112 5", "a line without a colon", get!("X\r\n"), Refused(400)),
    row("9112 2.2", "white space before the first field", bare!(" Host: a\r\n"), Refused(400)),
    row(
        "9112 2.2",
        "white space before the first field, and another `Host`",
        bare!(" Host: b\r\nHost: a\r\n"),
        Refused(400),
    ),
    row("9112 5.2", "a folded line", get!("X: b\r\n c\r\n"), Refused(400)),
    row("9112 5.2", "a line folded with a tab", get!("X: b\r\n\tc\r\n"), Refused(400)),
    row("9112 5.2", "a folded line that is empty", get!("X: b\r\n \r\n"), Refused(400)),
    row("9112 5.2", "a folded `Transfer-Encoding`", coded!("Transfer-Encoding:\r\n chunked"), Refused(400)),
    row("9110 5.1", "a name with a parenthesis", get!("X(: b\r\n"), Refused(400)),
    row("9110 5.1", "a name with a slash", get!("X/Y: b\r\n"), Refused(400)),
    row("9110 5.1", "a name in quotes", get!("\"X\": b\r\n"), Refused(400)),
    row("9110 5.1", "a name with a NUL", get!("X\0: b\r\n"), Refused(400)),
    row("9110 5.1", "a name with a byte beyond ASCII", get!("X\u{e9}: b\r\n"), Refused(400)),
    row("9110 5.1", "a name with a DEL", get!("X\u{7f}: b\r\n"), Refused(400)),
    row("9110 5.5", "a NUL in a value", get!("X: a\0b\r\n"), Refused(400)),
    row("9110 5.5", "a control character in a value", get!("X: a\u{1}b\r\n"), Refused(400)),
    row("9110 5.5", "a DEL in a value", get!("X: a\u{7f}b\r\n"), Refused(400)),
    row("9110 5.5", "a vertical tab in a value", get!("X: a\u{b}b\r\n"), Refused(400)),
    row("9112 2.2", "a bare carriage return in a value", get!("X: a\rb\r\n"), Refused(400)),
    row(
        "9112 2.2",
        "a bare carriage return that hides a field",
        get!("X: a\rContent-Length: 5\r\n"),
        Refused(400),
    ),
    row("9112 2.2", "a bare line feed after a field", get!("X: a\n"), Refused(400)),
    row("9112 2.2", "a bare line feed that hides a field", get!("X: a\nY: b\r\n"), Refused(400)),
    row("9112 2.2", "two carriage returns after a field", get!("X: a\r\r\n"), Refused(400)),
    row(
        "9112 2.2",
        "a bare line feed in place of the last line",
        "GET PATH HTTP/1.1\r\nHost: a\r\n\n",
        Refused(400),
    ),
    row(
        "9112 2.2",
        "a bare carriage return before the last line feed",
        "GET PATH HTTP/1.1\r\nHost: a\r\n\r\r\n",
        Refused(400),
    ),
    row("9110 5.4", "100 fields", get!("REPEAT"), Served("")).times("X: b\r\n", 99),
    row("9110 5.4", "101 fields", get!("REPEAT"), Refused(431)).times("X: b\r\n", 100),
    row("9110 5.4", "a head of 32 KiB", get!("X: REPEAT\r\n"), Served("")).times("x", 32_730),
    row("9110 5.4", "a head of more than 32 KiB", get!("X: REPEAT\r\n"), Refused(431)).times("x", 32_731),
    row("9110 5.4", "a field without an end", "GET PATH HTTP/1.1\r\nHost: a\r\nX: REPEAT", Refused(431))
        .times("x", 32_768),
];

const HOSTS: &[Row] = &[
    row("9112 3.2", "no `Host`", bare!(""), Refused(400)),
    row("9112 3.2", "no `Host` in HTTP/1.2", "GET PATH HTTP/1.2\r\n\r\n", Refused(400)),
    row("9112 3.2", "two that are equal", get!("Host: a\r\n"), Refused(400)),
    row("9112 3.2", "two that differ", get!("Host: b\r\n"), Refused(400)),
    row(
        "9112 3.2",
        "two that differ, in HTTP/1.0",
        "GET PATH HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        Refused(400),
    ),
    row("9112 3.2", "a list of two", bare!("Host: a, b\r\n"), Refused(400)),
    row("9112 3.2", "an empty value", bare!("Host:\r\n"), Refused(400)),
    row("9112 3.2", "a value of spaces", bare!("Host:   \r\n"), Refused(400)),
    row("9110 7.2", "a name with a port", bare!("Host: example.org:8080\r\n"), Served("")),
    row("3986 3.2.3", "an empty port", bare!("Host: a:\r\n"), Served("")),
    row("3986 3.2.3", "the largest port", bare!("Host: a:65535\r\n"), Served("")),
    row("3986 3.2.3", "a port above 65535", bare!("Host: a:65536\r\n"), Refused(400)),
    row("3986 3.2.3", "a port that is no number", bare!("Host: a:b\r\n"), Refused(400)),
    row("3986 3.2.3", "a port with a sign", bare!("Host: a:+80\r\n"), Refused(400)),
    row("3986 3.2.3", "two ports", bare!("Host: a:1:2\r\n"), Refused(400)),
    row("9110 7.2", "a port alone", bare!("Host: :80\r\n"), Refused(400)),
    row("3986 3.2.2", "an IPv4 address", bare!("Host: 127.0.0.1\r\n"), Served("")),
    row("3986 3.2.2", "an IPv6 address with a port", bare!("Host: [::1]:80\r\n"), Served("")),
    row("3986 3.2.2", "an IPv6 address without brackets", bare!("Host: ::1\r\n"), Refused(400)),
    row("3986 3.2.2", "an open bracket", bare!("Host: [::1\r\n"), Refused(400)),
    row("3986 3.2.2", "brackets without an address", bare!("Host: [a]\r\n"), Refused(400)),
    row("3986 3.2.2", "a zone in brackets", bare!("Host: [fe80::1%25eth0]\r\n"), Refused(400)),
    row("3986 3.2.2", "an underscore", bare!("Host: a_b\r\n"), Served("")),
    row("3986 3.2.2", "an encoded byte", bare!("Host: a%20b\r\n"), Served("")),
    row("3986 3.2.2", "a percent sign with one digit", bare!("Host: a%2\r\n"), Refused(400)),
    row("9110 4.2.4", "user information", bare!("Host: user@a\r\n"), Refused(400)),
    row("9110 7.2", "a scheme", bare!("Host: http://a\r\n"), Refused(400)),
    row("9110 7.2", "a path", bare!("Host: a/b\r\n"), Refused(400)),
    row("9110 7.2", "a query", bare!("Host: a?b\r\n"), Refused(400)),
    row("9110 7.2", "a fragment", bare!("Host: a#b\r\n"), Refused(400)),
    row("9110 7.2", "a backslash", bare!("Host: a\\b\r\n"), Refused(400)),
    row("9110 7.2", "a space inside", bare!("Host: a b\r\n"), Refused(400)),
    row("9110 7.2", "a tab inside", bare!("Host: a\tb\r\n"), Refused(400)),
    row("9110 7.2", "quotes", bare!("Host: \"a\"\r\n"), Refused(400)),
    row("9110 7.2", "a byte beyond ASCII", bare!("Host: \u{e9}\r\n"), Refused(400)),
    row(
        "9112 3.2",
        "an invalid value with the absolute form",
        "GET http://aPATH HTTP/1.1\r\nHost: a/b\r\n\r\n",
        Refused(400),
    ),
];

const LENGTHS: &[Row] = &[
    row("9112 6.2", "a body of this length", post!("Content-Length: 3\r\n", "abc"), Served("abc")),
    row(
        "9112 6.3",
        "no length and no coding in HTTP/1.0: no body",
        "POST PATH HTTP/1.0\r\n\r\n",
        ServedLast(""),
    ),
    row("9112 6.2", "0", post!("Content-Length: 0\r\n", ""), Served("")),
    row("9110 8.6", "leading zeros", post!("Content-Length: 0003\r\n", "abc"), Served("abc")),
    row("9112 6.2", "white space around", post!("Content-Length: \t3 \r\n", "abc"), Served("abc")),
    row(
        "9112 6.3",
        "two that are equal",
        post!("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
        Refused(400),
    ),
    row(
        "9112 6.3",
        "two that differ",
        post!("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"),
        Refused(400),
    ),
    row("9112 6.3", "a list of two that are equal", post!("Content-Length: 3, 3\r\n", "abc"), Refused(400)),
    row("9112 6.3", "a list of two that differ", post!("Content-Length: 3, 4\r\n", "abc"), Refused(400)),
    row("9112 6.3", "a list with an empty member", post!("Content-Length: 3,\r\n", "abc"), Refused(400)),
    row(
        "9112 6.3",
        "two, of which one is empty",
        post!("Content-Length:\r\nContent-Length: 3\r\n", "abc"),
        Refused(400),
    ),
    row("9112 6.3", "an empty value", post!("Content-Length:\r\n", ""), Refused(400)),
    row("9112 6.3", "a plus sign", post!("Content-Length: +3\r\n", "abc"), Refused(400)),
    row("9112 6.3", "a minus sign", post!("Content-Length: -3\r\n", "abc"), Refused(400)),
    row("9112 6.3", "minus zero", post!("Content-Length: -0\r\n", ""), Refused(400)),
    row("9112 6.3", "a hexadecimal number", post!("Content-Length: 0x3\r\n", "abc"), Refused(400)),
    row("9112 6.3", "a letter after the digits", post!("Content-Length: 3a\r\n", "abc"), Refused(400)),
    row("9112 6.3", "a fraction", post!("Content-Length: 3.0\r\n", "abc"), Refused(400)),
    row("9112 6.3", "an exponent", post!("Content-Length: 3e0\r\n", "abc"), Refused(400)),
    row("9112 6.3", "an underscore between digits", post!("Content-Length: 0_3\r\n", "abc"), Refused(400)),
    row("9112 6.3", "a space between digits", post!("Content-Length: 3 0\r\n", "abc"), Refused(400)),
    row("9112 6.3", "quotes", post!("Content-Length: \"3\"\r\n", "abc"), Refused(400)),
    row("9112 6.3", "a digit beyond ASCII", post!("Content-Length: \u{b3}\r\n", "abc"), Refused(400)),
    row("9110 8.6", "the largest body", post!("Content-Length: 1048576\r\n", ""), Unfinished("")),
    row(
        "9110 15.5.14",
        "one byte more than the largest body",
        post!("Content-Length: 1048577\r\n", ""),
        Refused(413),
    ),
    row(
        "9110 8.6",
        "a number of 2^32 and more",
        post!("Content-Length: 4294967299\r\n", "abc"),
        Refused(413),
    ),
    row(
        "9110 8.6",
        "a number of 2^64 and more",
        post!("Content-Length: 18446744073709551619\r\n", "abc"),
        Refused(413),
    ),
    row("9110 8.6", "a number of 40 digits", post!("Content-Length: REPEAT\r\n", "abc"), Refused(413))
        .times("9", 40),
    row("9112 6.3", "the stream ends before the body", post!("Content-Length: 3\r\n", ""), Unfinished("")),
    row(
        "9112 6.3",
        "the stream ends within the body",
        post!("Content-Length: 3\r\n", "ab"),
        Unfinished("ab"),
    ),
    row(
        "9112 6.3",
        "the stream ends within the body of an HTTP/1.0 request",
        "POST PATH HTTP/1.0\r\nContent-Length: 3\r\n\r\nab",
        Unfinished("ab"),
    ),
    row(
        "9112 6.2",
        "an HTTP/1.0 request with a length",
        "POST PATH HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        ServedLast("abc"),
    ),
    row("9110 5.1", "a similar name, which means nothing", post!("Content_Length: 3\r\n", ""), Served("")),
];

const CODINGS: &[Row] = &[
    row("9112 6.1", "`chunked`", coded!("Transfer-Encoding: chunked"), Served("abc")),
    row("9112 7", "`chunked` in another case", coded!("Transfer-Encoding: Chunked"), Served("abc")),
    row("9112 7", "`CHUNKED`", coded!("TRANSFER-ENCODING: CHUNKED"), Served("abc")),
    row("9110 5.6.1", "an empty list member before", coded!("Transfer-Encoding: , chunked"), Served("abc")),
    row("9110 5.6.1", "an empty list member after", coded!("Transfer-Encoding: chunked ,"), Served("abc")),
    row("9112 6.1", "a tab before `chunked`", coded!("Transfer-Encoding:\tchunked"), Served("abc")),
    row(
        "9112 6.1",
        "with `Content-Length`",
        coded!("Content-Length: 3\r\nTransfer-Encoding: chunked"),
        Refused(400),
    ),
    row(
        "9112 6.1",
        "before `Content-Length`",
        coded!("Transfer-Encoding: chunked\r\nContent-Length: 3"),
        Refused(400),
    ),
    row(
        "9112 6.1",
        "with a `Content-Length` of 0",
        coded!("Content-Length: 0\r\nTransfer-Encoding: chunked"),
        Refused(400),
    ),
    row(
        "9112 6.1",
        "an unknown coding with `Content-Length`",
        coded!("Content-Length: 3\r\nTransfer-Encoding: x"),
        Refused(400),
    ),
    row(
        "9112 6.1",
        "in HTTP/1.0",
        "POST PATH HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    row(
        "9112 6.1",
        "in HTTP/1.0 that stays open",
        "POST PATH HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    row(
        "9112 6.1",
        "another coding, then `chunked`",
        coded!("Transfer-Encoding: gzip, chunked"),
        Refused(501),
    ),
    row(
        "9112 6.1",
        "an unknown coding, then `chunked`",
        coded!("Transfer-Encoding: x, chunked"),
        Refused(501),
    ),
    row("9112 7", "`identity`, then `chunked`", coded!("Transfer-Encoding: identity, chunked"), Refused(501)),
    row("9112 6.3", "another coding alone", coded!("Transfer-Encoding: gzip"), Refused(400)),
    row("9112 6.3", "`identity` alone", coded!("Transfer-Encoding: identity"), Refused(400)),
    row(
        "9112 6.3",
        "`chunked` before another coding",
        coded!("Transfer-Encoding: chunked, gzip"),
        Refused(400),
    ),
    row(
        "9112 6.3",
        "`chunked` before `identity`",
        coded!("Transfer-Encoding: chunked, identity"),
        Refused(400),
    ),
    row("9112 6.1", "`chunked` twice", coded!("Transfer-Encoding: chunked, chunked"), Refused(400)),
    row(
        "9112 6.1",
        "two fields of `chunked`",
        coded!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        Refused(400),
    ),
    row(
        "9112 6.1",
        "two fields, the last `chunked`",
        coded!("Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
        Refused(400),
    ),
    row(
        "9112 6.1",
        "two fields, the first `chunked`",
        coded!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        Refused(400),
    ),
    row("9112 6.3", "an empty value", coded!("Transfer-Encoding:"), Refused(400)),
    row("9112 6.3", "a comma alone", coded!("Transfer-Encoding: ,"), Refused(400)),
    row("9112 7", "a parameter of `chunked`", coded!("Transfer-Encoding: chunked;q=1"), Refused(400)),
    row("9112 7", "`chunked` in quotes", coded!("Transfer-Encoding: \"chunked\""), Refused(400)),
    row("9112 7", "`chunked` with a prefix", coded!("Transfer-Encoding: xchunked"), Refused(400)),
    row("9112 7", "`chunked` with a suffix", coded!("Transfer-Encoding: chunkedx"), Refused(400)),
    row(
        "9112 7",
        "`chunked` and a word without a comma",
        coded!("Transfer-Encoding: chunked x"),
        Refused(400),
    ),
    row(
        "9110 5.5",
        "a vertical tab before `chunked`",
        coded!("Transfer-Encoding: \u{b}chunked"),
        Refused(400),
    ),
    row("9110 5.5", "a NUL after `chunked`", coded!("Transfer-Encoding: chunked\0"), Refused(400)),
    row(
        "9112 7",
        "a byte beyond ASCII before `chunked`",
        coded!("Transfer-Encoding: \u{a0}chunked"),
        Refused(400),
    ),
    row(
        "9112 2.2",
        "hidden after a bare line feed",
        coded!("X: y\nTransfer-Encoding: chunked"),
        Refused(400),
    ),
    row(
        "9112 2.2",
        "hidden after a bare carriage return",
        coded!("X: y\rTransfer-Encoding: chunked"),
        Refused(400),
    ),
    row(
        "9112 5.2",
        "on a line that begins with a space",
        coded!("X: y\r\n Transfer-Encoding: chunked"),
        Refused(400),
    ),
    row(
        "9110 5.1",
        "a similar name, which means nothing",
        post!("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        Served("0\r\n\r\n"),
    ),
    row(
        "9110 10.1.4",
        "`TE`, which says what the client accepts",
        get!("TE: trailers, chunked;q=0.5\r\nConnection: TE\r\n"),
        Served(""),
    ),
];

const CHUNKS: &[Row] = &[
    row("9112 7.1", "an empty body", chunked!("0\r\n\r\n"), Served("")),
    row("9112 7.1", "several chunks", chunked!("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), Served("abc")),
    row("9112 7.1", "a size in lower case", chunked!("a\r\nabcdefghij\r\n0\r\n\r\n"), Served("abcdefghij")),
    row("9112 7.1", "a size in upper case", chunked!("A\r\nabcdefghij\r\n0\r\n\r\n"), Served("abcdefghij")),
    row("9112 7.1", "leading zeros", chunked!("0003\r\nabc\r\n0\r\n\r\n"), Served("abc")),
    row("9112 7.1", "a last chunk of several zeros", chunked!("3\r\nabc\r\n000\r\n\r\n"), Served("abc")),
    row("9112 7.1", "line ends within the data", chunked!("4\r\n\r\n\r\n\r\n0\r\n\r\n"), Served("\r\n\r\n")),
    row("9112 7.1", "a size line of 256 bytes", chunked!("REPEAT3\r\nabc\r\n0\r\n\r\n"), Served("abc"))
        .times("0", 255),
    row(
        "9112 7.1",
        "a size line of more than 256 bytes",
        chunked!("REPEAT3\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    )
    .times("0", 256),
    row("9112 7.1", "the largest body", chunked!("100000\r\n"), Unfinished("")),
    row("9112 7.1", "more than the largest body", chunked!("100001\r\n"), Malformed(413, "")),
    row(
        "9112 7.1",
        "more than the largest body in the second chunk",
        chunked!("1\r\na\r\n100000\r\n"),
        Malformed(413, "a"),
    ),
    row("9112 7.1", "a size of 2^32 and more", chunked!("100000003\r\nabc\r\n0\r\n\r\n"), Malformed(413, "")),
    row(
        "9112 7.1",
        "a size of 2^64 and more",
        chunked!("10000000000000003\r\nabc\r\n0\r\n\r\n"),
        Malformed(413, ""),
    ),
    row("9112 7.1", "a size of 16 digits", chunked!("ffffffffffffffff\r\nabc"), Malformed(413, "")),
    row("9112 7.1", "an empty size", chunked!("\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a size that is no number", chunked!("g\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a size with `0x`", chunked!("0x3\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a size with a plus sign", chunked!("+3\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a size with a minus sign", chunked!("-3\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a size with an underscore", chunked!("0_3\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a size with a dot", chunked!("3.\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a size in quotes", chunked!("\"3\"\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a space before the size", chunked!(" 3\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a space after the size", chunked!("3 \r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a tab after the size", chunked!("3\t\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a space within the size", chunked!("0 3\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a NUL after the size", chunked!("3\0\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a list of sizes", chunked!("3,3\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a bare line feed after the size", chunked!("3\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row(
        "9112 7.1",
        "a bare carriage return after the size",
        chunked!("3\rabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1",
        "two carriage returns after the size",
        chunked!("3\r\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1",
        "a bare line feed after the data",
        chunked!("3\r\nabc\n0\r\n\r\n"),
        Malformed(400, "abc"),
    ),
    row(
        "9112 7.1",
        "a bare carriage return after the data",
        chunked!("3\r\nabc\r0\r\n\r\n"),
        Malformed(400, "abc"),
    ),
    row("9112 7.1", "no line end after the data", chunked!("3\r\nabc0\r\n\r\n"), Malformed(400, "abc")),
    row("9112 7.1", "a space after the data", chunked!("3\r\nabc \r\n0\r\n\r\n"), Malformed(400, "abc")),
    row(
        "9112 7.1",
        "data that is longer than its size",
        chunked!("3\r\nabcd\r\n0\r\n\r\n"),
        Malformed(400, "abc"),
    ),
    row(
        "9112 7.1",
        "data that is shorter than its size",
        chunked!("3\r\na\r\n0\r\n\r\n"),
        Malformed(400, "a\r\n"),
    ),
    row(
        "9112 7.1",
        "an empty line between chunks",
        chunked!("1\r\na\r\n\r\n1\r\nb\r\n0\r\n\r\n"),
        Malformed(400, "a"),
    ),
    row(
        "9112 7.1",
        "a malformed size in the second chunk",
        chunked!("3\r\nabc\r\nzz\r\n0\r\n\r\n"),
        Malformed(400, "abc"),
    ),
    row("9112 7.1", "a bare line feed after the last chunk", chunked!("0\n\r\n"), Malformed(400, "")),
    row("9112 7.1", "a bare line feed in place of the last line", chunked!("0\r\n\n"), Malformed(400, "")),
    row(
        "9112 7.1",
        "a bare carriage return in place of the last line",
        chunked!("0\r\n\rx"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1",
        "no last line before the next request",
        chunked!("0\r\nGET /probe HTTP/1.1\r\n"),
        Malformed(400, ""),
    ),
    row("9112 8", "the stream ends before the first chunk", chunked!(""), Unfinished("")),
    row("9112 8", "the stream ends within a size", chunked!("3"), Unfinished("")),
    row("9112 8", "the stream ends within the data", chunked!("3\r\nab"), Unfinished("ab")),
    row("9112 8", "the stream ends before the last chunk", chunked!("3\r\nabc\r\n"), Unfinished("abc")),
    row("9112 8", "the stream ends before the last line", chunked!("3\r\nabc\r\n0\r\n"), Unfinished("abc")),
];

const EXTENSIONS: &[Row] = &[
    row("9112 7.1.1", "a name", chunked!("3;x\r\nabc\r\n0\r\n\r\n"), Served("abc")),
    row("9112 7.1.1", "a name and a value", chunked!("3;x=y\r\nabc\r\n0\r\n\r\n"), Served("abc")),
    row("9112 7.1.1", "a quoted value", chunked!("3;x=\"y;\\\"\u{ff}\"\r\nabc\r\n0\r\n\r\n"), Served("abc")),
    row("9112 7.1.1", "several", chunked!("3;x=y;z;w=\"\"\r\nabc\r\n0;v\r\n\r\n"), Served("abc")),
    row(
        "9112 7.1.1",
        "bad white space around the semicolon",
        chunked!("3 \t; x\r\nabc\r\n0\r\n\r\n"),
        Served("abc"),
    ),
    row(
        "9112 7.1.1",
        "bad white space around the equals sign",
        chunked!("3;x \t= y\r\nabc\r\n0\r\n\r\n"),
        Served("abc"),
    ),
    row(
        "9112 7.1.1",
        "bad white space between two",
        chunked!("3;x=y ; z\r\nabc\r\n0\r\n\r\n"),
        Served("abc"),
    ),
    row(
        "9112 7.1.1",
        "bad white space in the last chunk",
        chunked!("3\r\nabc\r\n0 ; x\r\n\r\n"),
        Served("abc"),
    ),
    row(
        "9112 7.1.1",
        "bad white space at the end of the line",
        chunked!("3;x \r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row("9112 7.1.1", "a semicolon without a name", chunked!("3;\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1.1", "two semicolons", chunked!("3;;x\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1.1", "a value without a name", chunked!("3;=y\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row(
        "9112 7.1.1",
        "an equals sign without a value",
        chunked!("3;x=\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1.1",
        "two words without an equals sign",
        chunked!("3;x y\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row("9112 7.1.1", "no semicolon", chunked!("3 x\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row(
        "9112 7.1.1",
        "a quoted value without an end",
        chunked!("3;x=\"y\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1.1",
        "a line end in a quoted value",
        chunked!("3;x=\"\r\nabc\"\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1.1",
        "a word after a quoted value",
        chunked!("3;x=\"y\"z\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1.1",
        "a byte beyond ASCII in a name",
        chunked!("3;\u{e9}\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row("9112 7.1.1", "a NUL", chunked!("3;x\0\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row(
        "9112 7.1.1",
        "a control character in a quoted value",
        chunked!("3;x=\"\u{1}\"\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row("9112 2.2", "a bare line feed at the end", chunked!("3;x\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row("9112 2.2", "a bare line feed inside", chunked!("3;x\ny\r\nabc\r\n0\r\n\r\n"), Malformed(400, "")),
    row(
        "9112 2.2",
        "a bare carriage return inside",
        chunked!("3;x\ry\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 2.2",
        "a bare line feed in the last chunk",
        chunked!("3\r\nabc\r\n0;x\n\r\n"),
        Malformed(400, "abc"),
    ),
    row("9112 7.1.1", "a line of 256 bytes", chunked!("3;REPEAT\r\nabc\r\n0\r\n\r\n"), Served("abc"))
        .times("x", 254),
    row(
        "9112 7.1.1",
        "a line of more than 256 bytes",
        chunked!("3;REPEAT\r\nabc\r\n0\r\n\r\n"),
        Malformed(400, ""),
    )
    .times("x", 255),
    row("9112 7.1.1", "16 KiB in one body", chunked!("REPEAT0\r\n\r\n"), Served(A128)).times(EXTENSION, 128),
    row("9112 7.1.1", "more than 16 KiB in one body", chunked!("REPEAT0;x\r\n\r\n"), Malformed(413, A128))
        .times(EXTENSION, 128),
];

const TRAILERS: &[Row] = &[
    row("9112 7.1.2", "a field, which is dropped", chunked!("3\r\nabc\r\n0\r\nX: y\r\n\r\n"), Served("abc")),
    row("9112 7.1.2", "several fields", chunked!("0\r\nX: y\r\nz:\t\u{ff} \r\nW:\r\n\r\n"), Served("")),
    row(
        "9110 6.5.1",
        "a `Content-Length`, which means nothing",
        chunked!("0\r\nContent-Length: 99\r\n\r\n"),
        Served(""),
    ),
    row(
        "9110 6.5.1",
        "a `Transfer-Encoding`, which means nothing",
        chunked!("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Served(""),
    ),
    row("9110 6.5.1", "a `Host`, which means nothing", chunked!("0\r\nHost: b/c\r\n\r\n"), Served("")),
    row(
        "9110 6.5.1",
        "a `Connection`, which means nothing",
        chunked!("0\r\nConnection: close\r\n\r\n"),
        Served(""),
    ),
    row("9112 7.1.2", "a space before the colon", chunked!("0\r\nX : y\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1.2", "an empty name", chunked!("0\r\n: y\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1.2", "a line without a colon", chunked!("0\r\nX\r\n\r\n"), Malformed(400, "")),
    row("9112 7.1.2", "a name that is no token", chunked!("0\r\nX(: y\r\n\r\n"), Malformed(400, "")),
    row("9112 5.2", "a folded line", chunked!("0\r\nX: y\r\n z\r\n\r\n"), Malformed(400, "")),
    row("9112 5.2", "a line that begins with a space", chunked!("0\r\n X: y\r\n\r\n"), Malformed(400, "")),
    row("9110 5.5", "a NUL in a value", chunked!("0\r\nX: \0\r\n\r\n"), Malformed(400, "")),
    row("9110 5.5", "a DEL in a value", chunked!("0\r\nX: \u{7f}\r\n\r\n"), Malformed(400, "")),
    row("9112 2.2", "a bare line feed after a field", chunked!("0\r\nX: y\n\r\n"), Malformed(400, "")),
    row(
        "9112 2.2",
        "a bare carriage return in a field",
        chunked!("0\r\nX: y\rz\r\n\r\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 2.2",
        "a bare line feed in place of the last line",
        chunked!("0\r\nX: y\r\n\n"),
        Malformed(400, ""),
    ),
    row(
        "9112 7.1.2",
        "a malformed field after data",
        chunked!("3\r\nabc\r\n0\r\nX\r\n\r\n"),
        Malformed(400, "abc"),
    ),
    row("9112 8", "the stream ends within a field", chunked!("0\r\nX: y"), Unfinished("")),
    row("9110 6.5", "8 KiB", chunked!("0\r\nt:REPEAT\r\n\r\n"), Served("")).times("v", 8_186),
    row("9110 6.5", "more than 8 KiB", chunked!("0\r\nt:REPEAT\r\n\r\n"), Malformed(431, ""))
        .times("v", 8_187),
    row("9110 6.5", "more than 8 KiB of short fields", chunked!("0\r\nREPEAT"), Malformed(431, ""))
        .times("t:\r\n", 2_049),
];

const EXPECTATIONS: &[Row] = &[
    row(
        "9110 10.1.1",
        "`100-continue` with a body",
        post!("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"),
        Continued("abc"),
    ),
    row(
        "9110 10.1.1",
        "`100-continue` in another case",
        post!("Expect: 100-Continue\r\nContent-Length: 3\r\n", "abc"),
        Continued("abc"),
    ),
    row(
        "9110 10.1.1",
        "`100-continue` with a chunked body",
        post!("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        Continued("abc"),
    ),
    row("9110 10.1.1", "`100-continue` without a body", get!("Expect: 100-continue\r\n"), Served("")),
    row(
        "9110 10.1.1",
        "`100-continue` with an empty body",
        post!("Expect: 100-continue\r\nContent-Length: 0\r\n", ""),
        Served(""),
    ),
    row(
        "9110 10.1.1",
        "`100-continue` in HTTP/1.0, which is ignored",
        "POST PATH HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        ServedLast("abc"),
    ),
    row(
        "9110 10.1.1",
        "`100-continue` with a body beyond the limit",
        post!("Expect: 100-continue\r\nContent-Length: 1048577\r\n", ""),
        Refused(413),
    ),
    row(
        "9110 10.1.1",
        "`100-continue` with a malformed length",
        post!("Expect: 100-continue\r\nContent-Length: x\r\n", ""),
        Refused(400),
    ),
    row(
        "9110 15.5.18",
        "another expectation",
        post!("Expect: tea\r\nContent-Length: 3\r\n", "abc"),
        Refused(417),
    ),
    row(
        "9110 15.5.18",
        "`100-continue` and another expectation",
        post!("Expect: 100-continue, tea\r\nContent-Length: 3\r\n", "abc"),
        Refused(417),
    ),
    row("9110 15.5.18", "another expectation without a body", get!("Expect: 200-ok\r\n"), Refused(417)),
    row("9110 10.1.1", "an empty value", get!("Expect:\r\n"), Served("")),
];

const CONNECTIONS: &[Row] = &[
    row("9112 9.6", "`close`", get!("Connection: close\r\n"), ServedLast("")),
    row("9112 9.6", "`Close`", get!("Connection: Close\r\n"), ServedLast("")),
    row("9112 9.6", "`close` in a list", get!("Connection: x, close\r\n"), ServedLast("")),
    row(
        "9112 9.6",
        "`close` in a second field",
        get!("Connection: x\r\nConnection: close\r\n"),
        ServedLast(""),
    ),
    row("9112 9.3", "`close` and `keep-alive`", get!("Connection: keep-alive, close\r\n"), ServedLast("")),
    row("9112 9.3", "`keep-alive`", get!("Connection: keep-alive\r\n"), Served("")),
    row("9112 9.3", "a word that begins with `close`", get!("Connection: closed\r\n"), Served("")),
    row("9110 5.6.1", "empty list members", get!("Connection: ,,close,\r\n"), ServedLast("")),
    row(
        "9112 9.3",
        "`keep-alive` in HTTP/1.0",
        "GET PATH HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        Served(""),
    ),
    row(
        "9112 9.3",
        "`keep-alive` and `close` in HTTP/1.0",
        "GET PATH HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
        ServedLast(""),
    ),
    row(
        "9112 9.3",
        "`Keep-Alive` alone in HTTP/1.0",
        "GET PATH HTTP/1.0\r\nKeep-Alive: timeout=5\r\n\r\n",
        ServedLast(""),
    ),
    row(
        "9110 7.6.1",
        "`close` with a body",
        post!("Connection: close\r\nContent-Length: 3\r\n", "abc"),
        ServedLast("abc"),
    ),
    row(
        "9110 7.6.1",
        "names of framing fields, which still count",
        post!("Connection: content-length, host\r\nContent-Length: 3\r\n", "abc"),
        Served("abc"),
    ),
    row(
        "9110 7.8",
        "an offer that is not taken",
        get!("Connection: upgrade\r\nUpgrade: x/2\r\n"),
        Served(""),
    ),
    row(
        "9110 7.8",
        "an offer of HTTP/2",
        get!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        Served(""),
    ),
    row(
        "9110 7.8",
        "an offer in HTTP/1.0",
        "GET PATH HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x/2\r\n\r\n",
        ServedLast(""),
    ),
    row(
        "9110 7.6.1",
        "`Proxy-Connection`, which means nothing",
        get!("Proxy-Connection: close\r\n"),
        Served(""),
    ),
];

const PIPELINES: &[Row] = &[
    row("9112 2.2", "one empty line between two requests", concat!(get!(""), "\r\n"), Served("")),
    row(
        "9112 2.2",
        "two empty lines between two requests",
        concat!(get!(""), "\r\n\r\n"),
        ServedThen("", 400),
    ),
    row("9112 2.2", "an empty line after a body", post!("Content-Length: 3\r\n", "abc\r\n"), Served("abc")),
    row("9112 2.2", "an empty line after a chunked body", chunked!("0\r\n\r\n\r\n"), Served("")),
    row("9112 2.2", "a bare line feed between two requests", concat!(get!(""), "\n"), ServedThen("", 400)),
    row(
        "9112 9.3.2",
        "a malformed request after a good one",
        concat!(get!(""), "GET /\r\n"),
        ServedThen("", 400),
    ),
    row("9112 6.3", "bytes after a body", post!("Content-Length: 3\r\n", "abcd\r\n"), ServedThen("abc", 400)),
    row(
        "9112 6.3",
        "a request within a body",
        post!("Content-Length: 39\r\n", "GET /probe HTTP/1.1\r\nHost: smuggled\r\n"),
        Unfinished("GET /probe HTTP/1.1\r\nHost: smuggled\r\n"),
    ),
    row(
        "9112 6.3",
        "a request as a body",
        post!("Content-Length: 32\r\n", "GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"),
        Served("GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"),
    ),
    row(
        "9112 6.3",
        "a request as the body of a `GET`",
        concat!(
            "GET PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 32\r\n\r\n",
            "GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"
        ),
        Served("GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"),
    ),
    row(
        "9112 7.1",
        "a request as a chunk",
        chunked!("20\r\nGET /probe HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n"),
        Served("GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"),
    ),
    row(
        "9112 9.6",
        "a request after `close`",
        concat!(get!("Connection: close\r\n"), "GET /probe HTTP/1.1\r\nHost: a\r\n\r\n"),
        ServedLast(""),
    ),
    row(
        "9112 9.6",
        "a request after an HTTP/1.0 one",
        "GET PATH HTTP/1.0\r\n\r\nGET /probe HTTP/1.1\r\nHost: a\r\n\r\n",
        ServedLast(""),
    ),
    row(
        "9112 6.3",
        "a request after one with two lengths",
        concat!(
            "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 32\r\n\r\n",
            "GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"
        ),
        Refused(400),
    ),
    row(
        "9112 6.1",
        "a request after one with a length and a coding",
        concat!(
            "POST PATH HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"
        ),
        Refused(400),
    ),
    row(
        "9112 7.1",
        "a request after a malformed chunk",
        chunked!("3\r\nabcGET /probe HTTP/1.1\r\nHost: x\r\n\r\n"),
        Malformed(400, "abc"),
    ),
];
