//! What all requests of OpenAI's API have beside the answer's settings.

use super::Body;
use crate::error::{ApiError, ApiResult};
use serde::Deserialize;
use utoipa::ToSchema;

/// Answers to one request at most.
const MOST_ANSWERS: usize = 32;
/// Likely tokens beside each chosen one at most: OpenAI's bound.
const MOST_LOGPROBS: usize = 20;

/// How a stream is to look.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// One more chunk, without choices, with the usage.
    #[serde(default)]
    pub(crate) include_usage: bool,
}

/// What both kinds of requests have.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
pub(crate) struct CommonFields {
    /// Send the answer in pieces, as server-sent events.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Answers, from as many seeds; at most 32.
    #[schema(minimum = 1, maximum = 32)]
    n: Option<usize>,
    /// Chunks that say how far the context is encoded.
    return_progress: Option<bool>,
}

impl CommonFields {
    pub(super) fn take(body: &mut Body) -> ApiResult<Self> {
        let fields = Self {
            stream: body.take("stream")?,
            stream_options: body.take("stream_options")?,
            n: body.take("n")?,
            return_progress: body.take("return_progress")?,
        };
        let n = fields.n();
        if !(1..=MOST_ANSWERS).contains(&n) {
            let message = format!("n is {n}: it must be from 1 to {MOST_ANSWERS}");
            return Err(ApiError::param("n", message));
        }
        Ok(fields)
    }

    pub(crate) fn stream(self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with the usage.
    pub(crate) fn include_usage(self) -> bool {
        self.stream_options.unwrap_or_default().include_usage
    }

    pub(crate) fn n(self) -> usize {
        self.n.unwrap_or(1)
    }

    pub(crate) fn return_progress(self) -> bool {
        self.return_progress.unwrap_or(false)
    }
}

/// As many likely tokens as the field `name` asks for, if these are not too many.
pub(super) fn bounded(name: &str, logprobs: Option<usize>) -> ApiResult<Option<usize>> {
    match logprobs {
        Some(count) if count > MOST_LOGPROBS => {
            let message = format!("{name} is {count}: it must be at most {MOST_LOGPROBS}");
            Err(ApiError::param(name, message))
        }
        logprobs => Ok(logprobs),
    }
}
