//! Blocks whose keys were saved: read instead of computed.

use super::Encoding;
use crate::cache::BlockKey;
use crate::engine::loaded::Loaded;
use crate::engine::{EngineError, share};
use crate::plan::{Plan, Span};
use crate::saved::{Layout, StoredBlock};
use crate::tensor::Backend;

/// The layout of a host's blocks in its file: `keys` and, of each, its runs of positions in `plan`.
pub(super) fn layout<B: Backend>(
    loaded: &Loaded<B>,
    keys: &[BlockKey],
    blocks: &[Vec<Span>],
    plan: &Plan,
) -> Layout {
    let stored = |(key, runs): (&BlockKey, &Vec<Span>)| {
        let tokens = runs.iter().map(|span| span.len).sum();
        let kept = plan.kept(tokens).map(|kept| kept * loaded.shape().kv_heads);
        StoredBlock { key: *key, tokens, kept }
    };
    loaded.layout(keys.iter().zip(blocks).map(stored).collect())
}

impl<B: Backend> Encoding<B> {
    /// The next layer of block `block`.
    pub(super) fn saved_layer(
        &mut self,
        loaded: &Loaded<B>,
        block: usize,
    ) -> Result<(), EngineError> {
        if self.cancel.is_raised() {
            return Err(EngineError::Cancelled);
        }
        if self.store.is_none() {
            let runs = &share::blocks(&self.plan, self.rank)[block];
            let tokens = runs.iter().map(|span| span.len).sum();
            // What is kept of a block comes with memory of its own.
            let room = if self.plan.kept(tokens).is_some() { 0 } else { tokens };
            let mut store = loaded.store(room)?;
            runs.iter().for_each(|span| store.open(*span));
            self.store = Some(store);
        }
        let (Some(store), Some(file)) = (&mut self.store, &mut self.saved) else { return Ok(()) };
        let piece = file.piece(block, self.layers_done)?;
        let (backend, layer) = (&loaded.backend, self.layers_done);
        match piece.kept {
            Some(kept) => {
                store.put_kept(backend, layer, loaded.kv_precision(), &piece.kv, kept)?;
            }
            None => store.extend_bytes(backend, layer, &piece.kv)?,
        }
        Ok(())
    }
}
