//! The decoder-only transformer, once, for every family: RMSNorm, rotary grouped-query attention,
//! SwiGLU. How attention reaches other tokens is the [`Attention`] strategy's business.

use super::weights::{LayerWeights, Loader};
use super::{Checkpoint, ModelConfig, ModelError, RopeTable};
use crate::attention::{Attention, AttentionError};
use crate::cancel::Cancel;
use crate::plan::Span;
use crate::tensor::{
    Activations, Aligned, Cpu, HeadShape, PackedMatrix, Precision, Rotation, SplitQkv,
};
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

/// Buffers of a forward pass, kept between passes: see [`Decoder::workspace`].
#[derive(Debug)]
pub struct Workspace {
    x: Aligned<f32>,         // [tokens, hidden]: the residual stream
    q: Aligned<f32>,         // [tokens, heads, head_dim]
    k: Aligned<f32>,         // [tokens, kv_heads, head_dim]
    v: Aligned<f32>,         // [tokens, kv_heads, head_dim]
    attention: Aligned<f32>, // [tokens, heads, head_dim]
    angles: Aligned<f32>,    // [tokens, head_dim]: cosines and sines of the rotation
    qkv: Aligned<f32>,       // [ROWS, (heads + 2 kv_heads) * head_dim]
    input: Activations,      // [ROWS, hidden or heads * head_dim]: what enters a projection
    gated: Activations,      // [ROWS, intermediate]
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
        // A layer that is packed is not needed in its file's order any more.
        let layer = |i| loader.layer(&config, i).inspect(|_| checkpoint.release());
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
        let norm = loader.vector("model.norm.weight", config.hidden)?;
        let head = loader.matrix(&[(head, config.vocab)], config.hidden)?;
        checkpoint.release();
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

    /// Runs `tokens`, which stand at the positions of `spans`, through all layers. Leaves the hidden
    /// states before the final norm, `[tokens, hidden]`, in `work`, for [`Decoder::logits`].
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn forward(
        &self,
        cpu: &Cpu,
        tokens: &[u32],
        spans: &[Span],
        attention: &mut dyn Attention,
        cancel: &Cancel,
        work: &mut Workspace,
    ) -> Result<(), ForwardError> {
        let shape = self.shape();
        debug_assert_eq!(tokens.len(), spans.iter().map(|s| s.len).sum::<usize>());
        self.embed(cpu, tokens, work.x.at_least(tokens.len() * self.config.hidden))?;
        let angles = work.angles.at_least(tokens.len() * shape.head_dim);
        cpu.fill_rows(angles, shape.head_dim, |t, row| self.rope.write(position(spans, t), row));
        work.q.at_least(tokens.len() * shape.q_width());
        work.k.at_least(tokens.len() * shape.kv_width());
        work.v.at_least(tokens.len() * shape.kv_width());
        work.attention.at_least(tokens.len() * shape.q_width());
        let chunks = || Span::new(0..tokens.len()).chunks(ROWS);
        for (index, layer) in self.layers.iter().enumerate() {
            for chunk in chunks() {
                stop_if(cancel)?;
                self.project(cpu, layer, chunk, work);
            }
            let q = &work.q[..tokens.len() * shape.q_width()];
            let k = &work.k[..tokens.len() * shape.kv_width()];
            let v = &work.v[..tokens.len() * shape.kv_width()];
            let out = &mut work.attention[..tokens.len() * shape.q_width()];
            attention.attend(index, q, k, v, out)?;
            for chunk in chunks() {
                stop_if(cancel)?;
                self.finish(cpu, layer, chunk, work);
            }
        }
        Ok(())
    }

    /// Writes the logits `[vocab]` that follow the last of the `tokens` which the last forward pass
    /// with `work` ran.
    pub fn logits(&self, cpu: &Cpu, tokens: usize, work: &mut Workspace, logits: &mut [f32]) {
        let ModelConfig { hidden, rms_norm_eps, .. } = self.config;
        let last = &work.x[(tokens - 1) * hidden..tokens * hidden];
        cpu.rms_norm_rows(last, &self.norm, rms_norm_eps, &mut work.input);
        cpu.linear(&work.input, &self.head, None, logits);
    }

