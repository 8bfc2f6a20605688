//! The query host's passes through the model: of the question, and of one token after the other.

use super::EngineError;
use super::compute::Loaded;
use crate::attention::{GlobalAttention, Step};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::comm::Comm;
use crate::model::{Sampler, Workspace};
use crate::plan::Span;
use crate::tensor::{Backend, Sampling};

/// The query host. After each pass the logits that follow its last token can be asked for.
pub(super) struct Lead<'a, B: Backend> {
    loaded: &'a Loaded<B>,
    comm: &'a dyn Comm<B>,
    store: &'a mut KvStore<B>,
    cancel: &'a Cancel,
    work: Workspace<B>,
    /// Position of the last token that ran.
    position: usize,
    decoding: Decoding<B>,
}

/// How far decoding has come towards replaying a recorded step.
enum Decoding<B: Backend> {
    /// No step has run yet: buffers may still grow, kernels may still be loaded.
    Cold,
    /// A step has run.
    Warm,
    /// A step of the token at this position was recorded.
    Recorded(B::Recording, usize),
    /// Recording does not make steps cheaper, or other hosts take part in them, or they are timed.
    Plain,
}

impl<'a, B: Backend> Lead<'a, B> {
    pub(super) fn new(
        loaded: &'a Loaded<B>,
        comm: &'a dyn Comm<B>,
        store: &'a mut KvStore<B>,
        cancel: &'a Cancel,
    ) -> Self {
        let work = loaded.decoder.workspace(&loaded.backend);
        let plain = comm.size() > 1 || loaded.decoder.times_stages();
        let decoding = if plain { Decoding::Plain } else { Decoding::Cold };
        Self { loaded, comm, store, cancel, work, position: 0, decoding }
    }

    /// Runs `tokens`, which stand at `chunk`, over the keys of all hosts.
    pub(super) fn encode(&mut self, tokens: &[u32], chunk: Span) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        decoder.begin(backend, tokens, &[chunk], &mut self.work)?;
        self.position = chunk.end() - 1;
        self.pass(chunk)
    }

    /// Runs one more token.
    pub(super) fn decode(&mut self, token: u32) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        self.position += 1;
        let here = Span { start: self.position, len: 1 };
        decoder.begin(backend, &[token], &[here], &mut self.work)?;
        match &mut self.decoding {
            Decoding::Plain => self.pass(here),
            Decoding::Cold => {
                self.decoding = Decoding::Warm;
                self.pass(here)
            }
            Decoding::Recorded(recording, position) => {
                if self.store.advance(backend, here.start) {
                    let later = (here.start - *position) as u32;
                    return Ok(backend.replay(recording, later)?);
                }
                // The cache must grow: it moves, and what was recorded refers to where it was.
                self.decoding = Decoding::Cold;
                self.pass(here)
            }
            Decoding::Warm => self.record(here),
        }
    }

    /// Runs the token at `here` and records that, if the backend can and the cache need not grow.
    fn record(&mut self, here: Span) -> Result<(), EngineError> {
        let backend = &self.loaded.backend;
        let tokens = self.store.tokens();
        if !self.store.advance(backend, here.start) {
            self.decoding = Decoding::Cold;
            return self.pass(here);
        }
        self.store.truncate(backend, tokens);
        match backend.record(|| self.pass(here))? {
            Some(recording) => self.decoding = Decoding::Recorded(recording, here.start),
            None => {
                self.decoding = Decoding::Plain;
                self.pass(here)?;
            }
        }
        Ok(())
    }

    /// One pass through all layers, after the decoder was told of its tokens.
    fn pass(&mut self, chunk: Span) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        let (shape, precision) = (decoder.shape(), decoder.kv_precision());
        let step = Step { chunk, owner: 0, attending: decoder.config().layers };
        let mut attention =
            GlobalAttention::begin(backend, self.comm, shape, self.store, precision, step)?;
        decoder.run(backend, chunk.len, &mut attention, self.cancel, &mut self.work)?;
        Ok(decoder.head(backend, chunk.len, &mut self.work)?)
    }

    /// A sampler for an answer to `prompt`.
    pub(super) fn sampler(
        &self,
        sampling: &Sampling,
        prompt: impl Iterator<Item = u32>,
    ) -> Result<Sampler<B>, EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        Ok(Sampler::new(backend, sampling.clone(), decoder.config().vocab, prompt)?)
    }

    /// The token below `among` that `sampler` chooses.
    pub(super) fn next_token(
        &self,
        among: usize,
        sampler: &mut Sampler<B>,
    ) -> Result<u32, EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        let token = decoder.next_token(backend, &self.work, among, sampler)?;
        token.ok_or(EngineError::NotFinite { position: self.position })
    }

    /// Copies the logits `[vocab]`.
    pub(super) fn logits(&self, logits: &mut [f32]) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        decoder.logits(backend, &self.work, logits)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(EngineError::NotFinite { position: self.position });
        }
        Ok(())
    }
}
