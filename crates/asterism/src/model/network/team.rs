//! Hosts that divide the weights of decode steps.

use crate::attention::{AttentionError, gather_all};
use crate::comm::Comm;
use crate::plan::Slices;
use crate::tensor::{Backend, Part, PartMut};
use std::ops::Range;

/// Hosts that divide the weights, seen from one of them.
pub struct Team<'a, B: Backend> {
    /// This host's end of the network.
    pub comm: &'a dyn Comm<B>,
    /// What each multiplies with.
    pub slices: &'a Slices,
}

impl<B: Backend> Team<'_, B> {
    /// This host's share among `shares`.
    pub(super) fn own(&self, shares: &[Range<usize>]) -> Range<usize> {
        shares[self.comm.rank()].clone()
    }

    /// `bias`, on the host that adds it: it must be added once.
    pub(super) fn once<'b>(&self, bias: Option<&'b B::Vector>) -> Option<&'b B::Vector> {
        bias.filter(|_| self.comm.rank() == 0)
    }

    /// This host's place among partial sums of `len` elements each.
    pub(super) fn place(&self, len: usize) -> Range<usize> {
        self.comm.rank() * len..(self.comm.rank() + 1) * len
    }

    /// Adds what every host has at its place in `parts` to `x`. In the order of ranks on every
    /// host, so that all have the same bits, whatever the number of rows: a reduction on the way
    /// would add in an order of its own, and takes no fewer steps for so few numbers.
    pub(super) fn add_up(
        &self,
        backend: &B,
        parts: &mut B::Sums,
        x: PartMut<'_, B::Sums>,
    ) -> Result<(), AttentionError> {
        let all = self.comm.size() * x.len;
        gather_all(backend, self.comm, None, Some(PartMut::new(parts, 0..all)))?;
        Ok(backend.add_rows(Part::new(parts, 0..all), x, false)?)
    }
}
