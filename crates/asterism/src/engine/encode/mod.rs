//! Phase 1 of one context on one host: a list of forward passes, run a layer at a time, so that
//! other work can be done in between. Keys that were saved are read instead, as slowly.

mod anchor;
mod layers;
mod press;
mod saved;

use super::command::{AnchorNews, EncodingState};
use super::loaded::Loaded;
use super::pace::Pace;
use super::passes::{Pass, passes};
use super::phase1::{Origin, Progress};
use super::{EngineError, memory, share};
use crate::attention::{AnchorCopy, Sparsity};
use crate::cache::{BlockKey, EncodedBlock, Index, KvStore, Ledger, Reservation};
use crate::cancel::Cancel;
use crate::comm::Comm;
use crate::model::Workspace;
use crate::plan::{Plan, Span};
use crate::press::{RepeatPrompt, Scorer};
use crate::saved::Reader;
use crate::tensor::{self, Backend};
use anchor::Anchor;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// A context that is being encoded, as one host sees it.
pub(super) struct Encoding<B: Backend> {
    rank: usize,
    plan: Arc<Plan>,
    /// `[plan.tokens]`
    context: Arc<[u32]>,
    cancel: Cancel,
    work: Workspace<B>,
    /// Passes that are left, in order.
    passes: VecDeque<Pass>,
    /// Layers of the first of them that have run.
    layers_done: usize,
    /// The share or block that is being encoded, from its first pass to its last.
    store: Option<KvStore<B>>,
    /// What scores the keys of that block, if not all will be kept.
    scorer: Option<Scorer<B>>,
    /// The chunk of it that is being repeated, and the keys of the repetition.
    repeated: Option<(Span, KvStore<B>)>,
    /// What asks for it.
    prompt: Option<Arc<RepeatPrompt>>,
    anchor: Anchor<B>,
    /// What the block that is being encoded leaves out.
    sparsity: Sparsity,
    /// Whether the anchor's keys went out to all who need them.
    anchor_sent: bool,
    /// What each of the host's blocks is computed from.
    keys: Vec<BlockKey>,
    /// Blocks that are complete, in order; `None` for those that are still to come.
    blocks: Vec<Option<Arc<EncodedBlock<B>>>>,
    /// Blocks that were there already.
    reused: Vec<usize>,
    /// The keys of the blocks that were not, if they were saved.
    saved: Option<Reader>,
    /// Memory of the blocks to come, and of the passes.
    reservation: Reservation,
    /// Reports of work that the processor may not have done yet.
    unreported: Vec<Progress>,
    pace: Pace<B>,
}

/// What a host is asked to encode.
pub(super) struct Asked {
    pub(super) plan: Arc<Plan>,
    /// `[plan.tokens]`
    pub(super) context: Arc<[u32]>,
    /// Tokens of question and answer that this host must have memory for beside it.
    pub(super) room: usize,
    /// The folder that it was saved in; it is encoded if there is none.
    pub(super) from: Option<PathBuf>,
    /// What asks for blocks to be repeated, if that is what their keys are scored by.
    pub(super) prompt: Option<Arc<RepeatPrompt>>,
    pub(super) cancel: Cancel,
}

/// What an [`Encoding`] works with: its host's, not its own.
pub(super) struct Tools<'a, B: Backend> {
    pub(super) loaded: &'a Loaded<B>,
    pub(super) comm: &'a dyn Comm<B>,
    pub(super) index: &'a mut Index<B>,
}