    /// Empty buffers for [`Decoder::forward`].
    #[must_use]
    pub fn workspace(&self) -> Workspace {
        Workspace {
            x: Aligned::default(),
            q: Aligned::default(),
            k: Aligned::default(),
            v: Aligned::default(),
            attention: Aligned::default(),
            angles: Aligned::default(),
            qkv: Aligned::default(),
            input: Activations::new(self.precision),
            gated: Activations::new(self.precision),
        }
    }

    /// Embedding rows, `[tokens, hidden]`.
    fn embed(&self, cpu: &Cpu, tokens: &[u32], x: &mut [f32]) -> Result<(), ForwardError> {
        let ModelConfig { vocab, hidden, .. } = self.config;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocab) {
            return Err(ForwardError::UnknownToken { token, vocab });
        }
        let table = self.checkpoint.tensor(EMBEDDING, &[vocab, hidden])?;
        cpu.fill_rows(x, hidden, |t, row| table.row_to_f32(tokens[t] as usize, row));
        Ok(())
    }

    /// Norm, q/k/v projections, q/k norms and rotation of one chunk of rows.
    fn project(&self, cpu: &Cpu, layer: &LayerWeights, chunk: Span, work: &mut Workspace) {
        let shape = self.shape();
        let (hidden, eps) = (self.config.hidden, self.config.rms_norm_eps);
        let rows = |width: usize| chunk.start * width..chunk.end() * width;
        let (q_width, kv_width) = (shape.q_width(), shape.kv_width());
        cpu.rms_norm_rows(&work.x[rows(hidden)], &layer.input_norm, eps, &mut work.input);
        let qkv = work.qkv.at_least(chunk.len * (q_width + 2 * kv_width));
        cpu.linear(&work.input, &layer.qkv, layer.qkv_bias.as_deref(), qkv);
        let norms = layer.qk_norms.as_ref().map(|(q, k)| (q.as_slice(), k.as_slice(), eps));
        let angles = &work.angles[rows(shape.head_dim)];
        let out = SplitQkv {
            q: &mut work.q[rows(q_width)],
            k: &mut work.k[rows(kv_width)],
            v: &mut work.v[rows(kv_width)],
        };
        cpu.split_and_rotate(qkv, shape, Rotation { norms, angles }, out);
    }

    /// Output projection and MLP of one chunk of rows, added to the residual stream.
    fn finish(&self, cpu: &Cpu, layer: &LayerWeights, chunk: Span, work: &mut Workspace) {
        let ModelConfig { hidden, rms_norm_eps, .. } = self.config;
        let q_width = self.shape().q_width();
        let x = &mut work.x[chunk.start * hidden..chunk.end() * hidden];
        let attended = &work.attention[chunk.start * q_width..chunk.end() * q_width];
        cpu.take_rows(attended, q_width, &mut work.input);
        cpu.linear_add(&work.input, &layer.output, layer.output_bias.as_deref(), x);
        cpu.rms_norm_rows(x, &layer.mlp_norm, rms_norm_eps, &mut work.input);
        let bias = layer.gate_up_bias.as_deref();
        cpu.linear_gated(&work.input, &layer.gate_up, bias, &mut work.gated);
        cpu.linear_add(&work.gated, &layer.down, layer.down_bias.as_deref(), x);
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

/// The position of token `t` of a pass over `spans`.
fn position(spans: &[Span], mut t: usize) -> usize {
    for span in spans {
        if t < span.len {
            return span.start + t;
        }
        t -= span.len;
    }
    unreachable!("a token outside its spans")
}

fn stop_if(cancel: &Cancel) -> Result<(), ForwardError> {
    if cancel.is_raised() { Err(ForwardError::Cancelled) } else { Ok(()) }
}
