//! Tokens chosen by their logits.

#![allow(unsafe_code)]

use super::{RowKernels, int};
use crate::Sampling;
use crate::cuda::kernels::{CHOICE_THREADS, CHOICES};
use crate::cuda::view::same_length;
use crate::cuda::{Argument, Buffer, CudaError, View, ViewMut};
use std::ffi::c_void;

/// A token to be chosen.
pub(in crate::cuda) struct RowChoice<'a> {
    pub(in crate::cuda) logits: View<'a, f32>,
    pub(in crate::cuda) sampling: &'a Sampling,
    /// A flag for each token at least.
    pub(in crate::cuda) seen: Option<ViewMut<'a, u8>>,
    pub(in crate::cuda) uniform: u64,
}

/// `struct Row` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawChoice {
    /// Addresses; of the flags, 0 if there are none.
    logits: u64,
    seen: u64,
    uniform: u64,
    vocab: i32,
    top_k: i32,
    penalty: f32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
}

/// `struct Rows` of the kernels.
#[repr(C)]
struct Choices([RawChoice; CHOICES]);

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for Choices {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl RowChoice<'_> {
    fn raw(&mut self) -> Result<RawChoice, CudaError> {
        let (vocab, sampling) = (self.logits.len(), self.sampling);
        if let Some(seen) = &self.seen
            && seen.len() < vocab
        {
            same_length("the tokens seen", vocab, seen.len())?;
        }
        Ok(RawChoice {
            logits: self.logits.pointer,
            seen: self.seen.as_ref().map_or(0, |seen| seen.pointer),
            uniform: self.uniform,
            vocab: int("the number of logits", vocab)?,
            top_k: sampling.top_k.min(vocab) as i32,
            penalty: sampling.repetition_penalty,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
        })
    }
}

impl RowKernels {
    /// The token that each of `choices` takes; `None` if one of its logits is not finite. Waits.
    pub(in crate::cuda) fn choose(
        &self,
        choices: &mut [RowChoice<'_>],
    ) -> Result<Vec<Option<u32>>, CudaError> {
        self.device.not_recording("the choice of a token")?;
        // The likeliest of all rows is found many times faster by its own kernel.
        let largest = choices.iter().all(|choice| choice.sampling.is_largest());
        let kernel = if largest { &self.argmax } else { &self.sample };
        let result = Buffer::<u32>::uninit(&self.device, 2 * choices.len())?;
        for (turn, choices) in choices.chunks_mut(CHOICES).enumerate() {
            let mut rows = Choices([RawChoice::default(); CHOICES]);
            for (raw, choice) in rows.0.iter_mut().zip(choices.iter_mut()) {
                *raw = choice.raw()?;
            }
            let first = 2 * turn * CHOICES;
            let result = result.slice(first..first + 2 * choices.len())?;
            let grid = [choices.len() as u32, 1, 1];
            // SAFETY: the kernel's parameters, in its order: a block for each row, whose logits and
            // flags are as many as it says, and two numbers of the result.
            unsafe { kernel.launch(grid, [CHOICE_THREADS, 1, 1], 0, &[&rows, &result])? };
        }
        let result = result.to_vec()?;
        Ok(result.chunks_exact(2).map(|row| (row[1] == 1).then_some(row[0])).collect())
    }
}
