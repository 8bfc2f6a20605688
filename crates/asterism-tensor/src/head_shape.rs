//! How many heads attention has, and how wide they are.

/// Heads of a model, or of one host's share of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeadShape {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; `heads / kv_heads` query heads share one (grouped-query attention).
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
}

impl HeadShape {
    /// Query heads per KV head.
    #[must_use]
    pub fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of the queries (or outputs) of one token.
    #[must_use]
    pub fn q_width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of the keys (or values) of one token.
    #[must_use]
    pub fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Elements of queries, keys and values of one token.
    #[must_use]
    pub fn qkv_width(self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }

    /// What scores are multiplied by.
    pub(super) fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}
