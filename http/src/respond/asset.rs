//! Content that is part of the program: its type, validators and precompressed variants, sent whole or in ranges.

use core::fmt::{self, Display};

use crate::exchange::{Done, Exchange, Flow};
use crate::parse::chunked::Count;
use crate::parse::head::Head;
use crate::parse::words::{is_token, trim};
use crate::request::{Request, State};
use crate::status::Status;
use crate::transfer::Transfer;

use super::range::{ByteRange, ContentRange, ranged};
use super::response::{Reply, Response};
use super::text::displayed;
use super::validators::{ETag, Validators, values};

/// Content of any length that is part of the program, such as a page or an image, with what is known of it.
///
/// [`Request::asset`] serves it: whole or a range of it, unchanged or in a coding that the client accepts, or a 304 if
/// the client has it already.
///
/// ```
/// use lightcone_http::{Asset, Http};
///
/// static STYLE: Asset = Asset::new(b"body { margin: auto }") // include_bytes!("style.css")
///     .content_type("text/css")
///     .cache_control("max-age=3600")
///     .hashed();
///
/// let server = Http::new().get("/style.css", |request, response| request.asset(response, || &STYLE));
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "an asset does nothing until a route serves it"]
pub struct Asset {
    bytes: &'static [u8],
    content_type: &'static str,
    validators: Validators<'static>,
    hashed: bool,
    variants: [Option<Variant>; Self::VARIANTS_MAX],
}

/// An asset in a content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Variant {
    coding: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    /// The maximum number of precompressed variants.
    pub const VARIANTS_MAX: usize = 3;

    /// Creates an asset of type `application/octet-stream` without validators.
    pub const fn new(bytes: &'static [u8]) -> Self {
        Self {
            bytes,
            content_type: "application/octet-stream",
            validators: Validators::new(),
            hashed: false,
            variants: [None; Self::VARIANTS_MAX],
        }
    }

    /// Sets the value of `Content-Type`.
    pub const fn content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    /// Sets the value of `Cache-Control`. It is not sent with errors.
    pub const fn cache_control(mut self, directives: &'static str) -> Self {
        self.validators.cache_control = directives;
        self
    }

    /// Sets the entity tag. The tag of a variant ends in the name of its coding in addition.
    pub const fn etag(mut self, etag: ETag<'static>) -> Self {
        self.hashed = false;
        self.validators = self.validators.etag(etag);
        self
    }

    /// Sets the entity tag to a [hash](ETag::hash) of the bytes of the asset and its variants. In a `static`, it is
    /// computed by the compiler.
    pub const fn hashed(mut self) -> Self {
        self.hashed = true;
        self.rehash()
    }

    const fn rehash(mut self) -> Self {
        if !self.hashed {
            return self;
        }
        let mut number = ETag::hash(self.bytes).to_number();
        let mut rest = self.variants.as_slice();
        while let [Some(Variant { bytes, .. }), after @ ..] = rest {
            number = number.rotate_left(1) ^ ETag::hash(bytes).to_number();
            rest = after;
        }
        self.validators = self.validators.etag(ETag::number(number));
        self
    }

    /// Sets the time of the last change, in seconds since 1970: see [`Validators::last_modified`].
    pub const fn last_modified(mut self, unix_time: u64) -> Self {
        self.validators = self.validators.last_modified(unix_time);
        self
    }

    /// Adds a variant that was compressed in advance, such as `encoded("gzip", include_bytes!("page.html.gz"))`.
    ///
    /// A client gets the variant whose coding it prefers by its `Accept-Encoding` (RFC 9110, 12.5.3). If it prefers
    /// none of them, it gets the one that was added first, and if it accepts none, the unchanged bytes. All responses
    /// then have `Vary: Accept-Encoding`. A client that accepts not even the unchanged bytes (`identity;q=0`) gets a
    /// 406.
    ///
    /// # Panics
    /// If there are [`VARIANTS_MAX`](Self::VARIANTS_MAX) variants already, or the coding is no token.
    ///
    /// ```
    /// use lightcone_http::Asset;
    /// static PAGE: Asset = Asset::new(b"<h1>hello</h1>")
    ///     .content_type("text/html; charset=utf-8")
    ///     .encoded("gzip", b"..") // include_bytes!("page.html.gz")
    ///     .hashed();
    /// ```
    pub const fn encoded(mut self, coding: &'static str, bytes: &'static [u8]) -> Self {
        let mut rest = coding.as_bytes();
        assert!(!rest.is_empty(), "a coding has a name");
        while let [first, after @ ..] = rest {
            assert!(is_token(*first), "a coding is a token");
            rest = after;
        }
        let variant = Some(Variant { coding, bytes });
        self.variants = match self.variants {
            [None, ..] => [variant, None, None],
            [first, None, _] => [first, variant, None],
            [first, second, None] => [first, second, variant],
            [Some(_), Some(_), Some(_)] => panic!("an asset has three variants at most"),
        };
        self.rehash()
    }

    /// Returns whether positions in each variant fit into 32 bits.
    fn is_small(&self) -> bool {
        let variants = self.variants.iter().flatten().map(|variant| variant.bytes.len());
        variants.chain([self.bytes.len()]).all(|length| u32::try_from(length).is_ok())
    }

    /// Returns the bytes of a variant; 0 is the unchanged asset.
    fn variant(&self, index: u8) -> &'static [u8] {
        let variant = usize::from(index).checked_sub(1).and_then(|at| *self.variants.get(at)?);
        variant.map_or(self.bytes, |variant| variant.bytes)
    }

    /// Prepares the response to a request: which variant, and which ranges of it. Returns them with the response, which
    /// lacks the content type.
    #[inline(never)]
    fn prepare<'r>(
        &self,
        head: &Head<'_>,
        mut response: Response<'r>,
        found: &mut [ByteRange],
    ) -> Result<(Response<'r>, u8, usize), Reply<Done>> {
        let mut variant = 0;
        let mut validators = self.validators;
        if self.variants != [None; Self::VARIANTS_MAX] {
            response = response.header("Vary", "Accept-Encoding");
            match choose(head, &self.variants) {
                Some(chosen) => variant = chosen,
                None => return Err(response.refuse(Status::NOT_ACCEPTABLE)),
            }
        }
        let coding = usize::from(variant).checked_sub(1).and_then(|at| *self.variants.get(at)?);
        if let (Some(Variant { coding, .. }), Some(etag)) = (coding, validators.etag) {
            validators = validators.etag(etag.coded(coding));
        }
        let length = self.variant(variant).len() as u64;
        let (mut response, ranges) = ranged(head, response, &validators, length, found)?;
        if let Some(Variant { coding, .. }) = coding {
            response = response.header("Content-Encoding", coding);
        }
        Ok((response, variant, ranges))
    }
}

