//! Which token comes next.

use super::Buffers;
use crate::{Part, Sampling, TensorError};

/// A token to be chosen.
pub struct Choice<'a, B: Buffers> {
    /// `[vocab]`
    pub logits: Part<'a, B::Sums>,
    /// How.
    pub sampling: &'a Sampling,
    /// Which tokens were seen before, needed if these are penalized; the chosen one is added.
    pub seen: Option<&'a mut B::Flags>,
    /// A random number below 2^53; of no account where the likeliest is taken.
    pub uniform: u64,
}

/// How tokens are chosen by their logits.
pub trait Choosing: Buffers {
    /// The largest of `sums`, the lower on a tie; `None` if one of them is not finite. Waits for
    /// what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn largest(&self, sums: Part<'_, Self::Sums>) -> Result<Option<u32>, TensorError> {
        self.choose(sums, &Sampling::default(), None, 0)
    }

    /// The token that `sampling` [chooses](Sampling::choose) by its logit and `uniform`, a random
    /// number below 2^53; it is added to those `seen`, which are needed if these are penalized.
    /// `None` if a logit is not finite. Waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn choose(
        &self,
        logits: Part<'_, Self::Sums>,
        sampling: &Sampling,
        seen: Option<&mut Self::Flags>,
        uniform: u64,
    ) -> Result<Option<u32>, TensorError> {
        let chosen = self.choose_all(&mut [Choice { logits, sampling, seen, uniform }])?;
        Ok(chosen.into_iter().next().flatten())
    }

    /// One token for each of `choices`, as [`Self::choose`] takes it: those of all sequences
    /// that decode, in one go. Waits once.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn choose_all(&self, choices: &mut [Choice<'_, Self>])
    -> Result<Vec<Option<u32>>, TensorError>;
}
