//! Texts as tokens and back, and how many tokens a conversation has before it is sent.

use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::{Body, ChatRequest, ChatRequestSchema, DetokenizeFields, TokenizeFields};
use crate::work::bring;
use asterism::engine::EngineError;
use asterism::text::Special;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

/// The tokens of `{"content"}`.
#[utoipa::path(post, path = "/tokenize", tag = "Tokens", request_body = TokenizeFields,
    responses((status = 200, description = "Tokens"), (status = "4XX", description = "Refused")))]
pub(crate) async fn tokenize(State(app): State<Arc<App>>, body: Bytes) -> ApiResult<Json<Value>> {
    let TokenizeFields { content, parse_special } = Body::whole(&body)?;
    let special = match parse_special {
        Some(true) => Special::Parse,
        Some(false) | None => Special::AsText,
    };
    let encode = move || app.engine.tokenizer().encode(&content, special);
    let tokens = tokio::task::spawn_blocking(encode).await;
    let tokens = tokens.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(Json(json!({"tokens": tokens.map_err(EngineError::from)?})))
}

/// The text of `{"tokens"}`.
#[utoipa::path(post, path = "/detokenize", tag = "Tokens",
    request_body = DetokenizeFields,
    responses((status = 200, description = "Text"), (status = "4XX", description = "Refused")))]
pub(crate) async fn detokenize(State(app): State<Arc<App>>, body: Bytes) -> ApiResult<Json<Value>> {
    let DetokenizeFields { tokens } = Body::whole(&body)?;
    let content = app.engine.tokenizer().decode(&tokens, false);
    let content = content.map_err(|error| ApiError::param("tokens", error.to_string()))?;
    Ok(Json(json!({"content": content})))
}

/// How many tokens a chat completion's prompt has, and whether it fits.
#[utoipa::path(post, path = "/v1/chat/completions/input_tokens", tag = "Tokens",
    request_body = ChatRequestSchema,
    responses((status = 200, description = "Tokens"), (status = "4XX", description = "Refused")))]
pub(crate) async fn input_tokens(
    State(app): State<Arc<App>>,
    body: Bytes,
) -> ApiResult<Json<Value>> {
    let request = ChatRequest::read(&body)?;
    let max_positions = app.engine.config().max_positions;
    let count = tokio::task::spawn_blocking(move || -> ApiResult<usize> {
        let text = app.engine.text();
        if app.is_model(request.model()) {
            let prompt = text.conversation(&request.messages)?;
            return Ok(prompt.context.len() + prompt.query.len());
        }
        let entry = app.contexts.find(request.model());
        let entry = entry.ok_or_else(|| app.no_model(request.model()))?;
        let context = bring(&app, &entry)?;
        let frame = context.frame().ok_or_else(|| ApiError::internal("no prompt"))?;
        let system = entry.settings.system.as_deref();
        let query = text.conversation_about(frame, system, &request.messages)?;
        Ok(context.tokens().len() + query.len())
    });
    let tokens = count.await.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok(Json(json!({
        "object": "response.input_tokens",
        "input_tokens": tokens,
        "max_positions": max_positions,
        "fits": tokens < max_positions,
    })))
}
