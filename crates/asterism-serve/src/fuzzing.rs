//! What is done with foreign bytes, for fuzz targets: no part of the interface.

use crate::contexts::parse_label;
use crate::grammar;
use crate::wire::{AskRequest, Body, ChatRequest, CompletionRequest, ContextChange, NewContext};
use serde_json::Value;

/// Which request.
#[derive(Debug, Clone, Copy)]
pub enum Request {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completion,
    /// `POST /v1/contexts`
    Context,
    /// `PATCH /v1/contexts/{id}`
    Change,
    /// `POST /v1/contexts/{id}/ask`
    Ask,
}

/// Reads the body of a request.
///
/// # Errors
/// What the client would get.
pub fn read(request: Request, body: &[u8]) -> Result<(), Value> {
    let read = match request {
        Request::Chat => ChatRequest::read(body).map(drop),
        Request::Completion => CompletionRequest::read(body).map(drop),
        Request::Context => {
            Body::read(body).and_then(|body| NewContext::take(body, Vec::new())).map(drop)
        }
        Request::Change => Body::read(body).and_then(ContextChange::take).map(drop),
        Request::Ask => Body::read(body).and_then(AskRequest::take).map(drop),
    };
    read.map_err(|error| error.body())
}

/// Reads the label of a context on disk: its id.
///
/// # Errors
/// What is wrong with it.
pub fn read_label(bytes: &[u8]) -> Result<String, String> {
    parse_label(bytes).map(|label| label.id)
}

/// Follows `schema` for up to `tokens` tokens; what is wrong with it is dropped.
pub fn follow_schema(schema: &Value, tokens: usize) {
    let _ = grammar::follow(schema, tokens);
}
