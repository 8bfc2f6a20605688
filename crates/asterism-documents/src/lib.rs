//! Files and folders as texts with places.
//!
//! [`list`] finds the files of paths, [`Reader`] makes [`Document`]s of them: plain text in any
//! encoding, pages of the web, books, files of Word, PDFs. A document keeps, for every piece of its
//! text, where it stands: "page 12", "lines 40-71". What cannot be read is a [`ReadError`] that
//! names the file, and what a folder has beside says why it was [`Skipped`].
//!
//! Formats other than plain text are parsed by a process of their own ([`Child`]), whose memory and
//! time are limited: a program that reads them calls [`read_for_parent`] when it is started for
//! that.
//!
//! ```no_run
//! use asterism_documents::{Child, Reader, Selection, list};
//!
//! // In `main`, before anything else:
//! if std::env::args().nth(1).as_deref() == Some("read-a-file") {
//!     return asterism_documents::read_for_parent();
//! }
//! let reader = Reader::new(Child::this_program(["read-a-file"]));
//! let listing = list(&["paper.pdf".into(), "src".into()], &Selection::default()).unwrap();
//! for source in &listing.sources {
//!     match reader.file(source) {
//!         Ok(document) => println!("{}: {} characters", document.name, document.text.len()),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod child;
mod document;
mod encoding;
mod error;
mod folder;
mod foreign;
mod kind;
mod place;
mod reader;

pub use child::{Child, read_for_parent};
pub use document::Document;
pub use encoding::{Encoding, Wanted};
pub use error::ReadError;
pub use folder::{Reason, Selection, Skipped};
pub use foreign::{Limits, ParseError, Parsed, parse};
pub use kind::Kind;
pub use place::{Piece, Place, cite, pieces, places};
pub use reader::{Listing, Reader, Source, list};
