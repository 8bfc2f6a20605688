//! Attention over some tiles of the keys, and the weights that these are chosen by.

use super::{Buffers, Sequence};
use crate::{Grain, HeadShape, Part, PartMut, TensorError, TileMask};
use std::ops::Range;

/// Block-sparse attention.
pub trait SparseAttention: Buffers {
    /// Block-sparse attention of `sequence`, whose keys are not hidden: as
    /// [`attend`](super::Attention::attend), over those keys that `mask` says.
    ///
    /// # Errors
    /// If the processor fails, or cannot: keys in 8 bits.
    ///
    /// # Panics
    /// If `mask` was made for other numbers of heads or tiles.
    fn attend_tiles(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        out: PartMut<'_, Self::Rows>,
        lse: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Softmax weights of the rows of `sequence`, which are the last of its keys, summed for each
    /// query head into `vertical [heads, keys]`, over the rows, by key, and into `slash [heads,
    /// keys]`, over rows and keys, by how many keys a key is before the row's own. `lse [tokens,
    /// heads]` is that of attention over all keys.
    ///
    /// # Errors
    /// As [`Self::attend_tiles`].
    ///
    /// # Panics
    /// If there are more rows than keys.
    fn lines(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Self::Sums>,
        vertical: PartMut<'_, Self::Sums>,
        slash: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Estimated softmax weight of every [tile](crate::TileMask) of keys for every tile of the rows
    /// of `sequence` and each query head, summed over the rows of the grid that `grain` says: fills
    /// `sums [heads, query tiles, key tiles]`, with 0 where no row sees a key. A row of the grid
    /// sees what does not begin behind its last token.
    ///
    /// # Errors
    /// As [`Self::attend_tiles`].
    fn tile_mass(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        sums: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Of each row of `weights [heads, query tiles, key tiles]`, which tiles hold `share` of it:
    /// the first and `own`, those of its query tile, whatever they weigh; then the heaviest until
    /// the share is reached, and all that weigh as much as the last of them. Tiles behind `own`
    /// weigh nothing. Gives a bit for each tile of keys, `[heads, query tiles, key tiles / 32]`,
    /// the lowest of a word first; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    ///
    /// # Panics
    /// If there are not as many weights.
    fn heaviest(
        &self,
        weights: Part<'_, Self::Sums>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>, TensorError>;
}