impl<B: Backend> Encoding<B> {
    /// Plans the passes of this host for what its index does not hold already, and reserves memory
    /// for them.
    ///
    /// # Errors
    /// [`EngineError::NoMemory`]; if it was saved, and is not what was saved.
    pub(super) fn open(
        tools: &mut Tools<'_, B>,
        ledger: &Ledger,
        asked: Asked,
    ) -> Result<Self, EngineError> {
        let Asked { plan, context, room, from, prompt, cancel } = asked;
        let (rank, loaded) = (tools.comm.rank(), tools.loaded);
        let vocab = loaded.decoder.config().vocab;
        let keys = share::keys(&plan, &context, vocab, prompt.as_deref(), rank);
        let spans = share::blocks(&plan, rank);
        let saved = match &from {
            Some(folder) => {
                Some(Reader::open(folder, rank, saved::layout(loaded, &keys, &spans, &plan))?)
            }
            None => None,
        };
        let mut blocks: Vec<_> = keys.iter().map(|key| tools.index.find(*key)).collect();
        if plan.spec.method.as_star().is_none() && plan.hosts.len() > 1 && saved.is_none() {
            // All hosts take part in every pass, so shares can be reused only if all hosts have
            // theirs; they are computed again instead of asking.
            blocks.iter_mut().for_each(|block| *block = None);
        }
        // Others need all keys of the anchor, and a first block that was pressed has some of them.
        let alone = plan.hosts.len() == 1 && blocks.iter().all(Option::is_some);
        if rank == 0
            && saved.is_none()
            && plan.shares_anchor()
            && !alone
            && let Some(first) = blocks.first_mut()
        {
            first.take_if(|first| first.kept_rows().is_some());
        }
        let (reused, missing): (Vec<usize>, Vec<usize>) =
            (0..blocks.len()).partition(|block| blocks[*block].is_some());
        let tokens_of = |block: &usize| spans[*block].iter().map(|span| span.len).sum();
        let kept = missing.iter().map(|block| memory::kept(loaded, &plan, tokens_of(block)));
        let mut bytes = kept.sum::<u64>();
        let passes = match &saved {
            Some(_) => missing.into_iter().map(|block| Pass::Saved { block }).collect(),
            None => {
                bytes += memory::pass(loaded, &plan, rank);
                let repetitions = |block: usize| {
                    let span = spans[block][0];
                    let own = plan.tokens_at(&context, span);
                    prompt.as_ref().map_or_else(Vec::new, |prompt| prompt.repetitions(own, span))
                };
                passes(&plan, rank, loaded.backend.chunk_tokens(), missing, &repetitions)
            }
        };
        let room = memory::keys(loaded, room);
        let mut reservation =
            memory::reserve(loaded, ledger, tools.index, &plan, bytes.saturating_add(room))?;
        // The question reserves its room itself, when it comes.
        drop(reservation.split(room));
        let unreported = reused
            .iter()
            .map(|block| Progress {
                host: rank,
                work: (share::work(&plan, &spans[*block]) * loaded.layers()) as u64,
                finished_block: Some(*block),
                origin: Origin::Reused,
            })
            .collect();
        Ok(Self {
            rank,
            plan,
            context,
            cancel,
            work: loaded.decoder.workspace(&loaded.backend, tensor::Pass::Prefill),
            passes,
            layers_done: 0,
            store: None,
            scorer: None,
            repeated: None,
            prompt,
            anchor: Anchor::None,
            sparsity: Sparsity::default(),
            anchor_sent: false,
            keys,
            blocks,
            reused,
            saved,
            reservation,
            unreported,
            pace: Pace::new(),
        })
    }

    /// What stops it.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// How far this host has come.
    pub(super) fn state(&self, loaded: &Loaded<B>) -> EncodingState {
        let (anchor_comes, anchor_tokens) = self.anchor_comes(loaded);
        EncodingState {
            finished: self.passes.is_empty(),
            needs_anchor: self.needs_anchor(),
            anchor_comes,
            anchor_tokens,
            anchor_sent: self.anchor_sent,
            kv_bytes: self.blocks.iter().flatten().map(|block| block.bytes() as u64).sum(),
            reused: self.reused.clone(),
            is_loaded: self.saved.is_some(),
            sparsity: self
                .blocks
                .iter()
                .flatten()
                .filter_map(|block| block.sparsity())
                .reduce(|a, b| a + b),
        }
    }

    /// Reports of work that is really done.
    pub(super) fn take_progress(&mut self) -> Vec<Progress> {
        let keep = usize::from(self.pace.is_ahead() && !self.passes.is_empty());
        let done = self.unreported.len().saturating_sub(keep);
        self.unreported.drain(..done).collect()
    }

    /// The context's blocks on this host, in order, once all are there.
    pub(super) fn into_blocks(self) -> Vec<Arc<EncodedBlock<B>>> {
        self.blocks.into_iter().flatten().collect()
    }

    /// Runs the next layer of the current pass.
    pub(super) fn advance(
        &mut self,
        tools: &mut Tools<'_, B>,
        anchor: &AnchorNews,
    ) -> Result<(), EngineError> {
        let backend = &tools.loaded.backend;
        let needs_anchor = self.needs_anchor();
        // What came before is enough for a layer that came before. What comes now is on its way
        // meanwhile.
        if !needs_anchor || anchor.sent || self.has_anchor() {
            self.advance_pass(tools, &anchor.to)?;
        }
        if needs_anchor {
            self.receive_anchor(tools, anchor)?;
        }
        Ok(self.pace.layer(backend, self.passes.is_empty())?)
    }

