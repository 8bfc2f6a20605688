//! Blocks whose keys were saved: read instead of computed.

use super::Encoding;
use crate::cache::BlockKey;
use crate::engine::loaded::Loaded;
use crate::engine::{EngineError, share};
use crate::plan::Span;
use crate::saved::Layout;
use crate::tensor::Backend;

/// The layout of a host's blocks in its file: `keys` and, of each, its runs of positions.
pub(super) fn layout<B: Backend>(
    loaded: &Loaded<B>,
    keys: &[BlockKey],
    blocks: &[Vec<Span>],
) -> Layout {
    let tokens = blocks.iter().map(|runs| runs.iter().map(|span| span.len).sum());
    loaded.layout(keys.iter().copied().zip(tokens).collect())
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
            let mut store = loaded.store(runs.iter().map(|span| span.len).sum())?;
            runs.iter().for_each(|span| store.open(*span));
            self.store = Some(store);
        }
        let (Some(store), Some(file)) = (&mut self.store, &mut self.saved) else { return Ok(()) };
        let piece = file.piece(block, self.layers_done)?;
        Ok(store.extend_bytes(&loaded.backend, self.layers_done, &piece)?)
    }
}
