//! The anchor's keys on their way from the first host to those who encode blocks behind them.

use super::{Encoding, Tools};
use crate::attention::{AnchorCopy, Publish};
use crate::cache::KvStore;
use crate::engine::EngineError;
use crate::engine::command::AnchorNews;
use crate::engine::loaded::Loaded;
use crate::engine::passes::Pass;
use crate::plan::Plan;
use crate::tensor::Backend;

/// The anchor's keys on a host that does not have the first block.
pub(super) enum Anchor<B: Backend> {
    None,
    /// Sent by the first host.
    Received(AnchorCopy<B>),
    /// Being recomputed for the next block.
    Growing(KvStore<B>),
    /// Recomputed for this block.
    Computed(AnchorCopy<B>),
    /// Of the first block, which is on this host and whose own keys are pressed.
    Kept(AnchorCopy<B>),
}

impl<B: Backend> Encoding<B> {
    /// Whether this host waits for the anchor's keys from the first host.
    pub(super) fn needs_anchor(&self) -> bool {
        let computes = self.passes.iter().any(|pass| !matches!(pass, Pass::Saved { .. }));
        self.plan.shares_anchor() && self.rank > 0 && computes
    }

    /// Messages with keys of the anchor that this host sends during its next slice, and the tokens
    /// in each of them.
    pub(super) fn anchor_comes(&self, loaded: &Loaded<B>) -> (usize, usize) {
        let layers = loaded.decoder.config().context_layers();
        let first = self.blocks.first().is_some_and(Option::is_some);
        match self.passes.front() {
            _ if self.rank > 0 || self.anchor_sent || !self.plan.shares_anchor() => (0, 0),
            _ if first => (layers, self.plan.anchor),
            Some(Pass::Block { block: 0, chunk, .. }) => {
                let tokens = self.plan.anchor.saturating_sub(chunk.start).min(chunk.len);
                (usize::from(tokens > 0 && self.layers_done < layers), tokens)
            }
            _ => (0, 0),
        }
    }

    /// Whether the anchor's keys are here for the next layer of the current pass.
    pub(super) fn has_anchor(&self) -> bool {
        match &self.anchor {
            Anchor::Received(copy) => copy.has(self.layers_done, self.plan.anchor),
            _ => false,
        }
    }

    /// Takes the messages with keys of the anchor that come during this command from the host
    /// before this one in their chain, and passes them on to the one behind it.
    pub(super) fn receive_anchor(
        &mut self,
        tools: &Tools<'_, B>,
        news: &AnchorNews,
    ) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        let AnchorNews { ref to, comes: count, tokens, .. } = *news;
        let place = to.iter().position(|host| *host == self.rank).unwrap_or(0);
        let before = place.checked_sub(1).map_or(0, |before| to[before]);
        let neighbours = (before, to.get(place + 1).copied());
        if count > 0 && matches!(self.anchor, Anchor::None) {
            let (layers, precision) =
                (loaded.decoder.config().context_layers(), loaded.kv_precision());
            let (backend, shape) = (&loaded.backend, loaded.shape());
            let copy = AnchorCopy::received(backend, layers, shape, precision, self.plan.anchor)?;
            self.anchor = Anchor::Received(copy);
        }
        if let Anchor::Received(copy) = &mut self.anchor {
            (0..count).try_for_each(|_| copy.receive(&loaded.backend, comm, tokens, neighbours))?;
        }
        Ok(())
    }

    /// Sends the anchor's keys from the first block, if this host found that instead of encoding
    /// it.
    pub(super) fn send_stored_anchor(
        &mut self,
        tools: &Tools<'_, B>,
        anchor_to: &[usize],
    ) -> Result<(), EngineError> {
        if self.rank > 0 || self.anchor_sent || anchor_to.is_empty() {
            return Ok(());
        }
        let Some(Some(first)) = self.blocks.first() else { return Ok(()) };
        let Loaded { backend, .. } = tools.loaded;
        let publish = publish(&self.plan, tools.loaded, anchor_to);
        publish.stored(backend, tools.comm, tools.loaded.shape(), first)?;
        self.anchor_sent = true;
        Ok(())
    }
}

/// What the first host sends of the anchor.
pub(super) fn publish<'a, B: Backend>(
    plan: &Plan,
    loaded: &Loaded<B>,
    to: &'a [usize],
) -> Publish<'a> {
    Publish {
        anchor: plan.anchor,
        to,
        precision: loaded.kv_precision(),
        layers: loaded.decoder.config().context_layers(),
    }
}
