//! What requests and responses look like on the wire: OpenAI's fields, and ours beside them.

mod body;
mod contexts;
mod fields;
mod method;
mod requests;
mod responses;
mod schemas;

pub(crate) use body::Body;
pub(crate) use contexts::*;
pub(crate) use fields::sort_fields;
pub(crate) use method::{MethodFields, MethodInfo};
pub(crate) use requests::*;
pub(crate) use responses::*;
pub(crate) use schemas::*;
