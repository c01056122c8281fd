//! The files of a folder as routes of lightcone's HTTP server. `lightcone` re-exports this crate as
//! `lightcone::files`, by its feature `files`.
//!
//! ```no_run
//! use lightcone::Builder;
//! use lightcone::http::Http;
//! use lightcone_files::Files;
//!
//! let files = Files::new("public")?.cache_control("max-age=3600");
//! let engine = Builder::new().start(move |_poller| {
//!     Http::new().get("/hello", |_request, response| response.text("hello")).nest("/static", files.routes())
//! })?;
//! engine.listen("127.0.0.1:8080")?;
//! engine.join();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is served
//!
//! | Path requested | Response |
//! | --- | --- |
//! | a regular file | 200, 206, 304, 412 or 416, as for an [`Asset`](lightcone_http::Asset), with up to [`PARTS`] ranges |
//! | a folder, without a slash at the end | 301 to the path with a slash |
//! | a folder | its `index.html`, otherwise a [listing](Files::listing) if that is allowed, otherwise 404 |
//! | anything else: a device, a pipe, a socket | 404 |
//! | what the process may not read | 403 |
//! | with an escape that is malformed | 400 |
//! | with an escape of an ASCII letter or digit, which no client makes | 404 |
//! | with a segment that is empty, `.`, `..`, starts with a dot, or contains `/`, `\` or NUL after decoding | 404 |
//!
//! Escapes are decoded once. A segment that starts with a dot is served if that is [allowed](Files::hidden), except for
//! `.` and `..`. A method other than `GET` and `HEAD` is refused with 405.
//!
//! A relative symbolic link is followed if it stays in the folder all the way, even to a hidden file. An absolute link,
//! or one that leaves the folder on its way, gets a 404. The folder is opened once, so it may be renamed. On Linux, the
//! kernel resolves paths (`openat2` with `RESOLVE_BENEATH`, since 5.6); elsewhere each segment is opened without
//! following links, and links are read and resolved from the folder on.
//!
//! # Protected files
//!
//! Do not protect a part of the folder by a route beside [`Files::routes`]: routes compare paths as received, while the
//! names of files are decoded. Beside a route `/my-files/{*path}`, these requests reach the files of the folder:
//!
//! - `/my%2Dfiles/a`, since the route does not decode its path. (`/%6Dy-files/a` is refused, as in the table above.)
//! - `/my-files/`, since `{*path}` does not match an empty rest.
//!
//! Serve protected files from a folder of their own, which is not below this one, or decide in a handler that calls
//! [`Files::serve`].
//!
//! # Validators
//!
//! A file has an entity tag, made of its size, its time of change and its inode, and a date. The tag is strong once the
//! last change is two seconds old: any later change then gets a different time, since no file system keeps coarser
//! times. A file that is overwritten in place while it is sent arrives as a mixture under the old tag. Within two
//! seconds of a change, the file may change again without a trace, so the tag is weak and there is no date (RFC 9110,
//! 8.8.1 and 8.8.2.2); an interrupted download then starts again from the beginning. A program that changes bytes in
//! place and sets the time back deceives clients: replace files by renaming.
//!
//! # Disks
//!
//! A poller must not wait for a disk. On Linux, a poller opens a file whose path is in the kernel's caches
//! (`RESOLVE_CACHED`, since 5.12) and reads what is in memory (`RWF_NOWAIT`). The rest is done by a few threads: they
//! open the file, or read up to 64 KiB into a buffer, which is sent before the next read. So a client that reads slowly
//! holds its output in the socket and one buffer of at most 64 KiB, or the page of a listing. Where the system or the
//! file system does not know what is in memory, the threads do everything.
//!
//! A folder on a network file system, or on one in user space (FUSE), can still make a poller wait: its paths may be in
//! the kernel's caches, but the file system may ask its server when the file is opened and its length is queried.
//!
//! A poller reads a file one block of output at a time, so a server of large files should have larger blocks than the
//! default of 4 KiB (`Builder::block_size`): sending a file of 1 MiB takes a third less processor time with blocks of
//! 32 KiB.
//!
//! A file that gets shorter while it is sent ends the connection, since the announced length cannot be kept. Of one
//! that grows, the announced length is sent.
//!
//! # Limits
//!
//! | what | maximum | at the maximum |
//! | --- | --- | --- |
//! | open files | [`FileLimits::open`] | 503 |
//! | threads | [`FileLimits::threads`] | tasks wait |
//! | tasks that wait for a thread | [`FileLimits::waiting`] | 503; a response that has begun tries again, after up to 100 ms |
//! | buffers of 64 KiB | one for each open file | |
//! | pages of listings, each of less than 10 MB | one for each open folder; these count as open files | 503 |
//! | entries of a listing | [`LISTING_MAX`] | the listing says that there are more |
//! | location of a redirect | 1024 bytes | 414 |
//! | links on the way to a file | 40 | 404 |
//!
//! The limits are those of a [`Files`] and its clones together. The threads end when the last clone is dropped.

#![forbid(unsafe_code)]

extern crate alloc;

mod body;
mod files;
mod listing;
mod locate;
mod media;
mod target;
#[cfg(test)]
mod tests;
mod threads;
mod tree;

pub use body::{FileBody, PARTS};
pub use files::{FileLimits, Files, FilesError};
pub use listing::LISTING_MAX;