/// Chooses the variant that the client prefers: 0 for the unchanged asset, `None` if none is acceptable.
fn choose(head: &Head<'_>, variants: &[Option<Variant>]) -> Option<u8> {
    let identity = quality(head, "identity");
    let mut best = (identity.unwrap_or(0), 0);
    for (index, variant) in (1..).zip(variants.iter().flatten()) {
        let quality = quality(head, variant.coding).unwrap_or(0);
        // At equal preference a variant is better than the unchanged asset, and an earlier one than a later.
        if quality > 0 && (quality > best.0 || quality == best.0 && best.1 == 0) {
            best = (quality, index);
        }
    }
    (best.1 > 0 || identity != Some(0)).then_some(best.1)
}

/// Returns the weight of a coding in `Accept-Encoding`, in thousandths: its own, or that of `*`.
fn quality(head: &Head<'_>, coding: &str) -> Option<u16> {
    let (mut own, mut any) = (None, None);
    let items = values(head, "accept-encoding").flat_map(|value| value.split(|byte| *byte == b','));
    for item in items {
        let mut parts = item.split(|byte| *byte == b';').map(trim);
        let name = parts.next().unwrap_or(&[]);
        let weight = match (parts.next(), parts.next()) {
            (None, _) => Some(1000),
            (Some([b'q' | b'Q', b'=', weight @ ..]), None) => thousandths(weight),
            (Some(_), _) => None, // malformed: the item does not count
        };
        // RFC 9110, 8.4.1.3: an old name of gzip.
        let old = name.eq_ignore_ascii_case(b"x-gzip") && coding == "gzip";
        if name.eq_ignore_ascii_case(coding.as_bytes()) || old {
            own = own.or(weight);
        } else if name == b"*" {
            any = any.or(weight);
        }
    }
    own.or(any)
}

/// Parses a weight (RFC 9110, 12.4.2).
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (ones, rest) = weight.split_first()?;
    let digits = match rest {
        [] => &[],
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    if !(matches!(ones, b'0' | b'1') && digits.iter().all(u8::is_ascii_digit)) {
        return None;
    }
    let places = digits.iter().chain(b"000").take(3);
    let weight = places.fold(u16::from(ones - b'0'), |weight, digit| 10 * weight + u16::from(digit - b'0'));
    (weight <= 1000).then_some(weight)
}

