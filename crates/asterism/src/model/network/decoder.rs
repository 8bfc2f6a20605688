//! The decoder-only transformer, once, for every family: RMSNorm, rotary grouped-query attention,
//! SwiGLU. How attention reaches other tokens is the business of a
//! [strategy](crate::attention::Attention).

use super::stages::{StageClock, StageTimes};
use super::weights::{LayerWeights, Loader};
use super::{RopeTable, Workspace};
use crate::model::{Checkpoint, LoadError, ModelConfig};
use crate::tensor::{Backend, HeadShape, KvPrecision, Memory, Pass, Precision, TensorError};
use std::sync::Arc;

const EMBEDDING: &str = "model.embed_tokens.weight";

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
    pub(super) config: ModelConfig,
    pub(super) precision: Precision,
    pub(super) kv_precision: KvPrecision,
    pub(super) embedding: B::Embedding,
    pub(super) layers: Vec<LayerWeights<B>>,
    /// `[hidden]`
    pub(super) norm: B::Vector,
    /// `[vocab, hidden]`
    pub(super) head: B::Matrix,
    /// `[head_dim / 2]`, radians per position
    pub(super) frequencies: B::Vector,
    pub(super) clock: StageClock<B>,
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

    /// Empty buffers for forward passes of one kind.
    #[must_use]
    pub fn workspace(&self, backend: &B, kind: Pass) -> Workspace<B> {
        Workspace::new(backend, self.precision, kind)
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
