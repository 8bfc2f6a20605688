//! Parts of weight matrices: what a host multiplies of weights that all hosts have.

use std::ops::Range;

/// Some outputs of a matrix `[outputs, inputs]`, by some of its inputs. Of a
/// [pair](crate::Buffers::pair), the same outputs of both.
#[derive(Debug)]
pub struct Slab<'a, M> {
    /// The whole matrix.
    pub of: &'a M,
    /// Which of its outputs.
    pub outputs: Range<usize>,
    /// Which of its inputs: from a multiple of [`GRAIN`] to another, or to the last.
    pub inputs: Range<usize>,
}

/// Where slabs may begin: weights are packed, or read, so many inputs at a time; outputs of gates
/// become inputs.
pub const GRAIN: usize = 32;
