//! The text protocol of memcached: commands, replies and numbers.
//!
//! A command is one line, parsed by [`Command::parse`]. Those of [`Upload`] are followed by a value and a line end.

use super::table::{Delta, KEY_MAX, Mode, NEVER, Refusal};

/// The longest of the replies that are not values or counts, in bytes.
pub const REPLY_MAX: usize = 64;
/// The longest line before a value, in bytes: the key, the flags, the length and the version, with what is between
/// them.
pub const HEADING_MAX: usize = 6 + KEY_MAX + 1 + 10 + 1 + 10 + 1 + 20 + 2;
/// The longest value that a command can announce. It is received and discarded if the server does not take it.
const LENGTH_MAX: u64 = i32::MAX as u64;
/// Expiry times above this many seconds are points in time, others are spans.
const SPAN_MAX: i64 = 30 * 24 * 60 * 60;

/// A command without the value that may follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// `get`, `gets`, `gat` and `gats`: sends the items of several keys.
    Get(Query<'a>),
    /// `set`, `add`, `replace`, `append`, `prepend` and `cas`: stores the value that follows.
    Upload(Upload<'a>),
    /// `delete`: removes an item.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Whether no reply is wanted.
        quiet: bool,
    },
    /// `incr` and `decr`: changes a number.
    Change {
        /// The key.
        key: &'a [u8],
        /// The change.
        delta: Delta,
        /// Whether no reply is wanted.
        quiet: bool,
    },
    /// `touch`: sets when an item expires.
    Touch {
        /// The key.
        key: &'a [u8],
        /// The time as it was sent, see [`deadline`].
        expiry: i64,
        /// Whether no reply is wanted.
        quiet: bool,
    },
    /// `flush_all`: lets all items expire.
    Flush {
        /// The seconds until then.
        delay: u32,
        /// Whether no reply is wanted.
        quiet: bool,
    },
    /// `verbosity`: has no effect.
    Verbosity {
        /// Whether no reply is wanted.
        quiet: bool,
    },
    /// `version`.
    Version,
    /// `stats` without an argument.
    Stats,
    /// `stats` with an argument that names counts which this server does not have.
    OtherStats,
    /// `stats reset`.
    ResetStats,
    /// `quit`.
    Quit,
}

/// A command that is answered with items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// The keys, with spaces between them. At least one, and none is too long.
    pub keys: &'a [u8],
    /// Whether versions are wanted.
    pub versions: bool,
    /// The new expiry time of the items as it was sent, if they get one.
    pub expiry: Option<i64>,
}

impl<'a> Query<'a> {
    /// Returns the next key after position `at` of the keys, and moves the position after it.
    pub fn next(&self, at: &mut usize) -> Option<&'a [u8]> {
        let (key, rest) = token(self.keys.get(*at..).unwrap_or_default())?;
        *at = self.keys.len() - rest.len();
        Some(key)
    }
}

/// A command that is followed by a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upload<'a> {
    /// The key.
    pub key: &'a [u8],
    /// How the value is stored.
    pub mode: Mode,
    /// What is returned with the value.
    pub flags: u32,
    /// The expiry time as it was sent, see [`deadline`].
    pub expiry: i64,
    /// The length of the value.
    pub length: usize,
    /// Whether no reply is wanted.
    pub quiet: bool,
}

/// A line that is not a valid command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// The reply to it.
    pub reply: Reply,
    /// The length of the value that follows and has to be discarded, if one follows.
    pub value: Option<usize>,
}

impl From<Reply> for Malformed {
    fn from(reply: Reply) -> Self {
        Self { reply, value: None }
    }
}

/// A reply of fixed text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "`Reply::text` has the texts of the protocol, which documents them")]
pub enum Reply {
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    Ok,
    Reset,
    End,
    Error,
    BadFormat,
    BadChunk,
    BadDelta,
    BadExpiry,
    NotANumber,
    LineTooLong,
    TooLarge,
    OutOfMemory,
}