impl<S: State> Request<'_, S> {
    /// Sends an [`Asset`] that `asset` returns, piece by piece as there is room: whole, or the range of it that the
    /// request selects (RFC 9110, 14).
    ///
    /// | The request | The response |
    /// | --- | --- |
    /// | has a [condition](Self::conditional) that is not met | 304 or 412 |
    /// | selects one range, and `If-Range` is absent or names this version | 206 with `Content-Range` |
    /// | selects only ranges after the end | 416 with `Content-Range: bytes */LENGTH` |
    /// | selects several ranges | 200 with all of the asset; use [`asset_parts`](Self::asset_parts) |
    /// | has a `Range` that is malformed or has another unit, or is no `GET` | 200 with all of the asset |
    ///
    /// The argument is a closure so that connections need not keep a pointer to the asset: with one that returns a
    /// static, the exchange has 7 bytes. It must return the same asset each time. The validators are ignored if the
    /// response has a status other than 200, so an asset can be the page of an error.
    ///
    /// ```
    /// use lightcone_http::{Asset, Http};
    ///
    /// static PAGE: Asset = Asset::new(b"<h1>hello</h1>").content_type("text/html").hashed();
    /// static LOST: Asset = Asset::new(b"<h1>lost?</h1>").content_type("text/html");
    ///
    /// let server = Http::new()
    ///     .get("/", |request, response| request.asset(response, || &PAGE))
    ///     .fallback(|request, response| request.asset(response.status(404), || &LOST));
    /// # drop(server);
    /// ```
    pub fn asset<F: Fn() -> &'static Asset>(&self, response: Response<'_>, asset: F) -> Reply<AssetBody<F>> {
        let mut found = [ByteRange::default()];
        match asset().prepare(self.head, response, &mut found) {
            Ok((response, variant, ranges)) => {
                let [range] = found;
                AssetBody::start(asset, variant, if ranges == 0 { None } else { Some(range) }, response)
            }
            Err(reply) => reply.into_any(),
        }
    }

    /// Sends an asset as [`asset`](Self::asset) does, or up to `N` ranges of it in one response
    /// (`multipart/byteranges`, RFC 9110, 14.6), in the order of the request.
    ///
    /// A request for more ranges, or for ranges that overlap, gets all of the asset, since such requests are mistakes
    /// or attacks (RFC 9110, 14.2). So the parts are never larger than the asset, apart from the lines around each.
    /// The ranges are part of every connection, 8 bytes for each.
    ///
    /// ```
    /// use lightcone_http::{Asset, Http};
    ///
    /// static BOOK: Asset = Asset::new(b"...").content_type("application/pdf").hashed();
    ///
    /// let server =
    ///     Http::new().get("/book.pdf", |request, response| request.asset_parts::<4, _>(response, || &BOOK));
    /// # drop(server);
    /// ```
    pub fn asset_parts<const N: usize, F: Fn() -> &'static Asset>(
        &self,
        response: Response<'_>,
        asset: F,
    ) -> Reply<AssetParts<F, N>> {
        const { assert!(N > 0 && N <= 16, "an asset is sent in 1 to 16 parts") };
        let mut found = [ByteRange::default(); N];
        // A part has positions of 32 bits: of a larger asset, only one range can be sent.
        let most = if asset().is_small() { N } else { 1 };
        let (places, _) = found.split_at_mut(most);
        let (response, variant, ranges) = match asset().prepare(self.head, response, places) {
            Ok(prepared) => prepared,
            Err(reply) => return reply.into_any(),
        };
        if ranges < 2 {
            let range = found.first().filter(|_| ranges == 1).copied();
            let whole = AssetBody::start(asset, variant, range, response);
            return whole.map(|body| AssetParts {
                body,
                parts: [Part::default(); N],
                count: 0,
                index: 0,
                begun: false,
            });
        }
        let body = AssetBody { asset, at: Count::new(0), variant };
        let count = u8::try_from(ranges).unwrap_or(u8::MAX);
        let parts = AssetParts { body, parts: found.map(Part::new), count, index: 0, begun: false };
        let Some(length) = parts.length() else { return Reply::failed() };
        let boundary = format_args!("multipart/byteranges; boundary={}", parts.boundary());
        response.header("Content-Type", boundary).stream(Some(length), parts)
    }
}

