//! A host: a share of every context, and obedience. Hosts live as long as the engine; threads and
//! processes run the same code.

use super::EngineError;
use super::command::{Command, ContextId, EncodingState, Outcome};
use super::encode::{Asked, Encoding, Tools};
use super::loaded::Loaded;
use crate::attention::{OthersPass, serve};
use crate::cache::{EncodedBlock, Index, Ledger};
use crate::comm::Comm;
use crate::plan::Span;
use crate::tensor::Backend;
use std::collections::HashMap;
use std::sync::Arc;

/// The encoded blocks of a context that a host holds, in the order of their positions.
pub(super) type Blocks<B> = Arc<[Arc<EncodedBlock<B>>]>;

/// One host of a group.
pub(super) struct Host<B: Backend> {
    pub(super) loaded: Arc<Loaded<B>>,
    pub(super) comm: Box<dyn Comm<B>>,
    pub(super) ledger: Ledger,
    index: Index<B>,
    /// Contexts that are encoded.
    contexts: HashMap<ContextId, Blocks<B>>,
    /// Contexts that are being encoded.
    encodings: HashMap<ContextId, Encoding<B>>,
}

impl<B: Backend> Host<B> {
    /// A host without contexts, which keeps up to `spare` bytes of blocks that no context holds.
    pub(super) fn new(
        loaded: Arc<Loaded<B>>,
        comm: Box<dyn Comm<B>>,
        ledger: Ledger,
        spare: u64,
    ) -> Self {
        let index = Index::new(spare);
        Self { loaded, comm, ledger, index, contexts: HashMap::new(), encodings: HashMap::new() }
    }

    /// The blocks of an encoded context on this host.
    pub(super) fn blocks(&self, id: ContextId) -> Result<&Blocks<B>, EngineError> {
        self.contexts.get(&id).ok_or(EngineError::UnknownContext)
    }

    /// Does what `command` says, together with the other hosts.
    pub(super) fn obey(&mut self, command: &Command) -> Result<Outcome, EngineError> {
        let before = self.comm.bytes_sent();
        let mut outcome = match command {
            Command::Open { id, plan, tokens, room, cancel } => {
                let mut tools = tools(&self.loaded, &*self.comm, &mut self.index);
                let asked = Asked {
                    plan: Arc::clone(plan),
                    context: Arc::clone(tokens),
                    room: if self.comm.rank() == 0 { *room } else { 0 },
                    cancel: cancel.clone(),
                };
                let encoding = Encoding::open(&mut tools, &self.ledger, asked)?;
                self.encodings.insert(*id, encoding);
                self.encoding_outcome(*id)?
            }
            Command::Encode { id, anchor } => {
                let mut tools = tools(&self.loaded, &*self.comm, &mut self.index);
                let encoding = self.encodings.get_mut(id).ok_or(EngineError::UnknownContext)?;
                encoding.advance(&mut tools, anchor)?;
                self.encoding_outcome(*id)?
            }
            Command::Step { sequences, layers } => {
                self.serve(sequences, layers.clone())?;
                Outcome::default()
            }
            Command::Keep(id) => {
                let encoding = self.encodings.remove(id).ok_or(EngineError::UnknownContext)?;
                self.contexts.insert(*id, encoding.into_blocks().into());
                Outcome::default()
            }
            Command::Forget(id) => {
                self.encodings.remove(id);
                self.contexts.remove(id);
                self.index.trim();
                Outcome::default()
            }
        };
        outcome.sent = self.comm.bytes_sent() - before;
        Ok(outcome)
    }

    /// How far the context `id` has come.
    fn encoding_outcome(&mut self, id: ContextId) -> Result<Outcome, EngineError> {
        let encoding = self.encodings.get_mut(&id).ok_or(EngineError::UnknownContext)?;
        let (progress, state): (_, EncodingState) =
            (encoding.take_progress(), encoding.state(&self.loaded));
        Ok(Outcome { progress, encoding: Some(state), ..Outcome::default() })
    }

    /// Takes part in a forward pass of the query host.
    fn serve(
        &self,
        sequences: &[(ContextId, Span)],
        layers: std::ops::Range<usize>,
    ) -> Result<(), EngineError> {
        let sequences = sequences
            .iter()
            .map(|(id, span)| Ok((*span, &**self.blocks(*id)?)))
            .collect::<Result<Vec<_>, EngineError>>()?;
        let Loaded { backend, decoder } = &*self.loaded;
        let attending = decoder.config().layers;
        let pass = OthersPass { layers, attending, sequences: &sequences, share: None };
        Ok(serve(backend, &*self.comm, decoder.shape(), pass)?)
    }
}

fn tools<'a, B: Backend>(
    loaded: &'a Loaded<B>,
    comm: &'a dyn Comm<B>,
    index: &'a mut Index<B>,
) -> Tools<'a, B> {
    Tools { loaded, comm, index }
}
