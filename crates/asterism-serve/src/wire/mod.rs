//! What requests and responses look like on the wire: OpenAI's fields, and ours beside them.

mod answer;
mod asking;
mod body;
mod chat;
mod common;
mod completions;
mod context_info;
mod contexts;
mod documents;
mod fields;
mod method;
mod responses;
mod schemas;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use answer::*;
pub(crate) use asking::*;
pub(crate) use body::Body;
pub(crate) use chat::*;
pub(crate) use common::*;
pub(crate) use completions::*;
pub(crate) use context_info::*;
pub(crate) use contexts::*;
pub(crate) use documents::*;
pub(crate) use fields::sort_fields;
pub(crate) use method::{MethodFields, MethodInfo};
pub(crate) use responses::*;
pub(crate) use schemas::*;
pub(crate) use tokens::*;
