//! The largest of everything.

use core::time::Duration;

/// What a peer may make the server hold or wait for. Each limit has its answer, and each can be set:
///
/// ```
/// use lightcone_http::Limits;
/// let limits = Limits { body: 64 << 20, ..Limits::DEFAULT };
/// assert_eq!(limits.head, 32 << 10);
/// ```
///
/// Exactly the limit passes, one more is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request head: the request line, the fields and the empty line behind them. More: 431.
    /// What the buffers of a connection can hold is a limit as well. Default: 32 KiB.
    pub head: usize,
    /// Bytes of a request target. More: 414. Default: 8 KiB.
    pub target: usize,
    /// Field lines of a head. More: 431. Default: 100.
    pub fields: u16,
    /// Bytes of a request body, whether its length is given or it comes in chunks. More: 413. At most 2^48 - 1.
    /// Default: 1 MiB.
    pub body: u64,
    /// Bytes of one chunk line, without its line end: the size and its extensions. More: 400. Default: 256.
    pub chunk_line: u16,
    /// Bytes of the chunk extensions of one body. More: 413. Default: 16 KiB.
    pub chunk_extensions: u16,
    /// Bytes of the trailer section of one body, line ends included. More: 431. Default: 8 KiB.
    pub trailers: u16,
    /// How long a head may take from its first byte to its last. Longer: 408. Default: 10 seconds.
    pub head_time: Duration,
    /// How long a body may take for each [`body_step`](Self::body_step) of its bytes. Longer: 408.
    /// Default: 20 seconds.
    pub body_time: Duration,
    /// Bytes of a body that have to come within each [`body_time`](Self::body_time). Default: 1 KiB.
    pub body_step: u16,
    /// How long a request that is not answered at once may take from its end to the end of its answer, the peer's reading
    /// included; `None` for any time. Longer: 503 or, if the answer has begun, the end of the connection.
    /// Event streams have no more time than others. Default: none.
    pub answer_time: Option<Duration>,
    /// How long a shutdown waits for one more request on a connection that has just been made or used: on one that has
    /// sent nothing yet, or was not quiet for as long as this. That request is answered with `Connection: close`; other
    /// idle connections are closed at once. Zero: all are. Default: 200 milliseconds.
    pub newcomer_time: Duration,
    /// Requests of one connection that are answered in a row, before other connections have their turn. Where handlers
    /// take long, fewer are fairer. 0 is taken as 1. Default: 16.
    pub pipelined: u16,
}

impl Limits {
    /// The limits that hold unless others are set.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone_http::Limits;
    ///
    /// let limits = Limits {
    ///     head: 32 << 10,
    ///     target: 8 << 10,
    ///     fields: 100,
    ///     body: 1 << 20,
    ///     chunk_line: 256,
    ///     chunk_extensions: 16 << 10,
    ///     trailers: 8 << 10,
    ///     head_time: Duration::from_secs(10),
    ///     body_time: Duration::from_secs(20),
    ///     body_step: 1 << 10,
    ///     answer_time: None,
    ///     newcomer_time: Duration::from_millis(200),
    ///     pipelined: 16,
    /// };
    /// assert_eq!(limits, Limits::DEFAULT);
    /// ```
    pub const DEFAULT: Self = Self {
        head: 32 << 10,
        target: 8 << 10,
        fields: 100,
        body: 1 << 20,
        chunk_line: 256,
        chunk_extensions: 16 << 10,
        trailers: 8 << 10,
        head_time: Duration::from_secs(10),
        body_time: Duration::from_secs(20),
        body_step: 1 << 10,
        answer_time: None,
        newcomer_time: Duration::from_millis(200),
        pipelined: 16,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::{String, ToString};

    use super::*;

    #[test]
    fn the_defaults_are_those_that_the_documentation_names() {
        let number = |n: u64| match n {
            n if n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
            n if n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
            n => n.to_string(),
        };
        let seconds = |time: Duration| format!("{} seconds", time.as_secs());
        let Limits {
            head,
            target,
            fields,
            body,
            chunk_line,
            chunk_extensions,
            trailers,
            head_time,
            body_time,
            body_step,
            answer_time,
            newcomer_time,
            pipelined,
        } = Limits::DEFAULT;
        let defaults: [(&str, String); 13] = [
            ("head", number(head as u64)),
            ("target", number(target as u64)),
            ("fields", number(fields.into())),
            ("body", number(body)),
            ("chunk_line", number(chunk_line.into())),
            ("chunk_extensions", number(chunk_extensions.into())),
            ("trailers", number(trailers.into())),
            ("head_time", seconds(head_time)),
            ("body_time", seconds(body_time)),
            ("body_step", number(body_step.into())),
            ("answer_time", answer_time.map_or("none".into(), seconds)),
            ("newcomer_time", format!("{} milliseconds", newcomer_time.as_millis())),
            ("pipelined", number(pipelined.into())),
        ];
        for (field, default) in defaults {
            let text = include_str!("limits.rs");
            let expected = format!("Default: {default}.\n    pub {field}: ");
            assert!(text.contains(&expected), "{expected}");
        }
    }
}
