//! Completions, with our fields beside OpenAI's.

use super::common::bounded;
use super::{AnswerFields, Body, CommonFields, MethodFields, OneOrMany, sort_fields};
use crate::error::{ApiError, ApiResult};
use utoipa::ToSchema;

/// What completions have beside what all requests have.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct CompletionFields {
    /// The model's id.
    model: Option<String>,
    /// The text to continue, as it is; or a list of one.
    prompt: OneOrMany,
    /// Likely tokens beside each chosen one, at most 20.
    #[schema(maximum = 20)]
    pub(crate) logprobs: Option<usize>,
}

/// `POST /v1/completions`.
#[derive(Debug, Clone)]
pub(crate) struct CompletionRequest {
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) answer: AnswerFields,
    pub(crate) method: MethodFields,
    pub(crate) common: CommonFields,
    pub(crate) logprobs: Option<usize>,
    pub(crate) ignored: Vec<String>,
}

impl CompletionRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn read(bytes: &[u8]) -> ApiResult<Self> {
        let mut body = Body::read(bytes)?;
        let fields = CompletionFields {
            model: body.take("model")?,
            prompt: body.need("prompt")?,
            logprobs: body.take("logprobs")?,
        };
        let mut prompts = fields.prompt.into_vec();
        let prompt = match (prompts.pop(), prompts.is_empty()) {
            (Some(prompt), true) => prompt,
            _ => return Err(ApiError::param("prompt", "prompt must be one text")),
        };
        Ok(Self {
            model: fields.model.unwrap_or_default(),
            prompt,
            answer: AnswerFields::take(&mut body)?,
            method: MethodFields::take(&mut body)?,
            common: CommonFields::take(&mut body)?,
            logprobs: bounded("logprobs", fields.logprobs)?,
            ignored: sort_fields(&body.rest())?,
        })
    }
}
