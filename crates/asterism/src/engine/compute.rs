//! A decoder on a backend, and contexts encoded on it, behind types that do not say which backend:
//! the one place where it is chosen at run time.

use super::generate::{Generated, Question, generate};
use super::prefill::{Phase1, Progress, Run};
use super::{EngineError, EngineOptions, memory};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::model::{Checkpoint, Decoder, ModelConfig, StageTimes};
use crate::plan::Plan;
use crate::tensor::{Backend, KvPrecision, Peak, Precision};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A loaded model.
pub(super) trait Compute: Send + Sync {
    fn config(&self) -> &ModelConfig;
    fn precision(&self) -> Precision;
    fn kv_precision(&self) -> KvPrecision;
    fn row_precision(&self) -> Precision;
    fn weight_bytes(&self) -> usize;
    fn hardware(&self) -> String;
    fn peak(&self) -> Result<Peak, EngineError>;
    fn take_peak_memory(&self) -> Result<Option<u64>, EngineError>;
    fn take_stages(&self) -> Result<Option<StageTimes>, EngineError>;

    /// Phase 1. The query host has room for `reserve` more tokens.
    fn encode(
        &self,
        plan: &Plan,
        context: &[u32],
        reserve: usize,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<(Box<dyn Encoded>, Phase1), EngineError>;
}

/// The keys of a context.
pub(super) trait Encoded: Send {
    /// Phase 2. Leaves the keys of the question and its answer behind.
    fn generate(
        &mut self,
        question: &Question<'_>,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
        cancel: &Cancel,
    ) -> Result<Generated, EngineError>;

    /// Forgets all but the first `tokens` tokens of the query host.
    fn truncate(&mut self, tokens: usize);
}

/// A backend and a decoder on it.
pub(super) struct Loaded<B: Backend> {
    pub(super) backend: B,
    pub(super) decoder: Decoder<B>,
}

/// [`Compute`] on one kind of backend.
pub(super) struct On<B: Backend>(Arc<Loaded<B>>);

impl<B: Backend> On<B> {
    pub(super) fn load(
        backend: B,
        config: ModelConfig,
        checkpoint: &Arc<Checkpoint>,
        options: &EngineOptions,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self, EngineError> {
        let EngineOptions { precision, kv_precision, time_stages, .. } = *options;
        let precisions = (precision, kv_precision.unwrap_or(precision.into()));
        let decoder =
            Decoder::load(&backend, config, checkpoint, precisions, time_stages, progress)?;
        Ok(Self(Arc::new(Loaded { backend, decoder })))
    }
}

impl<B: Backend> Compute for On<B> {
    fn config(&self) -> &ModelConfig {
        self.0.decoder.config()
    }

    fn precision(&self) -> Precision {
        self.0.decoder.precision()
    }

    fn kv_precision(&self) -> KvPrecision {
        self.0.decoder.kv_precision()
    }

    fn row_precision(&self) -> Precision {
        B::ROWS
    }

    fn weight_bytes(&self) -> usize {
        self.0.decoder.weight_bytes()
    }

    fn hardware(&self) -> String {
        self.0.backend.describe()
    }

    fn peak(&self) -> Result<Peak, EngineError> {
        Ok(self.0.backend.peak(self.precision())?)
    }

    fn take_stages(&self) -> Result<Option<StageTimes>, EngineError> {
        Ok(self.0.decoder.take_stages(&self.0.backend)?)
    }

    fn take_peak_memory(&self) -> Result<Option<u64>, EngineError> {
        Ok(self.0.backend.take_peak_memory()?)
    }

    fn encode(
        &self,
        plan: &Plan,
        context: &[u32],
        reserve: usize,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<(Box<dyn Encoded>, Phase1), EngineError> {
        memory::check(&self.0, plan, reserve)?;
        let run = Run { loaded: &self.0, plan, context, progress, cancel };
        let (stores, phase1) = run.encode(reserve)?;
        Ok((Box::new(Keys { loaded: Arc::clone(&self.0), stores }), phase1))
    }
}

/// [`Encoded`] on one kind of backend: one store per host.
struct Keys<B: Backend> {
    loaded: Arc<Loaded<B>>,
    stores: Vec<KvStore<B>>,
}

impl<B: Backend> Encoded for Keys<B> {
    fn generate(
        &mut self,
        question: &Question<'_>,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
        cancel: &Cancel,
    ) -> Result<Generated, EngineError> {
        generate(&self.loaded, &mut self.stores, question, on_token, cancel)
    }

    fn truncate(&mut self, tokens: usize) {
        self.stores[0].truncate(&self.loaded.backend, tokens);
    }
}