impl Reply {
    /// Returns the line that is sent.
    #[must_use]
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::Stored => b"STORED\r\n",
            Self::NotStored => b"NOT_STORED\r\n",
            Self::Exists => b"EXISTS\r\n",
            Self::NotFound => b"NOT_FOUND\r\n",
            Self::Deleted => b"DELETED\r\n",
            Self::Touched => b"TOUCHED\r\n",
            Self::Ok => b"OK\r\n",
            Self::Reset => b"RESET\r\n",
            Self::End => b"END\r\n",
            Self::Error => b"ERROR\r\n",
            Self::BadFormat => b"CLIENT_ERROR bad command line format\r\n",
            Self::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
            Self::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            Self::BadExpiry => b"CLIENT_ERROR invalid exptime argument\r\n",
            Self::NotANumber => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            Self::LineTooLong => b"CLIENT_ERROR line too long\r\n",
            Self::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            Self::OutOfMemory => b"SERVER_ERROR out of memory storing object\r\n",
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotStored => Self::NotStored,
            Refusal::Exists => Self::Exists,
            Refusal::NotFound => Self::NotFound,
            Refusal::TooLarge => Self::TooLarge,
            Refusal::Full => Self::OutOfMemory,
            Refusal::NotANumber => Self::NotANumber,
        }
    }
}

impl<'a> Command<'a> {
    /// Parses a line.
    ///
    /// ```
    /// use lightcone_examples::kv::protocol::{Command, Query};
    ///
    /// let query = Query { keys: b"one two", versions: false, expiry: None };
    /// assert_eq!(Command::parse(b"get one two"), Ok(Command::Get(query)));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Malformed`] has the reply.
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let (verb, rest) = token(line).ok_or(Reply::Error)?;
        match verb {
            b"get" => query(rest, false, None),
            b"gets" => query(rest, true, None),
            b"gat" | b"gats" => {
                let (expiry, rest) = token(rest).ok_or(Reply::Error)?;
                let expiry = signed(expiry).ok_or(Reply::BadExpiry)?;
                query(rest, verb == b"gats", Some(expiry))
            }
            b"set" => upload(rest, Mode::Set),
            b"add" => upload(rest, Mode::Add),
            b"replace" => upload(rest, Mode::Replace),
            b"append" => upload(rest, Mode::Append),
            b"prepend" => upload(rest, Mode::Prepend),
            b"cas" => upload(rest, Mode::Cas(0)),
            b"delete" => match arguments(rest)? {
                // Old clients also send a delay, which has to be 0.
                ([Some(key), zero, None, None, None], quiet) if zero.is_none_or(|zero| zero == b"0") => {
                    Ok(Self::Delete { key: checked(key)?, quiet })
                }
                ([None, ..], _) => Err(Reply::Error.into()),
                _ => Err(Reply::BadFormat.into()),
            },
            b"incr" | b"decr" => {
                let ([Some(key), Some(delta), None, None, None], quiet) = arguments(rest)? else {
                    return Err(Reply::Error.into());
                };
                let key = checked(key)?;
                let by = number(delta).ok_or(Reply::BadDelta)?;
                let delta = if verb == b"incr" { Delta::Up(by) } else { Delta::Down(by) };
                Ok(Self::Change { key, delta, quiet })
            }
            b"touch" => {
                let ([Some(key), Some(expiry), None, None, None], quiet) = arguments(rest)? else {
                    return Err(Reply::Error.into());
                };
                let (key, expiry) = (checked(key)?, signed(expiry).ok_or(Reply::BadExpiry)?);
                Ok(Self::Touch { key, expiry, quiet })
            }
            b"flush_all" => {
                let ([delay, None, ..], quiet) = arguments(rest)? else { return Err(Reply::Error.into()) };
                let delay = delay.map_or(Some(0), number).and_then(|delay| u32::try_from(delay).ok());
                Ok(Self::Flush { delay: delay.ok_or(Reply::BadFormat)?, quiet })
            }
            b"verbosity" => match arguments(rest)? {
                ([Some(_), None, ..], quiet) => Ok(Self::Verbosity { quiet }),
                ([None, ..], true) => Ok(Self::Verbosity { quiet: true }),
                _ => Err(Reply::Error.into()),
            },
            b"stats" => Ok(match token(rest) {
                None => Self::Stats,
                Some((b"reset", _)) => Self::ResetStats,
                Some((b"items" | b"slabs" | b"sizes" | b"settings" | b"conns", _)) => Self::OtherStats,
                Some(_) => return Err(Reply::Error.into()),
            }),
            b"version" if token(rest).is_none() => Ok(Self::Version),
            b"quit" if token(rest).is_none() => Ok(Self::Quit),
            _ => Err(Reply::Error.into()),
        }
    }
}

