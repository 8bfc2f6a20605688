//! `POST /v1/completions`: a text, continued as it is.

use super::answering::{answer, bad_plan, check_length, questions, with_revisit};
use super::reply::{Kind, Reply};
use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::{CompletionRequest, CompletionRequestSchema};
use crate::work::{Job, Source};
use asterism::plan::Plan;
use asterism::text::Special;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;

/// Tokens of a prompt that every host attends from: the rest is the context.
const QUERY: usize = 64;

/// Continues a text.
#[utoipa::path(
    post, path = "/v1/completions", tag = "OpenAI",
    request_body = CompletionRequestSchema,
    responses((status = 200, description = "A text completion, or a stream of chunks"),
              (status = "4XX", description = "What is wrong with the request"),
              (status = "5XX", description = "The server failed, is busy, or is about to stop")),
)]
pub(crate) async fn completions(State(app): State<Arc<App>>, body: Bytes) -> ApiResult<Response> {
    let request = CompletionRequest::read(&body)?;
    let stream = request.common.stream();
    answer(app, stream, move |app| job(app, &request)).await
}

fn job(app: &App, request: &CompletionRequest) -> ApiResult<(Job, Reply)> {
    if !app.is_model(&request.model) {
        return Err(match app.contexts.find(&request.model) {
            Some(_) => ApiError::param(
                "model",
                "a context is asked questions: send them to /v1/chat/completions",
            ),
            None => app.no_model(&request.model),
        });
    }
    let mut generation = request.answer.generation(&app.options.generation)?;
    generation.logprobs = request.logprobs;
    generation.revisit = request.method.revisit()?;
    let spec = request.method.spec(app.options.spec)?;
    // Text as it is, special tokens included: what a prompt of this kind is for.
    let tokens = app.engine.tokenizer().encode(&request.prompt, Special::Parse);
    let mut tokens = tokens.map_err(asterism::engine::EngineError::from)?;
    let frame = app.engine.frame(None)?;
    if app.engine.template().is_none() && !frame.head().is_empty() {
        let head = app.engine.tokenizer().encode(frame.head(), Special::Parse);
        let head = head.map_err(asterism::engine::EngineError::from)?;
        if !tokens.starts_with(&head) {
            tokens.splice(0..0, head);
        }
    }
    if tokens.len() < 2 {
        let message = format!("the prompt has {} tokens: it must have at least 2", tokens.len());
        return Err(ApiError::param("prompt", message));
    }
    let query = tokens.split_off(tokens.len().saturating_sub(QUERY).max(1));
    let plan = Plan::new(spec, tokens.len()).map_err(bad_plan)?;
    let source = Source::Tokens(tokens, plan);
    check_length(app, &source, query.len(), &generation)?;
    let questions = questions(&query, &generation, request.common.n());
    let job = Job { source, questions, text: request.answer.text()? };
    let reply = Reply {
        kind: Kind::Completion,
        id: crate::state::new_id("cmpl-"),
        model: app.model_id().to_owned(),
        created: crate::state::unix_now(),
        spec: with_revisit(spec, &generation),
        context: None,
        sources: generation.sources,
        logprobs: generation.logprobs.is_some(),
        answers: request.common.n(),
        progress: request.common.return_progress(),
        include_usage: request.common.include_usage(),
        ignored: request.ignored.clone(),
    };
    Ok((job, reply))
}