/// An asset, or one range of it, that is being sent: see [`Request::asset`].
#[derive(Clone, Copy, Debug)]
pub struct AssetBody<F> {
    asset: F,
    at: Count,
    variant: u8,
}

impl<F: Fn() -> &'static Asset> AssetBody<F> {
    fn start(asset: F, variant: u8, range: Option<ByteRange>, response: Response<'_>) -> Reply<Self> {
        let Asset { content_type, .. } = asset();
        let whole = ByteRange { first: 0, length: asset().variant(variant).len() as u64 };
        let ByteRange { first, length } = range.unwrap_or(whole);
        let body = Self { asset, at: Count::new(first), variant };
        response.header("Content-Type", content_type).stream(Some(length), body)
    }
}

impl<S: State, F: Fn() -> &'static Asset> Exchange<S> for AssetBody<F> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let bytes = (self.asset)().variant(self.variant);
        let rest = usize::try_from(self.at.get()).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
        let n = io.write(rest); // no more than was announced
        self.at = Count::new(self.at.get() + n as u64);
        // Without a rest, the closure has returned another, shorter asset: the response is cut.
        if io.remaining() == Some(0) || n == rest.len() { Flow::Done } else { Flow::More }
    }
}

/// A range with 32-bit positions, without alignment.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    first: [u8; 4],
    length: [u8; 4],
}

impl Part {
    fn new(range: ByteRange) -> Self {
        let bytes = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        Self { first: bytes(range.first), length: bytes(range.length) }
    }

    fn range(self) -> ByteRange {
        let number = |bytes| u32::from_le_bytes(bytes).into();
        ByteRange { first: number(self.first), length: number(self.length) }
    }
}

/// An asset, or ranges of it, that is being sent: see [`Request::asset_parts`].
#[derive(Clone, Copy, Debug)]
pub struct AssetParts<F, const N: usize> {
    /// What is sent if there are no parts; otherwise its position is that in the part.
    body: AssetBody<F>,
    parts: [Part; N],
    /// The number of parts; 0 for the whole asset or one range.
    count: u8,
    /// The part that is being sent.
    index: u8,
    /// Whether the lines before the data of the part are written.
    begun: bool,
}

/// The delimiter of the parts: a number of the content, scrambled. Only content that was made for this contains it.
struct Boundary(u64);

impl Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part-{:016x}", self.0 ^ 0x5d1c_83a9_e07f_4b26)
    }
}

impl<F: Fn() -> &'static Asset, const N: usize> AssetParts<F, N> {
    fn boundary(&self) -> Boundary {
        let Asset { validators, bytes, .. } = (self.body.asset)();
        Boundary(validators.etag.map_or(bytes.len() as u64, ETag::to_number))
    }

    /// Returns the range of a part; `None` after the last one.
    fn range(&self, index: u8) -> Option<ByteRange> {
        self.parts.get(..self.count.into())?.get(usize::from(index)).map(|part| part.range())
    }

    /// Returns the length of all parts with the lines around them.
    fn length(&self) -> Option<u64> {
        let mut total = 0;
        for index in 0..=self.count {
            let range = self.range(index);
            total += displayed(&self.lines(index))? + range.map_or(0, |range| range.length);
        }
        Some(total)
    }

    fn lines(&self, index: u8) -> PartLines {
        let Asset { content_type, .. } = (self.body.asset)();
        let length = (self.body.asset)().variant(self.body.variant).len() as u64;
        let range = self.range(index).map(|range| ContentRange(range, length));
        PartLines { first: index == 0, boundary: self.boundary(), content_type, range }
    }
}

/// The lines before the data of a part, or after the last one, without a range.
struct PartLines {
    first: bool,
    boundary: Boundary,
    content_type: &'static str,
    range: Option<ContentRange>,
}

impl Display for PartLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, boundary, content_type, range } = self;
        let Some(range) = range else { return write!(f, "\r\n--{boundary}--\r\n") };
        f.write_str(if *first { "" } else { "\r\n" })?;
        write!(f, "--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n")
    }
}