fn query<'a>(keys: &'a [u8], versions: bool, expiry: Option<i64>) -> Result<Command<'a>, Malformed> {
    let query = Query { keys, versions, expiry };
    let (mut at, mut any) = (0, false);
    while let Some(key) = query.next(&mut at) {
        checked(key)?;
        any = true;
    }
    if any { Ok(Command::Get(query)) } else { Err(Reply::Error.into()) }
}

fn upload(rest: &[u8], mode: Mode) -> Result<Command<'_>, Malformed> {
    let ([Some(key), Some(flags), Some(expiry), Some(length), unique], quiet) = arguments(rest)? else {
        return Err(Reply::Error.into());
    };
    if unique.is_some() != matches!(mode, Mode::Cas(_)) {
        return Err(Reply::Error.into());
    }
    let length = number(length).filter(|length| *length <= LENGTH_MAX).ok_or(Reply::BadChunk)?;
    let length = usize::try_from(length).map_err(|_| Reply::BadChunk)?;
    // From here on the length of the value is known, so it can be skipped and is not taken for commands.
    let malformed = Malformed { reply: Reply::BadFormat, value: Some(length) };
    let flags = number(flags).and_then(|flags| u32::try_from(flags).ok()).ok_or(malformed)?;
    let expiry = signed(expiry).ok_or(malformed)?;
    let mode = match unique {
        Some(unique) => Mode::Cas(number(unique).ok_or(malformed)?),
        None => mode,
    };
    let key = checked(key).map_err(|_| malformed)?;
    Ok(Command::Upload(Upload { key, mode, flags, expiry, length, quiet }))
}

/// Returns the first word, and what comes after the space that ends it.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().position(|byte| *byte != b' ')?;
    let text = text.get(start..)?;
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    Some((word, rest.strip_prefix(b" ").unwrap_or(rest)))
}

/// The words after a verb.
type Words<'a> = [Option<&'a [u8]>; 5];

/// Returns up to five words, and whether `noreply` is after them.
fn arguments(mut rest: &[u8]) -> Result<(Words<'_>, bool), Malformed> {
    let (mut words, mut quiet, mut count) = ([None; 5], false, 0);
    while let Some((word, after)) = token(rest) {
        rest = after;
        // `noreply` is a key or a number unless it is the last word.
        if word == b"noreply" && token(rest).is_none() {
            quiet = true;
            break;
        }
        *words.get_mut(count).ok_or(Reply::Error)? = Some(word);
        count += 1;
    }
    Ok((words, quiet))
}

fn checked(key: &[u8]) -> Result<&[u8], Reply> {
    if key.len() <= KEY_MAX { Ok(key) } else { Err(Reply::BadFormat) }
}

/// Returns the number that a text represents; `None` if it is something else, or does not fit into 64 bits.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => number(digits).and_then(|number| 0_i64.checked_sub_unsigned(number)),
        None => number(text).and_then(|number| i64::try_from(number).ok()),
    }
}

/// Writes a number to the end of `digits`, and returns its digits.
pub fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for (at, place) in digits.iter_mut().enumerate().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        start = at;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

/// The line before a value.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    text: [u8; HEADING_MAX],
    length: usize,
}

impl Heading {
    /// Creates the line of an item, with its version if that is wanted.
    #[must_use]
    pub fn new(key: &[u8], flags: u32, length: usize, unique: Option<u64>) -> Self {
        let mut this = Self { text: [0; HEADING_MAX], length: 0 };
        this.push(b"VALUE ");
        this.push(key);
        for number in [Some(u64::from(flags)), Some(length as u64), unique].into_iter().flatten() {
            this.push(b" ");
            this.push(decimal(number, &mut [0; 20]));
        }
        this.push(b"\r\n");
        this
    }

