//! Content that is part of the program: its type, validators and precompressed variants, sent whole or in ranges.

use crate::exchange::{Done, Exchange, Flow};
use crate::parse::chunked::Count;
use crate::parse::head::Head;
use crate::parse::words::{is_token, trim};
use crate::request::{Request, State};
use crate::status::Status;
use crate::transfer::Transfer;

use super::representation::{Representation, Selection};
use super::response::{Reply, Response};
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

    /// Returns the bytes of a variant; 0 is the unchanged asset.
    fn variant(&self, index: u8) -> &'static [u8] {
        let variant = usize::from(index).checked_sub(1).and_then(|at| *self.variants.get(at)?);
        variant.map_or(self.bytes, |variant| variant.bytes)
    }

    /// Returns what is known of a variant.
    fn representation(&self, variant: u8) -> Representation<'static> {
        let coding = usize::from(variant).checked_sub(1).and_then(|at| *self.variants.get(at)?);
        let length = self.variant(variant).len() as u64;
        let whole = Representation::new(self.content_type, length).validators(self.validators);
        coding.map_or(whole, |Variant { coding, .. }| whole.encoded(coding))
    }

    /// Chooses the variant to respond with, and returns it with the response.
    fn choose<'r>(
        &self,
        head: &Head<'_>,
        mut response: Response<'r>,
    ) -> Result<(Response<'r>, u8), Reply<Done>> {
        if self.variants == [None; Self::VARIANTS_MAX] {
            return Ok((response, 0));
        }
        response = response.header("Vary", "Accept-Encoding");
        match choose(head, self.variants.iter().flatten().map(|variant| variant.coding)) {
            Some(chosen) => Ok((response, chosen)),
            None => Err(response.refuse(Status::NOT_ACCEPTABLE)),
        }
    }
}

impl Head<'_> {
    /// Returns the content coding among `available` that the client prefers by its `Accept-Encoding` (RFC 9110,
    /// 12.5.3), or `identity`. At equal preference a coding is better than `identity`, and an earlier one than a later.
    /// `None` if the client accepts not even `identity`.
    ///
    /// ```
    /// use lightcone_http::{Limits, Parse, parse};
    /// let request = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, deflate\r\n\r\n";
    /// let Parse::Complete(head) = parse(request, &Limits::DEFAULT) else { panic!() };
    /// assert_eq!(head.preferred_coding(&["br", "gzip"]), Some("gzip"));
    /// assert_eq!(head.preferred_coding(&["br"]), Some("identity"));
    /// ```
    pub fn preferred_coding<'c>(&self, available: &[&'c str]) -> Option<&'c str> {
        let chosen = choose(self, available.iter().copied())?;
        let coding = usize::from(chosen).checked_sub(1).and_then(|at| available.get(at));
        Some(coding.copied().unwrap_or("identity"))
    }
}

/// Chooses the variant that the client prefers: 0 for the unchanged asset, `None` if none is acceptable.
fn choose<'c>(head: &Head<'_>, codings: impl Iterator<Item = &'c str>) -> Option<u8> {
    let identity = quality(head, "identity");
    let mut best = (identity.unwrap_or(0), 0);
    for (index, coding) in (1..).zip(codings) {
        let quality = quality(head, coding).unwrap_or(0);
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
        match asset().choose(self.head, response) {
            Ok((response, variant)) => {
                let representation = asset().representation(variant);
                representation.respond::<1, _>(self.head, response, |Selection { at, .. }| AssetBody {
                    asset,
                    at,
                    variant,
                })
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
        match asset().choose(self.head, response) {
            Ok((response, variant)) => {
                let representation = asset().representation(variant);
                representation.respond(self.head, response, |selection| AssetParts {
                    asset,
                    variant,
                    selection,
                })
            }
            Err(reply) => reply.into_any(),
        }
    }
}

/// An asset, or one range of it, that is being sent: see [`Request::asset`].
#[derive(Clone, Copy, Debug)]
pub struct AssetBody<F> {
    asset: F,
    at: Count,
    variant: u8,
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

/// An asset, or ranges of it, that is being sent: see [`Request::asset_parts`].
#[derive(Clone, Copy, Debug)]
pub struct AssetParts<F, const N: usize> {
    asset: F,
    variant: u8,
    selection: Selection<N>,
}

impl<S: State, F: Fn() -> &'static Asset, const N: usize> Exchange<S> for AssetParts<F, N> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let asset = (self.asset)();
        let bytes = asset.variant(self.variant);
        self.selection.advance(&asset.representation(self.variant), io, |io, offset, most| {
            let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
            let piece = rest.get(..most).unwrap_or(rest);
            // Without a rest, the closure has returned another, shorter asset: the response is cut.
            (!piece.is_empty()).then(|| io.write(piece))
        })
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
            assert_eq!(choose(&head, ["br", "gzip"].into_iter()), expected, "{line}");
            let coding = expected.map(|index| ["identity", "br", "gzip"][usize::from(index)]);
            assert_eq!(head.preferred_coding(&["br", "gzip"]), coding, "{line}");
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
