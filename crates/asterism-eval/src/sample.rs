//! One question of a benchmark, in the reference's record layout.

use super::EvalError;

/// One question: what phase 1 encodes, what phase 2 asks, and the answers that count.
///
/// Serialized it is one line of the reference's `validation.jsonl`, with whatever else is known of
/// the sample beside the five fields the reference has.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// Position in its set, from 0.
    pub index: usize,
    /// The text phase 1 encodes: head of the chat template, then the task's context.
    pub input_context: String,
    /// The text phase 2 encodes: the question, tail of the chat template, start of the answer.
    pub input_query: String,
    /// The accepted answers; what they mean together is the metric's business.
    pub outputs: Vec<String>,
    /// Tokens of context and query and tokens to generate, together.
    pub length: usize,
    /// What else is known, such as `"depths"`: where the needles lie, 0 at the start and 1 at the
    /// end.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Sample {
    /// The sample, if its answers are some: an empty one is part of every text, and would be right
    /// whatever a model says.
    pub(crate) fn with_answers(self) -> Result<Self, String> {
        match self.outputs.iter().any(|output| output.trim().is_empty()) || self.outputs.is_empty()
        {
            true => Err("an answer to compare with is empty, or there is none".to_owned()),
            false => Ok(self),
        }
    }
}

/// Something that says how many tokens a text is: a model's tokenizer, without special tokens
/// added.
///
/// Chat markers written in the text count as the special tokens they are.
pub trait CountTokens: Sync {
    /// The number of tokens of `text`.
    ///
    /// # Errors
    ///
    /// What the tokenizer reports.
    fn count(&self, text: &str) -> Result<usize, EvalError>;
}
