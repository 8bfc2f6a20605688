//! Encoded contexts on disk: a folder for each, whose files other programs can read.
//!
//! * `context.json`: what the context is: its tokens, its plan, its documents, the model that
//!   encoded it. It is written last: a folder without it holds no context.
//! * `host-0.safetensors`, `host-1.safetensors`, …: the keys and values of the blocks on each host,
//!   with what they were computed from and a checksum of every layer. A host reads and writes its
//!   own file only; where hosts are processes on several machines, it is on its machine.
//!
//! No byte of a file is believed: a plan must be one that can be made, and the header of a host's
//! file must be, byte for byte, the one that this context has.

mod error;
#[doc(hidden)]
pub mod fuzzing;
mod host_file;
mod layout;
mod manifest;

pub use error::SavedError;
pub(crate) use host_file::{Reader, Writer};
pub(crate) use layout::{Layout, StoredBlock};
pub(crate) use manifest::{Manifest, SavedBy, SavedDocuments};
