//! `POST /v1/chat/completions`: conversations with the model, or about a context.

use super::answering::{answer, bad_plan, check_length, questions, with_revisit};
use super::reply::{Kind, Reply};
use crate::contexts::Settings;
use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::{ChatRequest, ChatRequestSchema, MethodFields, ResponseFormat};
use crate::work::{self, Build, Job, Source};
use asterism::engine::{Constraint, Context};
use asterism::plan::{Plan, PlanSpec};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;

/// Answers a conversation.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "OpenAI",
    request_body = ChatRequestSchema,
    responses((status = 200, description = "A chat completion, or a stream of chunks"),
              (status = "4XX", description = "What is wrong with the request"),
              (status = "5XX", description = "The server failed, is busy, or is about to stop")),
)]
pub(crate) async fn chat(State(app): State<Arc<App>>, body: Bytes) -> ApiResult<Response> {
    let request = ChatRequest::read(&body)?;
    let stream = request.common.stream();
    answer(app, stream, move |app| job(app, &request)).await
}

/// What is to be done, and how it is told.
fn job(app: &App, request: &ChatRequest) -> ApiResult<(Job, Reply)> {
    let mut generation = request.answer.generation(&app.options.generation)?;
    generation.logprobs = request.logprobs;
    generation.constraint = constraint(app, request.chat.response_format.as_ref())?;
    generation.revisit = request.method.revisit()?;
    let default = app.options.spec;
    let (source, query, spec, context) = if app.is_model(request.model()) {
        let spec = request.method.spec(default)?;
        let prompt = app.engine.text().conversation(&request.messages)?;
        let plan = Plan::new(spec, prompt.context.len()).map_err(bad_plan)?;
        (Source::Tokens(prompt.context, plan), prompt.query, spec, None)
    } else {
        let entry =
            app.contexts.find(request.model()).ok_or_else(|| app.no_model(request.model()))?;
        let context = work::bring(app, &entry)?;
        let query = about(app, &context, &entry.settings, request)?;
        let spec = request.method.spec(entry.settings.spec)?;
        let source = of_context(context, &entry.settings, &request.method, spec);
        (source, query, spec, Some(entry.name()))
    };
    check_length(app, &source, query.len(), &generation)?;
    let questions = questions(&query, &generation, request.common.n());
    let job = Job { source, questions, text: request.answer.text()? };
    let reply = Reply {
        kind: Kind::Chat,
        id: crate::state::new_id("chatcmpl-"),
        model: match request.model() {
            "" => app.model_id().to_owned(),
            named => named.to_owned(),
        },
        created: crate::state::unix_now(),
        spec: with_revisit(spec, &generation),
        context,
        sources: generation.sources,
        logprobs: generation.logprobs.is_some(),
        answers: request.common.n(),
        progress: request.common.return_progress(),
        include_usage: request.common.include_usage(),
        ignored: request.ignored.clone(),
    };
    Ok((job, reply))
}

/// The tokens of a conversation about `context`.
fn about(
    app: &App,
    context: &Context,
    settings: &Settings,
    request: &ChatRequest,
) -> ApiResult<Vec<u32>> {
    let frame = context.frame().ok_or_else(|| ApiError::internal("a context without a prompt"))?;
    let system = settings.system.as_deref();
    Ok(app.engine.text().conversation_about(frame, system, &request.messages)?)
}

/// `context` as it is, or its documents encoded anew where the request wants another method.
fn of_context(
    context: Context,
    settings: &Settings,
    fields: &MethodFields,
    spec: PlanSpec,
) -> Source {
    let same = |spec: PlanSpec| match spec.method.as_star() {
        // What is computed anew is decided for each question.
        Some(star) => PlanSpec { method: star.revisit(Default::default()).into(), ..spec },
        None => spec,
    };
    if fields.is_empty() || same(spec) == same(settings.spec) {
        return Source::Ready(context);
    }
    let documents = crate::contexts::documents_of(&context);
    let settings = Settings { spec, ..settings.clone() };
    Source::Documents(Box::new(Build { documents, settings }))
}

fn constraint(
    app: &App,
    format: Option<&ResponseFormat>,
) -> ApiResult<Option<Arc<dyn Constraint>>> {
    match format {
        None | Some(ResponseFormat::Text) => Ok(None),
        Some(ResponseFormat::JsonObject) => app.grammars.json_object().map(Some),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            app.grammars.json_schema(&json_schema.schema).map(Some)
        }
    }
}
