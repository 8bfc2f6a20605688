//! Texts to tokens, and back.

use serde::Deserialize;
use utoipa::ToSchema;

/// `POST /tokenize`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizeFields {
    pub(crate) content: String,
    /// Whether special tokens in it are special.
    pub(crate) parse_special: Option<bool>,
}

/// `POST /detokenize`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetokenizeFields {
    pub(crate) tokens: Vec<u32>,
}
