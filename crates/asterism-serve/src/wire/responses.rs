//! What answers look like on the wire.

use asterism::engine::{Finish, Generated, Logprobs, Phase1};
use asterism::text::{TokenBytes, Tokenizer};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Tokens that a request took.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) total_tokens: usize,
    pub(crate) prompt_tokens_details: PromptDetails,
}

/// What was there already of a prompt, and what was encoded for later.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct PromptDetails {
    pub(crate) cached_tokens: usize,
    pub(crate) cache_write_tokens: usize,
}

/// Where the time of an answer went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Timings {
    /// Tokens of the prompt whose keys were there already.
    pub(crate) cache_n: usize,
    /// Tokens of the prompt that were computed.
    pub(crate) prompt_n: usize,
    pub(crate) prompt_ms: f64,
    pub(crate) prompt_per_second: f64,
    pub(crate) predicted_n: usize,
    pub(crate) predicted_ms: f64,
    pub(crate) predicted_per_second: f64,
}

/// What a context took, as far as an answer reports it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ContextCost {
    pub(crate) tokens: usize,
    pub(crate) cached: usize,
    /// Milliseconds.
    pub(crate) ms: f64,
}

impl ContextCost {
    /// Of a context that this request had encoded.
    pub(crate) fn of(phase1: &Phase1) -> Self {
        Self {
            tokens: phase1.tokens,
            cached: phase1.reused.iter().map(|span| span.len).sum(),
            ms: phase1.time.as_secs_f64() * 1e3,
        }
    }

    /// Of a context that was there before.
    pub(crate) fn cached(tokens: usize) -> Self {
        Self { tokens, cached: tokens, ms: 0.0 }
    }
}

impl Usage {
    /// Of `answers` to one question about a context.
    pub(crate) fn of(context: ContextCost, answers: &[&Generated]) -> Self {
        let query = answers.first().map_or(0, |answer| answer.query_tokens);
        let completion_tokens = answers.iter().map(|answer| answer.tokens.len()).sum();
        let prompt_tokens = context.tokens + query;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails {
                cached_tokens: context.cached,
                cache_write_tokens: context.tokens - context.cached,
            },
        }
    }
}

impl Timings {
    /// Of an answer, whose context took `context`.
    pub(crate) fn of(context: ContextCost, answer: &Generated) -> Self {
        let rate = |tokens: usize, ms: f64| if ms > 0.0 { tokens as f64 / ms * 1e3 } else { 0.0 };
        let prompt_n = context.tokens - context.cached + answer.query_tokens;
        let prompt_ms = context.ms + answer.query_time.as_secs_f64() * 1e3;
        let (predicted_n, predicted_ms) =
            (answer.tokens.len(), answer.decode_time.as_secs_f64() * 1e3);
        Self {
            cache_n: context.cached,
            prompt_n,
            prompt_ms,
            prompt_per_second: rate(prompt_n, prompt_ms),
            predicted_n,
            predicted_ms,
            predicted_per_second: rate(predicted_n.saturating_sub(1), predicted_ms),
        }
    }
}

/// OpenAI's word for why an answer ended.
pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Eos | Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// A token of an answer and how likely it was, as chats have it.
pub(crate) fn chat_logprob(tokenizer: &Tokenizer, token: u32, logprobs: &Logprobs) -> Value {
    let mut entry = spelled(tokenizer, token, logprobs.chosen);
    let top = logprobs.top.iter().map(|(token, logprob)| spelled(tokenizer, *token, *logprob));
    entry["top_logprobs"] = top.collect();
    entry
}

fn spelled(tokenizer: &Tokenizer, token: u32, logprob: f32) -> Value {
    let (text, bytes) = token_text(tokenizer, token);
    json!({ "token": text, "bytes": bytes, "logprob": logprob })
}

/// A token's text, with a sign for bytes that are a part of a character, and its bytes.
pub(crate) fn token_text(tokenizer: &Tokenizer, token: u32) -> (String, Vec<u8>) {
    match tokenizer.token_bytes(token) {
        Some(TokenBytes::Text(bytes)) => (String::from_utf8_lossy(&bytes).into_owned(), bytes),
        Some(TokenBytes::Special(name)) => (name.clone(), name.into_bytes()),
        None => (String::new(), Vec::new()),
    }
}
