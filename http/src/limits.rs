//! Limits of sizes and times.

use core::time::Duration;

/// Limits of what a peer can make the server store or wait for. A request that exceeds a limit is refused with the
/// status listed for the limit. Each limit can be set:
///
/// ```
/// use lightcone_http::Limits;
/// let limits = Limits { body: 64 << 20, ..Limits::DEFAULT };
/// assert_eq!(limits.head, 32 << 10);
/// ```
///
/// Limits are inclusive: a value that equals its limit is accepted. Set some and take the others from
/// [`Limits::DEFAULT`]: later versions add limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// The maximum size of a request head in bytes: the request line, the fields and the final empty line. More: 431.
    /// The capacity of a connection's input buffer is a limit as well. Default: 32 KiB.
    pub head: usize,
    /// The maximum length of a request target in bytes. More: 414. Default: 8 KiB.
    pub target: usize,
    /// The maximum number of field lines in a head. More: 431. Default: 100.
    pub fields: u16,
    /// The maximum size of a request body in bytes, whether it has a length or is chunked. More: 413. At most 2^48 - 1.
    /// Default: 1 MiB.
    pub body: u64,
    /// The maximum length of a chunk line in bytes, that is the size and its extensions without the line end. More:
    /// 400. Default: 256.
    pub chunk_line: u16,
    /// The maximum size of all chunk extensions of one body in bytes. More: 413. Default: 16 KiB.
    pub chunk_extensions: u16,
    /// The maximum size of the trailer section of a body in bytes, including line ends. More: 431. Default: 8 KiB.
    pub trailers: u16,
    /// How long a head may take from its first byte to its last. Longer: 408. Default: 10 seconds.
    pub head_time: Duration,
    /// How long each [`body_step`](Self::body_step) bytes of a body may take. Longer: 408.
    /// Default: 20 seconds.
    pub body_time: Duration,
    /// How many bytes of a body have to arrive within each [`body_time`](Self::body_time), from the beginning of the
    /// body on. Together they are the minimum rate of a body: a slower peer is refused after at most twice `body_time`,
    /// and a pause of less than `body_time` is tolerated. The minimum rate at which a response is read is
    /// [`Timeouts::write_rate`](lightcone_core::Timeouts::write_rate). Default: 1 KiB.
    pub body_step: u32,
    /// How long the response may take if it is not sent at once: from the end of the request to the end of the
    /// response, including the time in which the peer reads it. `None`: no limit. Longer: 503 or, if the response has
    /// begun, the end of the connection. Applies to event streams as well. Default: none.
    pub answer_time: Option<Duration>,
    /// How long a shutdown waits for one more request on a connection that is new or was just used: one that has sent
    /// nothing yet, or was last active less than this time ago. The response to that request has `Connection: close`.
    /// Other idle connections are closed at once; with zero, all idle ones are. Default: 200 milliseconds.
    pub newcomer_time: Duration,
    /// How many requests of one connection are served in a row before other connections have their turn. A smaller
    /// number is fairer if handlers take long. 0 is taken as 1. Default: 16.
    pub pipelined: u16,
}

impl Limits {
    /// The default limits.
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
