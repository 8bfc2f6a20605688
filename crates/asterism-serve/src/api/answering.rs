//! What requests for answers have in common, from the job they ask for to the reply.

use super::reply::Reply;
use super::{reply, stream};
use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::work::{self, Job, Question, Source};
use asterism::engine::{EngineError, Generation};
use asterism::plan::{PlanError, PlanSpec};
use axum::response::Response;
use std::sync::Arc;

/// Does what `job` makes of a request, and tells it, as a stream or at once. It is made on a thread
/// that may take its time: texts are read there.
///
/// # Errors
/// What is wrong with the request, or what went wrong before the first word of the answer.
pub(super) async fn answer(
    app: Arc<App>,
    stream: bool,
    job: impl FnOnce(&App) -> ApiResult<(Job, Reply)> + Send + 'static,
) -> ApiResult<Response> {
    let place = app.gate.enter()?;
    let reader = Arc::clone(&app);
    let job = tokio::task::spawn_blocking(move || job(&reader)).await;
    let (job, reply) = job.map_err(|error| ApiError::internal(error.to_string()))??;
    let mut asked = work::ask(&app, place, job);
    asked.begin().await?;
    if stream {
        Ok(stream::respond(app, reply, asked))
    } else {
        reply::respond(app, reply, asked).await
    }
}

/// The same question as often as answers are wanted, each with a seed of its own.
pub(super) fn questions(query: &[u32], generation: &Generation, n: usize) -> Vec<Question> {
    let question = |index: u64| {
        let mut generation = generation.clone();
        generation.sampling.seed = generation.sampling.seed.wrapping_add(index);
        Question { query: query.to_vec(), generation }
    };
    (0..n as u64).map(question).collect()
}

/// The method with what this question has computed anew.
pub(super) fn with_revisit(spec: PlanSpec, generation: &Generation) -> PlanSpec {
    match (spec.method.as_star(), generation.revisit) {
        (Some(star), Some(revisit)) => PlanSpec { method: star.revisit(revisit).into(), ..spec },
        _ => spec,
    }
}

/// Refuses what the model has no positions for, before any work.
pub(super) fn check_length(
    app: &App,
    source: &Source,
    query: usize,
    generation: &Generation,
) -> ApiResult<()> {
    let context = match source {
        Source::Ready(context) => context.plan().end(),
        Source::Tokens(_, plan) => plan.end(),
        // Its documents are read first.
        Source::Documents(_) => return Ok(()),
    };
    let (answer, max_positions) = (generation.max_tokens, app.engine.config().max_positions);
    if context.saturating_add(query).saturating_add(answer) > max_positions {
        let error = EngineError::TooLong { context, query, answer, max_positions };
        return Err(error.into());
    }
    Ok(())
}

pub(super) fn bad_plan(error: PlanError) -> ApiError {
    EngineError::from(error).into()
}
