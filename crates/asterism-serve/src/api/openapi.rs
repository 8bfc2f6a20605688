//! What the server answers to, for programs and for agents.

use super::{ask, chat, completions, contexts, edits, models, status, tokens};
use crate::wire::{
    self, AnswerFields, ChatFields, ChatMessage, CommonFields, CompletionFields, MethodFields,
};
use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AllOfBuilder, Schema};
use utoipa::{OpenApi, PartialSchema, ToSchema};

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

/// Declares the schema of a request whose fields are those of several structs.
macro_rules! request {
    ($(#[doc = $doc:literal])* $name:ident = $($part:ty)|+) => {
        $(#[doc = $doc])*
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let all = AllOfBuilder::new()$(.item(<$part>::schema()))+;
                RefOr::T(Schema::AllOf(all.build()))
            }
        }

        impl ToSchema for $name {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(<$part as ToSchema>::schemas(schemas);)+
            }
        }
    };
}

request! {
    /// `POST /v1/chat/completions`
    ChatRequest = ChatFields | AnswerFields | MethodFields | CommonFields
}
request! {
    /// `POST /v1/completions`
    CompletionRequest = CompletionFields | AnswerFields | MethodFields | CommonFields
}
request! {
    /// `POST /v1/contexts`
    NewContext = wire::ContextFields | MethodFields
}
request! {
    /// `POST /v1/contexts/{id}/ask`
    AskRequest = wire::AskFields | AnswerFields
}
/// The description of this interface.
pub(crate) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}

/// The same in a page that an agent can read.
pub(crate) async fn llms() -> Response {
    let kind = "text/markdown; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], include_str!("llms.md")).into_response()
}