    /// Runs the next layer of the current pass; the first host also sends the anchor's keys in it,
    /// down the chain of hosts `anchor_to`.
    fn advance_pass(
        &mut self,
        tools: &mut Tools<'_, B>,
        anchor_to: &[usize],
    ) -> Result<(), EngineError> {
        self.send_stored_anchor(tools, anchor_to)?;
        let Some(pass) = self.passes.front().cloned() else { return Ok(()) };
        let (tokens, ends) = pass.reported(self.rank, &self.plan);
        self.run_layer(tools, &pass, anchor_to)?;
        self.layers_done += 1;
        let finished = self.layers_done == tools.loaded.layers();
        self.unreported.push(Progress {
            host: self.rank,
            work: tokens as u64,
            finished_block: ends
                .filter(|_| finished && (tokens > 0 || matches!(pass, Pass::Press { .. }))),
            origin: match pass {
                Pass::Saved { .. } => Origin::Loaded,
                _ => Origin::Encoded,
            },
        });
        if finished {
            self.layers_done = 0;
            self.passes.pop_front();
            self.finish(tools, &pass)?;
        }
        Ok(())
    }

    /// One layer of `pass`; the first one also begins it.
    fn run_layer(
        &mut self,
        tools: &Tools<'_, B>,
        pass: &Pass,
        anchor_to: &[usize],
    ) -> Result<(), EngineError> {
        match pass {
            Pass::Anchor { block, chunk, .. } => self.anchor_layer(tools, *block, *chunk),
            Pass::Block { block, chunk, .. } => self.block_layer(tools, *block, *chunk, anchor_to),
            Pass::Shard => self.shard_layer(tools),
            Pass::Dense { owner, chunk, .. } if self.rank == 0 => {
                self.dense_layer(tools, *owner, *chunk)
            }
            Pass::Dense { owner, chunk, .. } => self.others_layer(tools, *owner, *chunk),
            Pass::Repeat { block, number, rows, .. } => {
                self.repeat_layer(tools, (*block, *number), *rows)
            }
            Pass::Press { block } => self.press_layer(tools.loaded, *block),
            Pass::Saved { block } => self.saved_layer(tools.loaded, *block),
        }
    }

    /// What follows the last layer of a pass.
    fn finish(&mut self, tools: &mut Tools<'_, B>, pass: &Pass) -> Result<(), EngineError> {
        let complete = match pass {
            Pass::Anchor { ends, .. } => {
                if *ends
                    && let Anchor::Growing(store) =
                        std::mem::replace(&mut self.anchor, Anchor::None)
                {
                    self.anchor =
                        Anchor::Computed(AnchorCopy::computed(store, tools.loaded.shape()));
                }
                None
            }
            Pass::Block { block, chunk, ends } => {
                let is_first = self.rank == 0 && *block == 0;
                self.anchor_sent |= is_first && chunk.end() >= self.plan.anchor;
                let span = share::blocks(&self.plan, self.rank)[*block][0];
                if is_first && chunk.end() == span.end() {
                    self.keep_anchor(tools.loaded)?;
                }
                ends.then_some(*block)
            }
            Pass::Repeat { .. } => None,
            Pass::Press { block } | Pass::Saved { block } => Some(*block),
            Pass::Shard => Some(0),
            // Every host's share ends with the last pass: until then all of them are read.
            Pass::Dense { .. } => (self.passes.is_empty() && !self.blocks.is_empty()).then_some(0),
        };
        if let Some(block) = complete
            && let Some(store) = self.store.take()
        {
            let key = self.keys[block];
            let reservation = self.reservation.split(store.bytes() as u64);
            let found = std::mem::take(&mut self.sparsity);
            let encoded = EncodedBlock::new(key, store, reservation);
            let encoded = Arc::new(encoded.with_sparsity((found.rows > 0).then_some(found)));
            tools.index.insert(Arc::clone(&encoded));
            self.blocks[block] = Some(encoded);
            if matches!(self.anchor, Anchor::Computed(_)) {
                self.anchor = Anchor::None;
            }
        }
        Ok(())
    }
}
