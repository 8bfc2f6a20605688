//! Decode steps whose weights several hosts divide: each multiplies with its slices, and all go on
//! with what they found together. Attention is whole on every host, over the keys that it holds.

use super::stages::Stage;
use super::weights::LayerWeights;
use super::{Decoder, ForwardError, Team, Workspace};
use crate::attention::{Attention, collect_sums, columns, share_rows};
use crate::cancel::Cancel;
use crate::tensor::{Backend, Part, PartMut, Slab, TensorError};
use std::ops::Range;

impl<B: Backend> Decoder<B> {
    /// Makes room for what the hosts of a team of `hosts` exchange in a pass of `rows` tokens, and
    /// for its logits, which must not be done while a step is recorded.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn reserve_shared(
        &self,
        backend: &B,
        hosts: usize,
        rows: usize,
        work: &mut Workspace<B>,
    ) -> Result<(), TensorError> {
        let rows_at_once = rows.min(backend.linear_rows());
        let parts = hosts * rows_at_once * self.config().hidden;
        backend.sums_at_least(&mut work.parts, parts)?;
        self.reserve_logits(backend, rows, work)
    }

    /// [`Decoder::advance`] by all layers, as all hosts of `team` do it together. All end with the
    /// same residual stream, to the last bit.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn advance_shared(
        &self,
        backend: &B,
        team: &Team<'_, B>,
        attention: &mut dyn Attention<B>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        self.layers(backend, usize::MAX, attention, &Cancel::new(), Some(team), work).map(drop)
    }

    /// [`Decoder::head`], as all hosts of `team` do it together: the first gets all logits, others
    /// have their own.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn head_shared(
        &self,
        backend: &B,
        rows: usize,
        team: &Team<'_, B>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let Some(shares) = &team.slices.vocab else {
            return match team.comm.rank() {
                0 => Ok(self.head(backend, rows, work)?),
                _ => Ok(()),
            };
        };
        self.norm_last(backend, rows, work)?;
        let (hidden, vocab) = (self.config().hidden, self.config().vocab);
        let outputs = team.own(shares);
        if !outputs.is_empty() {
            // From the first of this host's logits of the first row to its last of the last.
            let own = outputs.start..(rows - 1) * vocab + outputs.end;
            let slab = Slab { of: &self.head, outputs, inputs: 0..hidden };
            let logits = PartMut::new(&mut work.logits, own);
            self.clock.time(backend, Stage::Linear, || {
                backend.slab_sums(&work.input, slab, None, logits, vocab)
            })?;
        }
        let logits = PartMut::new(&mut work.logits, 0..rows * vocab);
        Ok(collect_sums(backend, team.comm, logits, &columns(rows, vocab, shares))?)
    }

    /// The projection of the rows in `work.input` to queries, keys and values.
    pub(super) fn qkv_shared(
        &self,
        backend: &B,
        team: &Team<'_, B>,
        shares: &[Range<usize>],
        layer: &LayerWeights<B>,
        rows: usize,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let (width, outputs) = (self.shape().qkv_width(), team.own(shares));
        if !outputs.is_empty() {
            let own = outputs.start..(rows - 1) * width + outputs.end;
            let slab = Slab { of: &layer.qkv, outputs, inputs: 0..self.config().hidden };
            let qkv = PartMut::new(&mut work.qkv, own);
            self.clock.time(backend, Stage::Linear, || {
                backend.slab(&work.input, slab, layer.qkv_bias.as_ref(), qkv, width)
            })?;
        }
        let qkv = PartMut::new(&mut work.qkv, 0..rows * width);
        Ok(share_rows(backend, team.comm, qkv, &columns(rows, width, shares))?)
    }

    /// The output projection of `attended [rows, heads, head_dim]`, added to `x`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn output_shared(
        &self,
        backend: &B,
        team: &Team<'_, B>,
        shares: &[Range<usize>],
        layer: &LayerWeights<B>,
        attended: Part<'_, B::Rows>,
        (input, parts): (&mut B::Activations, &mut B::Sums),
        x: PartMut<'_, B::Sums>,
    ) -> Result<(), ForwardError> {
        let own = PartMut::new(parts, team.place(x.len));
        let hidden = self.config().hidden;
        let slab = Slab { of: &layer.output, outputs: 0..hidden, inputs: team.own(shares) };
        let bias = team.once(layer.output_bias.as_ref());
        self.clock.time(backend, Stage::Linear, || {
            backend.slab_sums_rows(attended, input, slab, bias, own)
        })?;
        Ok(team.add_up(backend, parts, x)?)
    }

    /// The MLP of the rows in `input`, added to `x`.
    pub(super) fn mlp_shared(
        &self,
        backend: &B,
        team: &Team<'_, B>,
        shares: &[Range<usize>],
        layer: &LayerWeights<B>,
        (input, gated, parts): (&B::Activations, &mut B::Activations, &mut B::Sums),
        x: PartMut<'_, B::Sums>,
    ) -> Result<(), ForwardError> {
        let (hidden, own) = (self.config().hidden, team.own(shares));
        let gate_up = Slab { of: &layer.gate_up, outputs: own.clone(), inputs: 0..hidden };
        let down = Slab { of: &layer.down, outputs: 0..hidden, inputs: own };
        let bias = team.once(layer.down_bias.as_ref());
        let sums = PartMut::new(&mut *parts, team.place(x.len));
        self.clock.time(backend, Stage::Linear, || {
            backend.slab_gated(input, gate_up, layer.gate_up_bias.as_ref(), gated)?;
            backend.slab_sums(gated, down, bias, sums, hidden)
        })?;
        Ok(team.add_up(backend, parts, x)?)
    }
}
