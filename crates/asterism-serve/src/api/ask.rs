//! `POST /v1/contexts/{id}/ask`: questions about a context, answered together.

use super::answering::check_length;
use super::reply::{gather, revisited};
use crate::contexts::source_infos;
use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::{AskRequest, AskRequestSchema, Body, Timings, Usage, finish_reason};
use crate::work::{self, Job, Question, Source};
use asterism::engine::Context;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers one question about a context, or several.
#[utoipa::path(post, path = "/v1/contexts/{id}/ask", tag = "Contexts",
    params(("id" = String, Path,)), request_body = AskRequestSchema,
    responses((status = 200, description = "The answers"),
              (status = "4XX", description = "What is wrong with the request"),
              (status = "5XX", description = "The server failed, is busy, or is about to stop")))]
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> ApiResult<Json<Value>> {
    let request = AskRequest::take(Body::read(&body)?)?;
    let entry = app.contexts.get(&id)?;
    let place = app.gate.enter()?;
    let context = work::bring_soon(&app, &entry).await?;
    let job = job(&app, &context, &request)?;
    let sources = job.questions.iter().any(|question| question.generation.sources);
    let mut asked = work::ask(&app, place, job);
    let (encoded, answers) = gather(&mut asked).await?;
    if answers.len() != request.questions.len() {
        return Err(ApiError::internal("the work ended before all answers were there"));
    }
    let answer = |(question, (answer, _)): (&String, &(asterism::engine::AnswerText, _))| {
        let generated = &answer.generated;
        let sources = match sources {
            true => json!(source_infos(&encoded.context, &generated.sources)?),
            false => Value::Null,
        };
        Ok(json!({
            "question": question,
            "answer": answer.text,
            "finish_reason": finish_reason(generated.finish),
            "usage": Usage::of(encoded.cost, &[generated]),
            "timings": Timings::of(encoded.cost, generated),
            "sources": sources,
            "revisited": revisited(generated),
        }))
    };
    let answers =
        request.questions.iter().zip(&answers).map(answer).collect::<ApiResult<Vec<_>>>()?;
    Ok(Json(json!({"object": "answers", "context": entry.id, "answers": answers})))
}

fn job(app: &App, context: &Context, request: &AskRequest) -> ApiResult<Job> {
    let mut generation = request.answer.generation(&app.options.generation)?;
    generation.revisit = request.method.revisit()?;
    let frame = context.frame().ok_or_else(|| ApiError::internal("a context without a prompt"))?;
    let question = |question: &String| {
        let query = frame.query_tokens(app.engine.tokenizer(), question);
        let query = query.map_err(asterism::engine::EngineError::from)?;
        Ok(Question { query, generation: generation.clone() })
    };
    let questions = request.questions.iter().map(question).collect::<ApiResult<Vec<_>>>()?;
    let source = Source::Ready(context.clone());
    let longest = questions.iter().map(|question| question.query.len()).max();
    check_length(app, &source, longest.unwrap_or_default(), &generation)?;
    Ok(Job { source, questions, text: request.answer.text()? })
}
