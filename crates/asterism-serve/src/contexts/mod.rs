//! Contexts with a name: encoded once, asked by whoever knows the name, edited, and forgotten.

mod disk;
mod entry;
mod log;
mod places;
mod progress;
mod registry;

pub use disk::DiskError;
pub(crate) use disk::{Disk, Label, parse_label};
pub(crate) use entry::{Asked, Entry, Settings};
pub(crate) use log::Log;
pub(crate) use places::{block_text, cells, source_infos, span_of};
pub(crate) use progress::{document_infos, documents_of};
pub(crate) use registry::Registry;
