//! What the server answers to, for programs and for agents.

use super::{ask, chat, completions, contexts, documents, edits, models, status, tokens};
use crate::wire::ChatMessage;
use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "asterism",
        description = "Questions about very long texts, with Star Attention: OpenAI's API, contexts \
                       by name, and what both cost.",
    ),
    paths(
        chat::chat,
        completions::completions,
        models::list,
        models::get,
        tokens::tokenize,
        tokens::detokenize,
        tokens::input_tokens,
        contexts::create,
        contexts::list,
        contexts::get,
        contexts::change,
        contexts::delete,
        contexts::events,
        contexts::block,
        documents::read,
        edits::get,
        edits::put,
        edits::delete,
        ask::ask,
        status::status,
        status::metrics,
        status::live,
        status::ready,
    ),
    components(schemas(ChatMessage))
)]
struct Api;

/// The description of this interface.
pub(crate) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}

/// The same in a page that an agent can read.
pub(crate) async fn llms() -> Response {
    let kind = "text/markdown; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], include_str!("llms.md")).into_response()
}
