//! The decoder-only transformer, once, for every family: RMSNorm, rotary grouped-query attention,
//! SwiGLU. How attention reaches other tokens is the [`Attention`] strategy's business.

use super::stages::{Stage, StageClock, StageTimes};
use super::team::Team;
use super::weights::{LayerWeights, Loader};
use super::{RopeTable, Sampler};
use crate::attention::{Attention, AttentionError};
use crate::cancel::Cancel;
use crate::model::{Checkpoint, LoadError, ModelConfig};
use crate::plan::Span;
use crate::tensor::{
    Backend, Choice, HeadShape, KvPrecision, Memory, Part, PartMut, Pass, Precision, Rotation,
    SplitQkv, TensorError,
};
use std::sync::Arc;

const EMBEDDING: &str = "model.embed_tokens.weight";

/// Why a forward pass stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// Attention stopped, or the caller asked to stop.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// A token that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The backend.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// What a decoder stores in which precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precisions {
    /// Weights.
    pub weights: Precision,
    /// Cached keys and values.
    pub keys: KvPrecision,
}

/// A model loaded on a backend.
pub struct Decoder<B: Backend> {
    config: ModelConfig,
    precision: Precision,
    kv_precision: KvPrecision,
    embedding: B::Embedding,
    layers: Vec<LayerWeights<B>>,
    /// `[hidden]`
    norm: B::Vector,
    /// `[vocab, hidden]`
    head: B::Matrix,
    /// `[head_dim / 2]`, radians per position
    frequencies: B::Vector,
    clock: StageClock<B>,
}

/// Buffers of a forward pass, kept between passes: see [`Decoder::workspace`].
pub struct Workspace<B: Backend> {
    x: B::Sums,                       // [tokens, hidden]: the residual stream
    q: B::Rows,                       // [tokens, heads, head_dim]
    k: B::Rows,                       // [tokens, kv_heads, head_dim]
    v: B::Rows,                       // [tokens, kv_heads, head_dim]
    attention: B::Rows,               // [tokens, heads, head_dim]
    angles: B::Sums,                  // [tokens, head_dim]: cosines and sines of the rotation
    pub(super) qkv: B::Rows,          // [rows, (heads + 2 kv_heads) * head_dim]
    pub(super) input: B::Activations, // [rows, hidden or heads * head_dim]: enters a projection
    gated: B::Activations,            // [rows, intermediate]
    pub(super) parts: B::Sums, // [hosts, rows, hidden]: partial sums of hosts that divide weights
    pub(super) logits: B::Sums, // [rows whose logits were asked for, vocab]
    ids: B::Ids,               // [tokens]
    pass: UnderWay,
}

/// How far a forward pass has come.
#[derive(Debug, Clone, Copy, Default)]
struct UnderWay {
    /// Its tokens.
    count: usize,
    /// How many layers attend.
    attending: usize,
    /// The first layer that has not run.
    next_layer: usize,
}

impl<B: Backend> Decoder<B> {
    /// Loads the weights of `checkpoint` onto `backend`. With `time_stages` the decoder measures
    /// the stages of its forward passes, for [`Decoder::take_stages`]. `progress` is called after
    /// every layer, with the numbers of layers loaded and of all layers.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` says, or there is no memory.
    pub fn load(
        backend: &B,
        config: ModelConfig,
        checkpoint: &Arc<Checkpoint>,
        precisions: Precisions,
        time_stages: bool,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self, LoadError> {
        let Precisions { weights: precision, keys: kv_precision } = precisions;
        let loader = Loader { backend, checkpoint, precision };
        checkpoint.tensor(EMBEDDING, &[config.vocab, config.hidden])?.check_varied(EMBEDDING)?;
        let head = if config.tie_embeddings { EMBEDDING } else { "lm_head.weight" };
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            layers.push(loader.layer(&config, index)?);
            // A layer that is packed is not needed in its file's order any more.
            checkpoint.release();
            progress(index + 1, config.layers);
        }
        let norm = loader.vector("model.norm.weight", config.hidden)?;
        let head = loader.matrix(&[(head, config.vocab)], config.hidden)?;
        checkpoint.release();
        let rope = RopeTable::new(&config.rope, config.head_dim);
        let frequencies = backend.vector(rope.inverse_frequencies())?;
        let rows = checkpoint.row_reader(EMBEDDING, &[config.vocab, config.hidden])?;
        let embedding = backend.embedding(rows, config.vocab, config.hidden)?;
        checkpoint.check_all_used()?;
        Ok(Self {
            config,
            precision,
            kv_precision,
            embedding,
            layers,
            norm,
            head,
            frequencies,
            clock: StageClock::new(time_stages),
        })
    }

