//! How answers are to be generated, whoever asks for them.

use super::Body;
use crate::error::{ApiError, ApiResult};
use asterism::engine::{Generation, TextOptions};
use serde::Deserialize;
use utoipa::ToSchema;

/// Stop strings at most.
const MOST_STOPS: usize = 16;

/// One text, or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// How an answer is to be generated; the server's own settings where a field is missing.
#[derive(Debug, Clone, Default, ToSchema)]
pub(crate) struct AnswerFields {
    /// Tokens of the answer at most.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// Its newer name.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<usize>,
    /// 0 always takes the likeliest token.
    #[schema(minimum = 0)]
    temperature: Option<f32>,
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    /// 0 for all.
    top_k: Option<usize>,
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f32>,
    #[schema(exclusive_minimum = 0)]
    repetition_penalty: Option<f32>,
    /// The same seed and settings give the same answer, whoever else asks.
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    /// Say which blocks of the context the question looked at.
    sources: Option<bool>,
}

impl AnswerFields {
    pub(crate) fn take(body: &mut Body) -> ApiResult<Self> {
        let fields = Self {
            max_tokens: body.take("max_tokens")?,
            max_completion_tokens: body.take("max_completion_tokens")?,
            temperature: body.take("temperature")?,
            top_p: body.take("top_p")?,
            top_k: body.take("top_k")?,
            min_p: body.take("min_p")?,
            repetition_penalty: body.take("repetition_penalty")?,
            seed: body.take("seed")?,
            stop: body.take("stop")?,
            sources: body.take("sources")?,
        };
        if let (Some(older), Some(newer)) = (fields.max_tokens, fields.max_completion_tokens)
            && newer != older
        {
            let message = format!(
                "max_tokens is {older} and max_completion_tokens, its newer name, is {newer}: give one"
            );
            return Err(ApiError::param("max_tokens", message));
        }
        Ok(fields)
    }

    /// How the answer is generated, where `default` fills in what was not said.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub(crate) fn generation(&self, default: &Generation) -> ApiResult<Generation> {
        let mut generation = default.clone();
        let sampling = &mut generation.sampling;
        sampling.temperature = self.temperature.unwrap_or(sampling.temperature);
        sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.min_p = self.min_p.unwrap_or(sampling.min_p);
        sampling.repetition_penalty =
            self.repetition_penalty.unwrap_or(sampling.repetition_penalty);
        // Clients send -1 for any; it is a seed like others here.
        sampling.seed = self.seed.map_or(sampling.seed, |seed| seed as u64);
        sampling
            .check()
            .map_err(|error| ApiError::param(&error.name.replace('-', "_"), error.to_string()))?;
        let asked = self.max_completion_tokens.or(self.max_tokens);
        generation.max_tokens = asked.unwrap_or(generation.max_tokens);
        if generation.max_tokens == 0 {
            return Err(ApiError::param("max_tokens", "max_tokens is 0: it must be at least 1"));
        }
        generation.sources = self.sources.unwrap_or(generation.sources);
        Ok(generation)
    }

    /// How its tokens become text.
    ///
    /// # Errors
    /// If there are too many stop strings, or an empty one.
    pub(crate) fn text(&self) -> ApiResult<TextOptions> {
        let stop = self.stop.clone().map(OneOrMany::into_vec).unwrap_or_default();
        if stop.len() > MOST_STOPS {
            let message = format!("{} stop strings: at most {MOST_STOPS}", stop.len());
            return Err(ApiError::param("stop", message));
        }
        if stop.iter().any(String::is_empty) {
            return Err(ApiError::param("stop", "a stop string is empty"));
        }
        Ok(TextOptions { stop, show_special: false })
    }
}
