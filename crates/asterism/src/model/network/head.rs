//! From the last hidden states of a pass to logits, and to the choice between tokens.

use super::stages::Stage;
use super::{Decoder, Sampler, Workspace};
use crate::model::ModelConfig;
use crate::tensor::{Backend, Choice, Part, PartMut, TensorError};

impl<B: Backend> Decoder<B> {
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
}