    fn push(&mut self, bytes: &[u8]) {
        let place = self.text.get_mut(self.length..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.unwrap_or_else(|| unreachable!("`HEADING_MAX` is enough")).copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Returns the line.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

/// Returns the time in milliseconds at which an item expires: [`NEVER`] for 0, at once for a negative number, a span in
/// seconds up to 30 days, and beyond that seconds since 1970. Without a wall clock, points in time count as past.
///
/// ```
/// use lightcone_examples::kv::protocol::deadline;
///
/// assert_eq!(deadline(10, 500, None), 10_500);
/// assert_eq!(deadline(1_700_000_005, 500, Some(1_700_000_000)), 5_500);
/// ```
#[must_use]
pub fn deadline(expiry: i64, now: u64, unix_time: Option<u64>) -> u64 {
    let seconds = match u64::try_from(expiry) {
        Ok(0) => return NEVER,
        Ok(span) if expiry <= SPAN_MAX => span,
        Ok(point) => unix_time.and_then(|unix| point.checked_sub(unix)).unwrap_or(0),
        Err(_) => 0,
    };
    if seconds == 0 { 0 } else { now.saturating_add(seconds.saturating_mul(1_000)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(line: &[u8]) -> Reply {
        Command::parse(line).unwrap_err().reply
    }

    #[test]
    fn commands_are_parsed() {
        let upload = |mode, quiet| Upload { key: b"k", mode, flags: 7, expiry: -1, length: 3, quiet };
        let longest = [b'k'; KEY_MAX];
        for (line, command) in [
            (&b"get a"[..], Command::Get(Query { keys: b"a", versions: false, expiry: None })),
            (b"gets a  b ", Command::Get(Query { keys: b"a  b ", versions: true, expiry: None })),
            (b"gat 9 a", Command::Get(Query { keys: b"a", versions: false, expiry: Some(9) })),
            (b"gats 9 a", Command::Get(Query { keys: b"a", versions: true, expiry: Some(9) })),
            (b"set k 7 -1 3", Command::Upload(upload(Mode::Set, false))),
            (b"add k 7 -1 3 noreply", Command::Upload(upload(Mode::Add, true))),
            (b"replace k 7 -1 3", Command::Upload(upload(Mode::Replace, false))),
            (b"append k 7 -1 3", Command::Upload(upload(Mode::Append, false))),
            (b"prepend k 7 -1 3", Command::Upload(upload(Mode::Prepend, false))),
            (b"cas k 7 -1 3 99", Command::Upload(upload(Mode::Cas(99), false))),
            (b"cas k 7 -1 3 99 noreply", Command::Upload(upload(Mode::Cas(99), true))),
            (b"delete k", Command::Delete { key: b"k", quiet: false }),
            (b"delete k 0 noreply", Command::Delete { key: b"k", quiet: true }),
            (b"incr k 5", Command::Change { key: b"k", delta: Delta::Up(5), quiet: false }),
            (b"decr k 5 noreply", Command::Change { key: b"k", delta: Delta::Down(5), quiet: true }),
            (b"touch k 5", Command::Touch { key: b"k", expiry: 5, quiet: false }),
            (b"flush_all", Command::Flush { delay: 0, quiet: false }),
            (b"flush_all noreply", Command::Flush { delay: 0, quiet: true }),
            (b"flush_all 10 noreply", Command::Flush { delay: 10, quiet: true }),
            (b"verbosity 1", Command::Verbosity { quiet: false }),
            (b"version", Command::Version),
            (b"stats", Command::Stats),
            (b"stats reset", Command::ResetStats),
            (b"stats items", Command::OtherStats),
            (b"quit", Command::Quit),
            (&[b"delete ", &longest[..]].concat(), Command::Delete { key: &longest, quiet: false }),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn lines_that_are_no_commands_have_the_replies_of_the_protocol() {
        let long = "k".repeat(KEY_MAX + 1);
        for (line, expected) in [
            ("", Reply::Error),
            ("GET a", Reply::Error),
            ("get", Reply::Error),
            ("get ", Reply::Error),
            ("gat 5", Reply::Error),
            ("gat x a", Reply::BadExpiry),
            ("set k 0 0", Reply::Error),
            ("set k 0 0 1 2", Reply::Error),
            ("cas k 0 0 1", Reply::Error),
            ("set k 0 0 -1", Reply::BadChunk),
            ("set k 0 0 2147483648", Reply::BadChunk),
            ("set k 4294967296 0 1", Reply::BadFormat),
            ("set k 0 x 1", Reply::BadFormat),
            ("cas k 0 0 1 x", Reply::BadFormat),
            ("delete", Reply::Error),
            ("delete k 1", Reply::BadFormat),
            ("incr k", Reply::Error),
            ("incr k -1", Reply::BadDelta),
            ("incr k 18446744073709551616", Reply::BadDelta),
            ("touch k", Reply::Error),
            ("touch k x", Reply::BadExpiry),
            ("flush_all x", Reply::BadFormat),
            ("verbosity", Reply::Error),
            ("verbosity 1 2", Reply::Error),
            ("stats noreply", Reply::Error),
            ("version noreply", Reply::Error),
            ("quit noreply", Reply::Error),
            (&format!("get a {long}"), Reply::BadFormat),
            (&format!("set {long} 0 0 1"), Reply::BadFormat),
            (&format!("delete {long}"), Reply::BadFormat),
        ] {
            assert_eq!(reply(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn the_value_of_a_command_that_is_refused_is_known_where_its_length_is() {
        let value = |line: &[u8]| Command::parse(line).unwrap_err().value;
        assert_eq!(value(b"set k x 0 17"), Some(17));
        assert_eq!(value(format!("set {} 0 0 17", "k".repeat(251)).as_bytes()), Some(17));
        assert_eq!(value(b"set k 0 0 x"), None);
    }

    #[test]
    fn a_line_cut_anywhere_is_a_command_or_refused() {
        let line = b"cas somekey 4294967295 2592000 1048576 18446744073709551615 noreply";
        for end in 0..=line.len() {
            if let Ok(Command::Upload(upload)) = Command::parse(&line[..end]) {
                assert!(upload.key == b"somekey" && upload.flags == u32::MAX && upload.expiry == SPAN_MAX);
                assert!(line[..end].windows(7).any(|window| window == b"1048576"), "{end}");
            }
        }
    }

    #[test]
    fn numbers_of_64_bits_are_read_and_written() {
        for (text, value) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("1 ", None),
        ] {
            assert_eq!(number(text.as_bytes()), value, "{text}");
        }
        for value in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(decimal(value, &mut [0; 20]), value.to_string().as_bytes());
        }
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"9223372036854775808"), None);
    }

    #[test]
    fn every_reply_fits_and_the_longest_heading_too() {
        let heading = Heading::new(&[b'k'; KEY_MAX], u32::MAX, 0x7FFF_FFFF, Some(u64::MAX));
        assert_eq!(heading.text().len(), HEADING_MAX);
        assert!(heading.text().ends_with(b" 4294967295 2147483647 18446744073709551615\r\n"));
        assert_eq!(Heading::new(b"k", 0, 5, None).text(), b"VALUE k 0 5\r\n");
        assert!(Reply::NotANumber.text().len() <= REPLY_MAX);
    }

    #[test]
    fn expiry_is_a_span_up_to_30_days_and_a_point_in_time_beyond() {
        let unix = Some(1_700_000_000);
        for (expiry, expected) in [
            (0, NEVER),
            (-1, 0),
            (1, 1_500),
            (SPAN_MAX, 2_592_000_500),
            (SPAN_MAX + 1, 0), // in 1970
            (1_700_000_000, 0),
            (1_700_000_001, 1_500),
        ] {
            assert_eq!(deadline(expiry, 500, unix), expected, "{expiry}");
        }
        assert_eq!(deadline(1_700_000_001, 500, None), 0);
        assert_eq!(deadline(i64::MAX, 500, unix), NEVER);
    }
}
