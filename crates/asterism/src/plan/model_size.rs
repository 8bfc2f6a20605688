//! What of a model its cost depends on.

use super::{Plan, Span};
use crate::tensor::KeptKeys;

/// The sizes of a model that its cost depends on.
#[derive(Debug, Clone, Copy)]
pub struct ModelSize {
    /// Decoder layers.
    pub layers: usize,
    /// Of these, those in which tokens of a context attend.
    pub context_layers: usize,
    /// Weights of all linear layers of the decoder (not the embedding, not the head).
    pub linear_weights: u64,
    /// Of these, those of the last layer behind its keys and values (output projection and MLP):
    /// only tokens whose logits are asked for pass them.
    pub skipped_weights: u64,
    /// Elements of the queries of one token in one layer: `heads * head_dim`.
    pub q_width: usize,
    /// Query heads.
    pub heads: usize,
    /// Elements of the keys of one token in one layer: `kv_heads * head_dim`.
    pub kv_width: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Bytes of the cached keys of one token in one layer.
    pub kv_row_bytes: usize,
    /// Bytes of an element of the queries, and of the outputs of attention, that hosts send each
    /// other: 4 on a CPU, 2 on a GPU.
    pub element_bytes: usize,
}

/// Tokens of a text that are repeated at a time, at most, and of what asks for it.
pub(crate) const REPEATED: usize = 2048 + 64;

impl ModelSize {
    /// Bytes of the cached keys and values of one token in `layers` layers.
    pub(crate) fn kv_bytes(&self, layers: usize) -> u64 {
        (2 * self.kv_row_bytes * layers) as u64
    }

    /// Bytes of the keys and values that are kept of a block of `tokens` tokens of `plan`, and of
    /// the table that says which.
    pub(crate) fn kept_bytes(&self, plan: &Plan, tokens: usize) -> u64 {
        let Some(kept) = plan.kept(tokens) else {
            return (tokens as u64).saturating_mul(self.kv_bytes(self.layers));
        };
        let table = KeptKeys::table_bytes(self.kv_heads, kept * self.kv_heads) * self.layers;
        kept as u64 * self.kv_bytes(self.layers) + table as u64
    }

    /// Bytes of keys that a host holds only until they are pressed.
    pub(super) fn unpressed_bytes(&self, plan: &Plan, spans: &[Span]) -> u64 {
        let pressed = spans.iter().filter(|span| plan.kept(span.len).is_some());
        let repeated = |len: usize| if plan.repeats(len) { len.min(REPEATED) } else { 0 };
        let tokens = pressed.map(|span| span.len + repeated(span.len)).max().unwrap_or(0);
        tokens as u64 * self.kv_bytes(self.layers)
    }
}

#[cfg(test)]
impl ModelSize {
    /// Llama-3.1-8B on GPUs.
    pub(crate) const LLAMA_8B: Self = Self {
        layers: 32,
        context_layers: 31,
        linear_weights: 6_979_321_856,
        skipped_weights: 0,
        q_width: 4096,
        heads: 32,
        kv_width: 1024,
        kv_heads: 8,
        kv_row_bytes: 2048,
        element_bytes: 2,
    };
}
