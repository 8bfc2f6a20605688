//! What a model costs to run, from its configuration alone.

use super::ModelConfig;
use crate::plan::ModelSize;
use crate::tensor::{HeadShape, KvPrecision, LayerWidths, Precision};

impl ModelConfig {
    /// How wide its layers are.
    #[must_use]
    pub fn widths(&self) -> LayerWidths {
        let Self { heads, kv_heads, head_dim, hidden, intermediate, vocab, .. } = *self;
        LayerWidths { hidden, intermediate, vocab, shape: HeadShape { heads, kv_heads, head_dim } }
    }

    /// The sizes that the cost of a plan depends on, with keys cached in `kv` and activations in
    /// `rows`: f32 on a CPU, bf16 on a GPU.
    #[must_use]
    pub fn size(&self, kv: KvPrecision, rows: Precision) -> ModelSize {
        let (q, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let qkv = self.hidden * (q + 2 * kv_width);
        // The output projection, then gate, up and down.
        let behind = q * self.hidden + 3 * self.hidden * self.intermediate;
        ModelSize {
            layers: self.layers,
            context_layers: self.context_layers(),
            linear_weights: (self.layers * (qkv + behind)) as u64,
            skipped_weights: behind as u64,
            q_width: q,
            heads: self.heads,
            kv_width,
            kv_heads: self.kv_heads,
            kv_row_bytes: kv.row_bytes(HeadShape {
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
            }),
            element_bytes: rows.bytes(),
        }
    }
}
