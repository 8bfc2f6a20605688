//! Contexts with a name: encoded once, asked by whoever knows the name, edited, and forgotten.

mod entry;
mod log;
mod places;
mod registry;

pub(crate) use entry::{Entry, Settings, document_infos, documents_of};
pub(crate) use log::Log;
pub(crate) use places::{block_text, cells, source_infos, span_of};
pub(crate) use registry::Registry;
