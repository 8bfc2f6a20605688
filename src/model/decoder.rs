//! The decoder-only transformer, once, for every family: RMSNorm, rotary grouped-query attention,
//! SwiGLU. How attention reaches other tokens is the [`Attention`] strategy's business.

use super::weights::{LayerWeights, Loader};
use super::{Checkpoint, ModelConfig, ModelError, RopeTable, TensorView};
use crate::attention::{Attention, AttentionError};
use crate::cancel::Cancel;
use crate::plan::Span;
use crate::tensor::{Cpu, HeadShape, PackedMatrix, Precision};
use std::sync::Arc;

/// Rows that pass through the linear layers together: bounds the memory of the widest buffers and
/// the time between two looks at the cancel flag.
const ROWS: usize = 512;

const EMBEDDING: &str = "model.embed_tokens.weight";

/// Why a forward pass stopped.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Attention stopped.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// The user asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A token that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A loaded model.
pub struct Decoder {
    config: ModelConfig,
    precision: Precision,
    /// Embedding rows are read straight from the mapped file.
    checkpoint: Arc<Checkpoint>,
    layers: Vec<LayerWeights>,
    /// `[hidden]`
    norm: Vec<f32>,
    /// `[vocab, hidden]`
    head: PackedMatrix,
    rope: RopeTable,
}

/// Buffers of a forward pass, kept between passes.
#[derive(Debug, Default)]
pub struct Workspace {
    x: Vec<f32>,         // [tokens, hidden]: the residual stream
    q: Vec<f32>,         // [tokens, heads, head_dim]
    k: Vec<f32>,         // [tokens, kv_heads, head_dim]
    v: Vec<f32>,         // [tokens, kv_heads, head_dim]
    attention: Vec<f32>, // [tokens, heads, head_dim]
    normed: Vec<f32>,    // [ROWS, hidden]
    wide: Vec<f32>,      // [ROWS, the wider of qkv and gate_up]
    narrow: Vec<f32>,    // [ROWS, intermediate]
    cos: Vec<f32>,       // [tokens, head_dim / 2]
    sin: Vec<f32>,       // [tokens, head_dim / 2]
}

/// `buffer[..len]`, grown if it is shorter; contents are whatever they were.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

impl Decoder {
    /// Packs the weights of `checkpoint` in `precision`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` says.
    pub fn load(
        cpu: &Cpu,
        config: ModelConfig,
        checkpoint: Arc<Checkpoint>,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        let loader = Loader { cpu, checkpoint: &checkpoint, precision };
        checkpoint.tensor(EMBEDDING, &[config.vocab, config.hidden])?;
        let head = if config.tie_embeddings { EMBEDDING } else { "lm_head.weight" };
        let layers =
            (0..config.layers).map(|i| loader.layer(&config, i)).collect::<Result<_, _>>()?;
        let norm = loader.vector("model.norm.weight", config.hidden)?;
        let head = loader.matrix(&[(head, config.vocab)], config.hidden)?;
        let rope = RopeTable::new(&config.rope, config.head_dim);
        Ok(Self { config, precision, checkpoint, layers, norm, head, rope })
    }

    /// What config.json says.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The precision of weights and cached keys.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Heads of every layer.
    #[must_use]
    pub fn shape(&self) -> HeadShape {
        let ModelConfig { heads, kv_heads, head_dim, .. } = self.config;
        HeadShape { heads, kv_heads, head_dim }
    }

