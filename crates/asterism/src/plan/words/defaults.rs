//! What a method is without its settings.

/// What a word that leaves star's block or anchor out means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defaults {
    /// Blocks of 4,096 tokens and an anchor as long as the block, as in the paper's code: what
    /// evaluations compare.
    Paper,
    /// A quarter of the context, from 1,024 to 32,768 tokens, and a quarter of the block: what
    /// suits a text of any length.
    Any,
}

impl Defaults {
    /// Tokens of a block of a context of `tokens` tokens.
    pub(super) fn block(self, tokens: usize) -> usize {
        match self {
            Self::Paper => 4096,
            Self::Any => tokens.div_ceil(4).clamp(1 << 10, 32 << 10),
        }
    }

    /// Tokens of the anchor before blocks of `block` tokens.
    pub(super) fn anchor(self, block: usize) -> usize {
        match self {
            Self::Paper => block,
            Self::Any => block / 4,
        }
    }
}