impl<S: State, F: Fn() -> &'static Asset, const N: usize> Exchange<S> for AssetParts<F, N> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if self.count == 0 {
            return self.body.advance(io);
        }
        loop {
            if !self.begun && write!(io, "{}", self.lines(self.index)).is_err() {
                return Flow::More;
            }
            self.begun = true;
            let Some(range) = self.range(self.index) else { return Flow::Done };
            let bytes = (self.body.asset)().variant(self.body.variant);
            let (at, end) = (range.first + self.body.at.get(), range.first + range.length);
            let rest = usize::try_from(at).ok().zip(usize::try_from(end).ok());
            let rest = rest.and_then(|(at, end)| bytes.get(at..end)).unwrap_or(&[]);
            let n = io.write(rest);
            self.body.at = Count::new(self.body.at.get() + n as u64);
            if n < rest.len() {
                return Flow::More;
            }
            (self.index, self.begun, self.body.at) = (self.index + 1, false, Count::new(0));
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    #[test]
    fn weights() {
        let good = [("1", 1000), ("0", 0), ("1.", 1000), ("0.", 0), ("0.5", 500), ("0.05", 50), ("0.001", 1)];
        for (text, weight) in good.into_iter().chain([("1.000", 1000), ("0.999", 999)]) {
            assert_eq!(thousandths(text.as_bytes()), Some(weight), "{text}");
        }
        for text in ["", "2", "1.1", "1.001", "0.0001", ".5", "00", "0,5", "0.5 ", "-1", "a"] {
            assert_eq!(thousandths(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_preferred_variant() {
        let variant = |coding| Some(Variant { coding, bytes: b"" });
        let variants = [variant("br"), variant("gzip"), None];
        let table: [(&str, Option<u8>); 24] = [
            ("Accept-Encoding: br, gzip", Some(1)),
            ("Accept-Encoding: gzip, br", Some(1)),
            ("Accept-Encoding: gzip", Some(2)),
            ("Accept-Encoding: GZIP", Some(2)),
            ("Accept-Encoding: x-gzip", Some(2)),
            ("Accept-Encoding: gzip;q=1.0, br;q=0.9", Some(2)),
            ("Accept-Encoding: gzip ; q=0.5 , br;q=0.6", Some(1)),
            ("Accept-Encoding: br;q=0, gzip;Q=0.001", Some(2)),
            ("Accept-Encoding: *", Some(1)),
            ("Accept-Encoding: *, br;q=0", Some(2)),
            ("Accept-Encoding: *;q=0.5, gzip", Some(2)),
            ("Accept-Encoding: deflate\r\naccept-encoding: gzip", Some(2)),
            ("Accept-Encoding: gzip;q=0.5, identity", Some(0)),
            ("Accept-Encoding: gzip;q=0.5, identity;q=0.5", Some(2)),
            ("Accept-Encoding: identity", Some(0)),
            ("Accept-Encoding:", Some(0)),
            ("Accept: br", Some(0)),
            ("Accept-Encoding: deflate, zstd", Some(0)),
            ("Accept-Encoding: br;q=0, gzip;q=0", Some(0)),
            // Items that are malformed do not count.
            ("Accept-Encoding: br;level=1, gzip;q=2, br gzip", Some(0)),
            ("Accept-Encoding: gzip;q=0.5;q=1", Some(0)),
            ("Accept-Encoding: identity;q=0", None),
            ("Accept-Encoding: *;q=0", None),
            ("Accept-Encoding: identity;q=0, gzip", Some(2)),
        ];
        for (line, expected) in table {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
            let crate::Parse::Complete(head) = crate::parse(head.as_bytes(), &crate::Limits::DEFAULT) else {
                panic!("{line}")
            };
            assert_eq!(choose(&head, &variants), expected, "{line}");
        }
    }

    #[test]
    fn the_hash_covers_the_variants_in_any_order_of_calls() {
        const BEFORE: Asset = Asset::new(b"page").hashed().encoded("gzip", b"a");
        const AFTER: Asset = Asset::new(b"page").encoded("gzip", b"a").hashed();
        assert_eq!(BEFORE, AFTER);
        let tags = [Asset::new(b"page").hashed(), AFTER, Asset::new(b"page").encoded("gzip", b"b").hashed()];
        assert!(tags[0].validators != tags[1].validators && tags[1].validators != tags[2].validators);
    }

    #[test]
    #[should_panic(expected = "three variants at most")]
    fn a_fourth_variant() {
        let three = Asset::new(b"").encoded("a", b"").encoded("b", b"").encoded("c", b"");
        let _ = three.encoded("d", b"");
    }

    #[test]
    fn an_exchange_is_small() {
        static ASSET: Asset = Asset::new(b"");
        fn size<F: Fn() -> &'static Asset>(_: F) -> (usize, usize) {
            (size_of::<AssetBody<F>>(), size_of::<AssetParts<F, 4>>())
        }
        assert_eq!(size(|| &ASSET), (7, 7 + 4 * 8 + 3));
    }
}
