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
    /// What the buffers of a connection can hold is a limit as well.
    pub head: usize,
    /// Bytes of a request target. More: 414.
    pub target: usize,
    /// Field lines of a head. More: 431.
    pub fields: u16,
    /// Bytes of a request body, whether its length is given or it comes in chunks. More: 413. At most 2^48 - 1.
    pub body: u64,
    /// Bytes of one chunk line, without its line end: the size and its extensions. More: 400.
    pub chunk_line: u16,
    /// Bytes of the chunk extensions of one body. More: 413.
    pub chunk_extensions: u16,
    /// Bytes of the trailer section of one body, line ends included. More: 431.
    pub trailers: u16,
    /// How long a head may take from its first byte to its last. Longer: 408.
    pub head_time: Duration,
    /// How long a body may take for each [`body_step`](Self::body_step) of its bytes. Longer: 408.
    pub body_time: Duration,
    /// Bytes of a body that have to come within each [`body_time`](Self::body_time).
    pub body_step: u16,
    /// How long a request that is not answered at once may take from its end to the end of its answer, the peer's reading
    /// included; `None`, the default, for any time. Longer: 503 or, if the answer has begun, the end of the connection.
    /// Event streams have no more time than others.
    pub answer_time: Option<Duration>,
    /// Requests of one connection that are answered in a row, before other connections have their turn: 1 or more, 16 by
    /// default. Where handlers take long, fewer are fairer.
    pub pipelined: u16,
}

impl Limits {
    /// The limits that hold unless others are set.
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
        pipelined: 16,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
