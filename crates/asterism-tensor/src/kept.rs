//! Which keys of a run of tokens are there, where every head has its own.

use std::ops::Range;

/// The tokens, of a run of consecutive ones, whose keys and values each KV head keeps. What is kept
/// lies head after head: `[rows, head_dim]`, within a head in the order of the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKeys {
    /// Tokens of the run.
    tokens: usize,
    /// `[kv_heads + 1]`: where the rows of each head begin, and where the last ones end.
    offsets: Vec<u32>,
    /// `[rows]`: the token of each row, counted from the run's first.
    indices: Vec<u32>,
}

impl KeptKeys {
    /// Of a run of `tokens` tokens, for each KV head those that it keeps: `None` unless they ascend
    /// and are tokens of the run.
    #[must_use]
    pub fn new(tokens: usize, heads: &[Vec<u32>]) -> Option<Self> {
        let lengths: Vec<u32> = heads.iter().map(|head| head.len() as u32).collect();
        Self::from_rows(tokens, &lengths, heads.concat())
    }

    /// The same, from how many tokens each head keeps and all of these, `indices [rows]`.
    #[must_use]
    pub fn from_rows(tokens: usize, lengths: &[u32], indices: Vec<u32>) -> Option<Self> {
        let mut offsets = vec![0u32];
        for length in lengths {
            offsets.push(offsets.last()?.checked_add(*length)?);
        }
        let kept = Self { tokens, offsets, indices };
        let ascends = |head: &[u32]| head.is_sorted_by(|a, b| a < b);
        let inside = |head: &[u32]| head.last().is_none_or(|last| (*last as usize) < tokens);
        let is_whole = kept.offsets.last().is_some_and(|end| *end as usize == kept.indices.len());
        let is_kept = |head| ascends(kept.head(head)) && inside(kept.head(head));
        (is_whole && (0..kept.kv_heads()).all(is_kept)).then_some(kept)
    }

    /// Tokens of the run.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// KV heads.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Keys of all heads.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.indices.len()
    }

    /// The rows of KV head `head`.
    #[must_use]
    pub fn range(&self, head: usize) -> Range<usize> {
        self.offsets[head] as usize..self.offsets[head + 1] as usize
    }

    /// The tokens that KV head `head` keeps, counted from the run's first.
    #[must_use]
    pub fn head(&self, head: usize) -> &[u32] {
        &self.indices[self.range(head)]
    }

    /// `[kv_heads + 1]`: where the rows of each head begin, and where the last ones end.
    #[must_use]
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// `[rows]`: the token of each row, counted from the run's first.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// Which rows of keys `[tokens, kv_heads, head_dim]` are kept, in the order in which they are.
    #[must_use]
    pub fn rows_of_all(&self) -> Vec<u32> {
        let heads = self.kv_heads();
        let of =
            |head| self.head(head).iter().map(move |token| *token * heads as u32 + head as u32);
        (0..heads).flat_map(of).collect()
    }

    /// Bytes that a table of as many heads and rows takes.
    #[must_use]
    pub const fn table_bytes(kv_heads: usize, rows: usize) -> usize {
        size_of::<u32>() * (kv_heads + 1 + rows)
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        Self::table_bytes(self.kv_heads(), self.rows())
    }
}

impl AsRef<Self> for KeptKeys {
    fn as_ref(&self) -> &Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_head_after_head() {
        let kept = KeptKeys::new(6, &[vec![0, 4], vec![], vec![1, 2, 5]]).unwrap();
        assert_eq!((kept.tokens(), kept.kv_heads(), kept.rows()), (6, 3, 5));
        assert_eq!((kept.range(1), kept.range(2)), (2..2, 2..5));
        assert_eq!(kept.head(2), [1, 2, 5]);
        assert_eq!(kept.rows_of_all(), [0, 12, 5, 8, 17]);
        assert_eq!(kept.bytes(), 4 * 9);
        let again = KeptKeys::from_rows(6, &[2, 0, 3], kept.indices().to_vec());
        assert_eq!(again, Some(kept));
    }

    #[test]
    fn what_is_no_choice_of_tokens_is_refused() {
        assert_eq!(KeptKeys::new(3, &[vec![0, 3]]), None);
        assert_eq!(KeptKeys::new(3, &[vec![1, 1]]), None);
        assert_eq!(KeptKeys::new(3, &[vec![2, 1]]), None);
        assert_eq!(KeptKeys::from_rows(3, &[2, 1], vec![0, 1]), None);
        assert_eq!(KeptKeys::from_rows(3, &[u32::MAX, 2], vec![0]), None);
    }
}
