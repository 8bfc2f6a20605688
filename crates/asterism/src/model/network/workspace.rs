//! What a forward pass works in.

use crate::tensor::{Backend, Pass, Precision};

/// Buffers of a forward pass, kept between passes: see
/// [`Decoder::workspace`](super::Decoder::workspace).
pub struct Workspace<B: Backend> {
    pub(super) x: B::Sums,            // [tokens, hidden]: the residual stream
    pub(super) q: B::Rows,            // [tokens, heads, head_dim]
    pub(super) k: B::Rows,            // [tokens, kv_heads, head_dim]
    pub(super) v: B::Rows,            // [tokens, kv_heads, head_dim]
    pub(super) attention: B::Rows,    // [tokens, heads, head_dim]
    pub(super) angles: B::Sums,       // [tokens, head_dim]: cosines and sines of the rotation
    pub(super) qkv: B::Rows,          // [rows, (heads + 2 kv_heads) * head_dim]
    pub(super) input: B::Activations, // [rows, hidden or heads * head_dim]: enters a projection
    pub(super) gated: B::Activations, // [rows, intermediate]
    pub(super) parts: B::Sums, // [hosts, rows, hidden]: partial sums of hosts that divide weights
    pub(super) logits: B::Sums, // [rows whose logits were asked for, vocab]
    pub(super) ids: B::Ids,    // [tokens]
    pub(super) pass: UnderWay,
}

/// How far a forward pass has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnderWay {
    /// Its tokens.
    pub(super) count: usize,
    /// How many layers attend.
    pub(super) attending: usize,
    /// The first layer that has not run.
    pub(super) next_layer: usize,
}

impl<B: Backend> Workspace<B> {
    /// Empty buffers for passes of one `kind`, through layers with weights in `precision`.
    pub(super) fn new(backend: &B, precision: Precision, kind: Pass) -> Self {
        Self {
            x: B::Sums::default(),
            q: B::Rows::default(),
            k: B::Rows::default(),
            v: B::Rows::default(),
            attention: B::Rows::default(),
            angles: B::Sums::default(),
            qkv: B::Rows::default(),
            input: backend.activations(precision, kind),
            gated: backend.activations(precision, kind),
            parts: B::Sums::default(),
            logits: B::Sums::default(),
            ids: B::Ids::default(),
            pass: UnderWay::default(),
        }
    }
}
