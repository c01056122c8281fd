//! The listing of a folder as a page.

use core::fmt::{self, Display, Write};

use nix::dir::{Dir, Type};
use nix::errno::Errno;

use crate::tree::OpenFile;

/// The maximum number of entries of a listing.
pub const LISTING_MAX: usize = 4096;

/// Returns the page of a folder whose decoded path is `path`. Lists the names that can be requested, in order.
pub(crate) fn page(folder: &OpenFile, path: &[u8], hidden: bool) -> Result<String, Errno> {
    // The directory closes its own descriptor.
    let descriptor =
        folder.file.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let mut names = Vec::new();
    let mut more = false;
    for entry in Dir::from_fd(descriptor.into())?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let requestable = !matches!(name, b"." | b"..") && !name.contains(&b'\\');
        if !requestable || name.starts_with(b".") && !hidden {
            continue;
        }
        if names.len() == LISTING_MAX {
            more = true;
            break;
        }
        names.push((name.to_vec(), entry.file_type() == Some(Type::Directory)));
    }
    names.sort_unstable();
    let title = format!("/{}", String::from_utf8_lossy(path));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{0}</title>\n<h1>{0}</h1>\n<ul>\n",
        Escaped(&title)
    );
    if !path.is_empty() {
        page.push_str("<li><a href=\"../\">../</a>\n");
    }
    for (name, is_folder) in &names {
        let slash = if *is_folder { "/" } else { "" };
        let text = String::from_utf8_lossy(name);
        // A name with a colon would be taken for a scheme without the dot.
        let _ = writeln!(page, "<li><a href=\"./{}{slash}\">{}{slash}</a>", Encoded(name), Escaped(&text));
    }
    page.push_str("</ul>\n");
    if more {
        let _ = writeln!(page, "<p>There are more than {LISTING_MAX} entries.</p>");
    }
    Ok(page)
}

/// A text within HTML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            letter if letter.is_control() => f.write_str("\u{fffd}"),
            letter => f.write_char(letter),
        })
    }
}

/// A name as a segment of a path.
struct Encoded<'a>(&'a [u8]);

impl Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                f.write_char(char::from(*byte))
            }
            byte => write!(f, "%{byte:02X}"),
        })
    }
}
