//! Media types by suffix.

use alloc::borrow::Cow;

/// The type of a file whose suffix is not in the table.
const UNKNOWN: &str = "application/octet-stream";

/// Suffixes and their types. Those of text have a charset, since browsers guess one otherwise.
const TYPES: &[(&str, &str)] = &[
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avif", "image/avif"),
    ("bin", UNKNOWN),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("m4a", "audio/mp4"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "application/xml"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// Returns the type of the file at `path`: that of `own`, pairs of suffix and type, before that of the table.
pub(crate) fn media_type(path: &[u8], own: &[(String, String)]) -> Cow<'static, str> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(&[]);
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return Cow::Borrowed(UNKNOWN) };
    let suffix = name.get(dot + 1..).unwrap_or(&[]);
    if let Some((_, own)) = own.iter().rfind(|(other, _)| suffix.eq_ignore_ascii_case(other.as_bytes())) {
        return Cow::Owned(own.clone());
    }
    let found = TYPES.iter().find(|(other, _)| suffix.eq_ignore_ascii_case(other.as_bytes()));
    Cow::Borrowed(found.map_or(UNKNOWN, |(_, media_type)| media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_suffix() {
        let own = [("txt".to_owned(), "text/x-own".to_owned()), ("log".to_owned(), "text/plain".to_owned())];
        let table = [
            ("index.html", "text/html; charset=utf-8"),
            ("INDEX.HTML", "text/html; charset=utf-8"),
            ("a.b/c.tar.gz", "application/gzip"),
            ("a.css/c", UNKNOWN),
            ("plain", UNKNOWN),
            ("dot.", UNKNOWN),
            ("a.html~", UNKNOWN),
            ("a.txt", "text/x-own"),
            ("a.LOG", "text/plain"),
        ];
        for (path, expected) in table {
            assert_eq!(media_type(path.as_bytes(), &own), expected, "{path}");
        }
    }

    #[test]
    fn text_has_a_charset_and_the_table_is_in_order() {
        for (suffix, media_type) in TYPES {
            assert_eq!(media_type.starts_with("text/"), media_type.ends_with("; charset=utf-8"), "{suffix}");
        }
        assert!(TYPES.is_sorted_by(|(one, _), (other, _)| one < other));
    }
}