    /// Runs `tokens`, which stand at the positions of `spans`, through all layers. Returns the
    /// hidden states before the final norm, `[tokens, hidden]`.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn forward<'w>(
        &self,
        cpu: &Cpu,
        tokens: &[u32],
        spans: &[Span],
        attention: &mut dyn Attention,
        cancel: &Cancel,
        work: &'w mut Workspace,
    ) -> Result<&'w [f32], ForwardError> {
        let shape = self.shape();
        debug_assert_eq!(tokens.len(), spans.iter().map(|s| s.len).sum::<usize>());
        self.embed(tokens, sized(&mut work.x, tokens.len() * self.config.hidden))?;
        self.rope.fill(spans, &mut work.cos, &mut work.sin);
        sized(&mut work.q, tokens.len() * shape.q_width());
        sized(&mut work.k, tokens.len() * shape.kv_width());
        sized(&mut work.v, tokens.len() * shape.kv_width());
        sized(&mut work.attention, tokens.len() * shape.q_width());
        let chunks: Vec<Span> = Span::new(0..tokens.len()).chunks(ROWS).collect();
        for (index, layer) in self.layers.iter().enumerate() {
            for chunk in &chunks {
                stop_if(cancel)?;
                self.project(cpu, layer, *chunk, work);
            }
            let q = &work.q[..tokens.len() * shape.q_width()];
            let k = &work.k[..tokens.len() * shape.kv_width()];
            let v = &work.v[..tokens.len() * shape.kv_width()];
            let out = &mut work.attention[..tokens.len() * shape.q_width()];
            attention.attend(index, q, k, v, out)?;
            for chunk in &chunks {
                stop_if(cancel)?;
                self.finish(cpu, layer, *chunk, work);
            }
        }
        Ok(&work.x[..tokens.len() * self.config.hidden])
    }

    /// Logits `[vocab]` of one hidden state `[hidden]`.
    #[must_use]
    pub fn logits(&self, cpu: &Cpu, hidden: &[f32]) -> Vec<f32> {
        let mut normed = vec![0.0; hidden.len()];
        cpu.rms_norm(hidden, &self.norm, self.config.rms_norm_eps, &mut normed);
        let mut logits = vec![0.0; self.config.vocab];
        cpu.linear(&normed, &self.head, None, &mut logits);
        logits
    }

    /// Embedding rows, `[tokens, hidden]`.
    fn embed(&self, tokens: &[u32], x: &mut [f32]) -> Result<(), ForwardError> {
        let ModelConfig { vocab, hidden, .. } = self.config;
        let table = self.checkpoint.tensor(EMBEDDING, &[vocab, hidden])?;
        let row_bytes = table.data.len() / vocab;
        for (token, x) in tokens.iter().zip(x.chunks_exact_mut(hidden)) {
            let index = *token as usize;
            if index >= vocab {
                return Err(ForwardError::UnknownToken { token: *token, vocab });
            }
            let data = &table.data[index * row_bytes..(index + 1) * row_bytes];
            let row = TensorView { dtype: table.dtype, shape: vec![hidden], data };
            x.copy_from_slice(&row.to_f32());
        }
        Ok(())
    }

    /// Norm, q/k/v projections, q/k norms and rotation of one chunk of rows.
    fn project(&self, cpu: &Cpu, layer: &LayerWeights, chunk: Span, work: &mut Workspace) {
        let shape = self.shape();
        let (hidden, eps) = (self.config.hidden, self.config.rms_norm_eps);
        let (q_width, kv_width) = (shape.q_width(), shape.kv_width());
        let x = &work.x[chunk.start * hidden..chunk.end() * hidden];
        let normed = sized(&mut work.normed, chunk.len * hidden);
        cpu.rms_norm(x, &layer.input_norm, eps, normed);
        let qkv = sized(&mut work.wide, chunk.len * (q_width + 2 * kv_width));
        cpu.linear(normed, &layer.qkv, layer.qkv_bias.as_deref(), qkv);
        let q = &mut work.q[chunk.start * q_width..chunk.end() * q_width];
        let k = &mut work.k[chunk.start * kv_width..chunk.end() * kv_width];
        let v = &mut work.v[chunk.start * kv_width..chunk.end() * kv_width];
        let rows = qkv.chunks_exact(q_width + 2 * kv_width);
        let targets = q
            .chunks_exact_mut(q_width)
            .zip(k.chunks_exact_mut(kv_width).zip(v.chunks_exact_mut(kv_width)));
        for (row, (q, (k, v))) in rows.zip(targets) {
            q.copy_from_slice(&row[..q_width]);
            k.copy_from_slice(&row[q_width..q_width + kv_width]);
            v.copy_from_slice(&row[q_width + kv_width..]);
        }
        if let Some((q_norm, k_norm)) = &layer.qk_norms {
            cpu.rms_norm_in_place(q, q_norm, eps);
            cpu.rms_norm_in_place(k, k_norm, eps);
        }
        let half = shape.head_dim / 2;
        let cos = &work.cos[chunk.start * half..chunk.end() * half];
        let sin = &work.sin[chunk.start * half..chunk.end() * half];
        cpu.rotate(q, shape.heads, shape.head_dim, cos, sin);
        cpu.rotate(k, shape.kv_heads, shape.head_dim, cos, sin);
    }

    /// Output projection and MLP of one chunk of rows, added to the residual stream.
    fn finish(&self, cpu: &Cpu, layer: &LayerWeights, chunk: Span, work: &mut Workspace) {
        let ModelConfig { hidden, intermediate, rms_norm_eps, .. } = self.config;
        let q_width = self.shape().q_width();
        let x = &mut work.x[chunk.start * hidden..chunk.end() * hidden];
        let attended = &work.attention[chunk.start * q_width..chunk.end() * q_width];
        cpu.linear_add(attended, &layer.output, layer.output_bias.as_deref(), x);
        let normed = sized(&mut work.normed, chunk.len * hidden);
        cpu.rms_norm(x, &layer.mlp_norm, rms_norm_eps, normed);
        let gate_up = sized(&mut work.wide, chunk.len * 2 * intermediate);
        cpu.linear(normed, &layer.gate_up, layer.gate_up_bias.as_deref(), gate_up);
        let activated = sized(&mut work.narrow, chunk.len * intermediate);
        cpu.swiglu(gate_up, intermediate, activated);
        cpu.linear_add(activated, &layer.down, layer.down_bias.as_deref(), x);
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let layer = |l: &LayerWeights| {
            l.qkv.bytes() + l.output.bytes() + l.gate_up.bytes() + l.down.bytes()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.head.bytes()
    }
}

fn stop_if(cancel: &Cancel) -> Result<(), ForwardError> {
    if cancel.is_raised() { Err(ForwardError::Cancelled) } else { Ok(()) }
}
