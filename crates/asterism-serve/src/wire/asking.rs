//! Questions about contexts, and where in them answers come from.

use super::{AnswerFields, Body, MethodFields, OneOrMany};
use crate::error::{ApiError, ApiResult};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Questions to one context at a time at most.
const MOST_QUESTIONS: usize = 256;

/// What questions about a context have beside how they are answered.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct AskFields {
    /// Either this, or questions.
    question: Option<String>,
    /// All are answered together: the context's keys are read once for all of them.
    questions: Option<OneOrMany>,
    /// As in requests for contexts.
    revisit: Option<Value>,
}

/// `POST /v1/contexts/{id}/ask`.
#[derive(Debug, Clone)]
pub(crate) struct AskRequest {
    pub(crate) questions: Vec<String>,
    pub(crate) answer: AnswerFields,
    /// How many tokens of the context are computed anew for them.
    pub(crate) method: MethodFields,
}

impl AskRequest {
    pub(crate) fn take(mut body: Body) -> ApiResult<Self> {
        let fields = AskFields {
            question: body.take("question")?,
            questions: body.take("questions")?,
            revisit: body.take("revisit")?,
        };
        let answer = AnswerFields::take(&mut body)?;
        body.nothing_left()?;
        let questions = match (fields.question, fields.questions) {
            (Some(one), None) => vec![one],
            (None, Some(many)) => many.into_vec(),
            _ => return Err(ApiError::param("questions", "give either question or questions")),
        };
        if questions.is_empty() || questions.len() > MOST_QUESTIONS {
            let count = questions.len();
            let message = format!("{count} questions: give from 1 to {MOST_QUESTIONS}");
            return Err(ApiError::param("questions", message));
        }
        let method = MethodFields { revisit: fields.revisit, ..MethodFields::default() };
        Ok(Self { questions, answer, method })
    }
}

/// Where in a document a passage stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlaceInfo {
    pub(crate) document: String,
    /// Characters, from 0.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Lines, from 1.
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
    /// The first page of a PDF, from 1.
    pub(crate) page: Option<usize>,
    /// As a person would write it: `paper.pdf, page 12`, `src/main.rs:40-71`.
    pub(crate) cite: String,
}

/// A block that a question looked at.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SourceInfo {
    pub(crate) block: usize,
    /// Its share of the question's weight, less its share of that of a question that asks nothing.
    pub(crate) share: f32,
    /// The same of the words in the middle of the passage, by which sources are ordered.
    pub(crate) best_share: f32,
    pub(crate) passage: String,
    pub(crate) places: Vec<PlaceInfo>,
}
