//! The work behind a request, on a thread that may wait: a context is encoded, its question
//! answered, and what happens told as it happens.
//!
//! Dropping what listens cancels the work, within one slice: a client that goes away frees what it
//! took.

mod bring;
mod documents;
mod encode;
mod keep;
mod question;

pub(crate) use bring::{bring, bring_soon};
pub(crate) use documents::{read_documents, read_file};
pub(crate) use encode::{Build, encode_entry, prepare};
pub(crate) use keep::put_label;
pub(crate) use question::{Asked, Encoded, Event, Job, Question, Source, ask};