    /// What config.json says.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The precision of cached keys and values.
    #[must_use]
    pub fn kv_precision(&self) -> KvPrecision {
        self.kv_precision
    }

    /// The precision of weights.
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

    /// Begins a forward pass of `tokens` at `positions`: makes room for it in `work`
    /// and writes token ids and positions there. A recording holds the layers but not this. All
    /// layers keep the tokens' keys and values; the first `attending` also attend and have an MLP:
    /// all of them ([`ModelConfig::layers`]) for a question, [`ModelConfig::context_layers`] for a
    /// context, since no later token reads what its last layer would give.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn begin(
        &self,
        backend: &B,
        tokens: &[u32],
        positions: &[u32],
        attending: usize,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let (shape, count) = (self.shape(), tokens.len());
        debug_assert_eq!(count, positions.len());
        let vocab = self.config.vocab;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocab) {
            return Err(ForwardError::UnknownToken { token, vocab });
        }
        let chunk_rows = count.min(backend.linear_rows());
        backend.sums_at_least(&mut work.x, count * self.config.hidden)?;
        backend.sums_at_least(&mut work.angles, count * shape.head_dim)?;
        backend.rows_at_least(&mut work.q, count * shape.q_width())?;
        backend.rows_at_least(&mut work.k, count * shape.kv_width())?;
        backend.rows_at_least(&mut work.v, count * shape.kv_width())?;
        backend.rows_at_least(&mut work.attention, count * shape.q_width())?;
        backend.rows_at_least(&mut work.qkv, chunk_rows * shape.qkv_width())?;
        backend.set_ids(&mut work.ids, tokens, positions)?;
        work.pass = UnderWay { count, attending, next_layer: 0 };
        Ok(())
    }

    /// Runs the pass that [`Decoder::begin`] began through its next `layers` layers, or as many as
    /// are left. Between two calls other passes may run, in workspaces of their own. Returns
    /// whether the pass is finished; its hidden states before the final norm, `[tokens, hidden]`,
    /// are then in `work`, for [`Decoder::head`].
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn advance(
        &self,
        backend: &B,
        layers: usize,
        attention: &mut dyn Attention<B>,
        cancel: &Cancel,
        work: &mut Workspace<B>,
    ) -> Result<bool, ForwardError> {
        self.layers(backend, layers, attention, cancel, None, work)
    }

    /// The next `layers` layers of a pass, with weights that `team` divides, if one does.
    pub(super) fn layers(
        &self,
        backend: &B,
        layers: usize,
        attention: &mut dyn Attention<B>,
        cancel: &Cancel,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<bool, ForwardError> {
        let UnderWay { next_layer, .. } = work.pass;
        if next_layer == 0 {
            self.embed(backend, work)?;
        }
        let end = next_layer.saturating_add(layers).min(self.layers.len());
        for index in next_layer..end {
            self.layer(backend, index, attention, cancel, team, work)?;
        }
        work.pass.next_layer = end;
        Ok(end == self.layers.len())
    }

    /// The residual stream and the angles of a pass.
    fn embed(&self, backend: &B, work: &mut Workspace<B>) -> Result<(), ForwardError> {
        let (shape, count) = (self.shape(), work.pass.count);
        Ok(self.clock.time(backend, Stage::Rest, || {
            let x = PartMut::new(&mut work.x, 0..count * self.config.hidden);
            backend.embed(&self.embedding, &work.ids, x)?;
            let angles = PartMut::new(&mut work.angles, 0..count * shape.head_dim);
            backend.angles(&self.frequencies, &work.ids, angles)
        })?)
    }

    /// One layer of a pass.
    fn layer(
        &self,
        backend: &B,
        index: usize,
        attention: &mut dyn Attention<B>,
        cancel: &Cancel,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let (shape, layer) = (self.shape(), &self.layers[index]);
        let UnderWay { count, attending, .. } = work.pass;
        let chunks = || Span::new(0..count).chunks(backend.linear_rows());
        for chunk in chunks() {
            stop_if(cancel)?;
            self.project(backend, layer, chunk, team, work)?;
        }
        let q = Part::new(&work.q, 0..count * shape.q_width());
        let k = Part::new(&work.k, 0..count * shape.kv_width());
        let v = Part::new(&work.v, 0..count * shape.kv_width());
        self.clock.time(backend, Stage::Attention, || attention.keep(index, k, v))?;
        if index >= attending {
            return Ok(attention.pass_by(index, q)?);
        }
        let out = PartMut::new(&mut work.attention, 0..count * shape.q_width());
        self.clock.time(backend, Stage::Attention, || attention.attend(index, q, out))?;
        for chunk in chunks() {
            stop_if(cancel)?;
            self.finish(backend, layer, chunk, team, work)?;
        }
        Ok(())
    }

    /// Makes room for the logits of `rows` tokens: what [`Decoder::head`] needs and must not do
    /// while a step is recorded.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn reserve_logits(
        &self,
        backend: &B,
        rows: usize,
        work: &mut Workspace<B>,
    ) -> Result<(), TensorError> {
        backend.sums_at_least(&mut work.logits, rows * self.config.vocab)
    }

    /// Computes the logits that follow the last `rows` tokens of the finished pass in `work`: for
    /// [`Decoder::logits`] and [`Decoder::choice`].
    ///
    /// # Errors
    /// If the backend fails.
    pub fn head(
        &self,
        backend: &B,
        rows: usize,
        work: &mut Workspace<B>,
    ) -> Result<(), TensorError> {
        self.norm_last(backend, rows, work)?;
        let logits = PartMut::new(&mut work.logits, 0..rows * self.config.vocab);
        self.clock
            .time(backend, Stage::Linear, || backend.linear_sums(&work.input, &self.head, logits))
    }

    /// The final norm of the last `rows` tokens of the finished pass in `work`.
    pub(super) fn norm_last(
        &self,
        backend: &B,
        rows: usize,
        work: &mut Workspace<B>,
    ) -> Result<(), TensorError> {
        let ModelConfig { hidden, rms_norm_eps, .. } = self.config;
        let count = work.pass.count;
        let last = Part::new(&work.x, (count - rows) * hidden..count * hidden);
        self.clock.time(backend, Stage::Rest, || {
            backend.rms_norm(last, &self.norm, rms_norm_eps, &mut work.input)
        })
    }

    /// Weights of the logits, `[vocab, hidden]`.
    pub(super) fn head_weights(&self) -> &B::Matrix {
        &self.head
    }

    /// What notes where time goes.
    pub(super) fn clock(&self) -> &StageClock<B> {
        &self.clock
    }

    /// Copies the logits `[vocab]` that [`Decoder::head`] computed for row `row`.
    ///
    /// # Errors
    /// If the backend failed since it was last waited for.
    pub fn logits(
        &self,
        backend: &B,
        work: &Workspace<B>,
        row: usize,
        logits: &mut [f32],
    ) -> Result<(), TensorError> {
        let vocab = self.config.vocab;
        backend.read(Part::new(&work.logits, row * vocab..(row + 1) * vocab), logits)
    }

    /// The choice that `sampler` has between the tokens below `among`, by the logits of row `row`
    /// that [`Decoder::head`] computed.
    pub fn choice<'a>(
        &self,
        work: &'a Workspace<B>,
        row: usize,
        among: usize,
        sampler: &'a mut Sampler<B>,
    ) -> Choice<'a, B> {
        let first = row * self.config.vocab;
        sampler.choice(Part::new(&work.logits, first..first + among))
    }

    /// Empty buffers for forward passes of one kind.
    #[must_use]
    pub fn workspace(&self, backend: &B, kind: Pass) -> Workspace<B> {
        Workspace {
            x: B::Sums::default(),
            q: B::Rows::default(),
            k: B::Rows::default(),
            v: B::Rows::default(),
            attention: B::Rows::default(),
            angles: B::Sums::default(),
            qkv: B::Rows::default(),
            input: backend.activations(self.precision, kind),
            gated: backend.activations(self.precision, kind),
            parts: B::Sums::default(),
            logits: B::Sums::default(),
            ids: B::Ids::default(),
            pass: UnderWay::default(),
        }
    }

    /// Norm, q/k/v projections, q/k norms and rotation of one chunk of rows.
    fn project(
        &self,
        backend: &B,
        layer: &LayerWeights<B>,
        chunk: Span,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let shape = self.shape();
        let (hidden, eps) = (self.config.hidden, self.config.rms_norm_eps);
        let rows = |width: usize| chunk.start * width..chunk.end() * width;
        let x = Part::new(&work.x, rows(hidden));
        let clock = &self.clock;
        clock.time(backend, Stage::Rest, || {
            backend.rms_norm(x, &layer.input_norm, eps, &mut work.input)
        })?;
        let all = 0..chunk.len * shape.qkv_width();
        match team.and_then(|team| Some((team, team.slices.qkv.as_ref()?))) {
            Some((team, shares)) => {
                self.qkv_shared(backend, team, shares, layer, chunk.len, work)?;
            }
            None => {
                let qkv = PartMut::new(&mut work.qkv, all.clone());
                clock.time(backend, Stage::Linear, || {
                    backend.linear(&work.input, &layer.qkv, layer.qkv_bias.as_ref(), qkv)
                })?;
            }
        }
        let rotation = Rotation {
            norms: layer.qk_norms.as_ref().map(|(q, k)| (q, k, eps)),
            angles: Part::new(&work.angles, rows(shape.head_dim)),
        };
        let out = SplitQkv {
            q: PartMut::new(&mut work.q, rows(shape.q_width())),
            k: PartMut::new(&mut work.k, rows(shape.kv_width())),
            v: PartMut::new(&mut work.v, rows(shape.kv_width())),
        };
        Ok(clock.time(backend, Stage::Rest, || {
            backend.split_and_rotate(Part::new(&work.qkv, all), shape, rotation, out)
        })?)
    }

    /// Output projection and MLP of one chunk of rows, added to the residual stream.
    fn finish(
        &self,
        backend: &B,
        layer: &LayerWeights<B>,
        chunk: Span,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let ModelConfig { hidden, rms_norm_eps, .. } = self.config;
        let q_width = self.shape().q_width();
        let rows = |width: usize| chunk.start * width..chunk.end() * width;
        let Workspace { x, attention, input, gated, parts, .. } = work;
        let clock = &self.clock;
        let mut x = PartMut::new(x, rows(hidden));
        let attended = Part::new(attention, rows(q_width));
        match team.and_then(|team| Some((team, team.slices.output.as_ref()?))) {
            Some((team, shares)) => {
                let buffers = (&mut *input, &mut *parts);
                let x = x.reborrow();
                self.output_shared(backend, team, shares, layer, attended, buffers, x)?;
            }
            None => clock.time(backend, Stage::Linear, || {
                let (w, bias) = (&layer.output, layer.output_bias.as_ref());
                backend.linear_add_rows(attended, input, w, bias, x.reborrow())
            })?,
        }
        clock.time(backend, Stage::Rest, || {
            backend.rms_norm(x.as_part(), &layer.mlp_norm, rms_norm_eps, input)
        })?;
        match team.and_then(|team| Some((team, team.slices.mlp.as_ref()?))) {
            Some((team, shares)) => {
                self.mlp_shared(backend, team, shares, layer, (&*input, gated, parts), x)
            }
            None => Ok(clock.time(backend, Stage::Linear, || {
                backend.linear_gated(input, &layer.gate_up, layer.gate_up_bias.as_ref(), gated)?;
                backend.linear_add(gated, &layer.down, layer.down_bias.as_ref(), x)
            })?),
        }
    }

    /// Whether the decoder was loaded to note where time goes. A pass that is then recorded cannot
    /// be replayed: what it notes are moments.
    #[must_use]
    pub fn times_stages(&self) -> bool {
        self.clock.is_on()
    }

    /// Where the time of forward passes went since this was last asked; `None` if the decoder was
    /// not loaded to note it.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn take_stages(&self, backend: &B) -> Result<Option<StageTimes>, TensorError> {
        self.clock.take(backend)
    }

    /// Bytes of the weights of all linear layers.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let layer = |l: &LayerWeights<B>| {
            l.qkv.bytes() + l.output.bytes() + l.gate_up.bytes() + l.down.bytes()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.head.bytes()
    }
}

fn stop_if(cancel: &Cancel) -> Result<(), ForwardError> {
    if cancel.is_raised() { Err(AttentionError::Cancelled.into()) } else { Ok(()) }
}
