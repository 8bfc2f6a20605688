//! Blocks whose keys are pressed: scored when all of them are there, and then only some of them
//! kept.

use super::anchor::Anchor;
use super::layers::{begin, layer};
use super::{Encoding, Tools};
use crate::attention::{AnchorCopy, AnchorKeys, RepeatAttention};
use crate::engine::loaded::Loaded;
use crate::engine::{EngineError, share};
use crate::model::RopeTable;
use crate::plan::Span;
use crate::press::{Repetition, Scorer};
use crate::tensor::Backend;

impl<B: Backend> Encoding<B> {
    /// What scores the keys of the block at `span`, from its first pass on; `None` if all are kept.
    pub(super) fn take_scorer(&mut self, loaded: &Loaded<B>, span: Span) -> Option<Scorer<B>> {
        let press = self.plan.spec.press.filter(|press| press.kept(span.len).is_some())?;
        let begun = self.scorer.take();
        Some(begun.unwrap_or_else(|| {
            let config = loaded.decoder.config();
            let rope = RopeTable::new(&config.rope, config.head_dim);
            let frequencies = rope.inverse_frequencies().into();
            let (shape, precision) = (loaded.shape(), loaded.kv_precision());
            Scorer::new(press, span, loaded.layers(), (shape, precision), frequencies)
        }))
    }

    /// How block `block` is repeated.
    pub(super) fn repetitions(&self, block: usize) -> Vec<Repetition> {
        let span = share::blocks(&self.plan, self.rank)[block][0];
        let own = self.plan.tokens_at(&self.context, span);
        self.prompt.as_ref().map_or_else(Vec::new, |prompt| prompt.repetitions(own, span))
    }

    /// One layer of a pass over the tokens `rows` of repetition `number` of block `block`.
    pub(super) fn repeat_layer(
        &mut self,
        tools: &Tools<'_, B>,
        (block, number): (usize, usize),
        rows: Span,
    ) -> Result<(), EngineError> {
        let loaded = tools.loaded;
        let span = share::blocks(&self.plan, self.rank)[block][0];
        let (backend, shape) = (&loaded.backend, loaded.shape());
        if self.layers_done == 0 {
            let all = self.repetitions(block);
            let Some(repetition) = all.into_iter().nth(number) else { return Ok(()) };
            let tokens = &repetition.tokens;
            if rows.start == 0 {
                self.repeated = Some((repetition.chunk, loaded.store(tokens.len())?));
            }
            let at = Span { start: span.end() + rows.start, len: rows.len };
            begin(loaded, &tokens[rows.range()], &[at], &mut self.work)?;
            if let Some((_, own)) = &mut self.repeated {
                own.open(at);
            }
        }
        let mut scorer = self.take_scorer(loaded, span);
        let anchor = match &self.anchor {
            _ if span.start == 0 || self.plan.anchor == 0 => AnchorKeys::None,
            Anchor::Received(copy) | Anchor::Computed(copy) | Anchor::Kept(copy) => {
                AnchorKeys::Copy(copy)
            }
            Anchor::None | Anchor::Growing(_) => AnchorKeys::None,
        };
        if let (Some(scorer), Some(block), Some((chunk, own))) =
            (&mut scorer, &self.store, &mut self.repeated)
        {
            let mut attention = RepeatAttention {
                backend,
                shape,
                anchor,
                block,
                start: span.start,
                chunk: *chunk,
                own,
                rows: Span { start: span.end() + rows.start, len: rows.len },
                scorer,
            };
            layer(loaded, &mut attention, &self.cancel, &mut self.work)?;
        }
        self.scorer = scorer;
        Ok(())
    }

    /// Presses the keys of the next layer of block `block`.
    pub(super) fn press_layer(
        &mut self,
        loaded: &Loaded<B>,
        block: usize,
    ) -> Result<(), EngineError> {
        if self.cancel.is_raised() {
            return Err(EngineError::Cancelled);
        }
        self.repeated = None;
        let span = share::blocks(&self.plan, self.rank)[block][0];
        let (backend, at) = (&loaded.backend, self.layers_done);
        let Some(kept) = self.plan.kept(span.len) else { return Ok(()) };
        let mut scorer = self.take_scorer(loaded, span);
        if let (Some(scorer), Some(store)) = (&mut scorer, &mut self.store) {
            // In the last layer, where no token of a context attends, hosts do not have the anchor.
            let attends = at < loaded.decoder.config().context_layers();
            let before = match &self.anchor {
                _ if span.start == 0 || self.plan.anchor == 0 || !attends => Vec::new(),
                Anchor::Received(copy) | Anchor::Computed(copy) | Anchor::Kept(copy) => {
                    copy.layer(at)
                }
                Anchor::None | Anchor::Growing(_) => Vec::new(),
            };
            let kept = scorer.choose(backend, at, before, store, kept)?;
            store.press(backend, at, kept)?;
        }
        let is_last = at + 1 == loaded.layers();
        self.scorer = scorer.filter(|_| !is_last);
        Ok(())
    }

    /// Keeps the anchor's keys apart for the host's other blocks, if those of the first block,
    /// which is complete, will be pressed.
    pub(super) fn keep_anchor(&mut self, loaded: &Loaded<B>) -> Result<(), EngineError> {
        let own = share::blocks(&self.plan, self.rank);
        let is_pressed = self.plan.kept(own[0][0].len).is_some();
        if !is_pressed || !self.plan.shares_anchor() || own.len() < 2 {
            return Ok(());
        }
        let Some(first) = &self.store else { return Ok(()) };
        let layers = loaded.decoder.config().context_layers();
        let (shape, precision) = (loaded.shape(), loaded.kv_precision());
        let (backend, tokens) = (&loaded.backend, self.plan.anchor);
        let copy = AnchorCopy::of_first(backend, first, layers, shape, precision, tokens)?;
        self.anchor = Anchor::Kept(copy);
        Ok(())
    }
}
