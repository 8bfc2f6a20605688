//! A forward pass, layer by layer: it may be left between two of them, and gone on with.

use super::stages::Stage;
use super::weights::LayerWeights;
use super::workspace::UnderWay;
use super::{Decoder, ForwardError, Team, Workspace};
use crate::attention::{Attention, AttentionError};
use crate::cancel::Cancel;
use crate::model::ModelConfig;
use crate::plan::Span;
use crate::tensor::{Backend, Part, PartMut, Rotation, SplitQkv};

impl<B: Backend> Decoder<B> {
    /// Begins a forward pass of `tokens` at `positions`: makes room for it in `work`
    /// and writes token ids and positions there. A recording holds the layers but not this. All
    /// layers keep the tokens' keys and values; the first `attending` also attend and have an MLP:
    /// all of them ([`ModelConfig::layers`]) for a question, [`ModelConfig::context_layers`] for a
    /// context, since no later token reads what its last layer would give.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn begin(
        &self,
        backend: &B,
        tokens: &[u32],
        positions: &[u32],
        attending: usize,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let (shape, count) = (self.shape(), tokens.len());
        debug_assert_eq!(count, positions.len());
        let vocab = self.config.vocab;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocab) {
            return Err(ForwardError::UnknownToken { token, vocab });
        }
        let chunk_rows = count.min(backend.linear_rows());
        backend.sums_at_least(&mut work.x, count * self.config.hidden)?;
        backend.sums_at_least(&mut work.angles, count * shape.head_dim)?;
        backend.rows_at_least(&mut work.q, count * shape.q_width())?;
        backend.rows_at_least(&mut work.k, count * shape.kv_width())?;
        backend.rows_at_least(&mut work.v, count * shape.kv_width())?;
        backend.rows_at_least(&mut work.attention, count * shape.q_width())?;
        backend.rows_at_least(&mut work.qkv, chunk_rows * shape.qkv_width())?;
        backend.set_ids(&mut work.ids, tokens, positions)?;
        work.pass = UnderWay { count, attending, next_layer: 0 };
        Ok(())
    }

    /// Runs the pass that [`Decoder::begin`] began through its next `layers` layers, or as many as
    /// are left. Between two calls other passes may run, in workspaces of their own. Returns
    /// whether the pass is finished; its hidden states before the final norm, `[tokens, hidden]`,
    /// are then in `work`, for [`Decoder::head`].
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn advance(
        &self,
        backend: &B,
        layers: usize,
        attention: &mut dyn Attention<B>,
        cancel: &Cancel,
        work: &mut Workspace<B>,
    ) -> Result<bool, ForwardError> {
        self.layers(backend, layers, attention, cancel, None, work)
    }

    /// The next `layers` layers of a pass, with weights that `team` divides, if one does.
    pub(super) fn layers(
        &self,
        backend: &B,
        layers: usize,
        attention: &mut dyn Attention<B>,
        cancel: &Cancel,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<bool, ForwardError> {
        let UnderWay { next_layer, .. } = work.pass;
        if next_layer == 0 {
            self.embed(backend, work)?;
        }
        let end = next_layer.saturating_add(layers).min(self.layers.len());
        for index in next_layer..end {
            self.layer(backend, index, attention, cancel, team, work)?;
        }
        work.pass.next_layer = end;
        Ok(end == self.layers.len())
    }

    /// The residual stream and the angles of a pass.
    fn embed(&self, backend: &B, work: &mut Workspace<B>) -> Result<(), ForwardError> {
        let (shape, count) = (self.shape(), work.pass.count);
        Ok(self.clock.time(backend, Stage::Rest, || {
            let x = PartMut::new(&mut work.x, 0..count * self.config.hidden);
            backend.embed(&self.embedding, &work.ids, x)?;
            let angles = PartMut::new(&mut work.angles, 0..count * shape.head_dim);
            backend.angles(&self.frequencies, &work.ids, angles)
        })?)
    }

    /// One layer of a pass.
    fn layer(
        &self,
        backend: &B,
        index: usize,
        attention: &mut dyn Attention<B>,
        cancel: &Cancel,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let (shape, layer) = (self.shape(), &self.layers[index]);
        let UnderWay { count, attending, .. } = work.pass;
        let chunks = || Span::new(0..count).chunks(backend.linear_rows());
        for chunk in chunks() {
            stop_if(cancel)?;
            self.project(backend, layer, chunk, team, work)?;
        }
        let q = Part::new(&work.q, 0..count * shape.q_width());
        let k = Part::new(&work.k, 0..count * shape.kv_width());
        let v = Part::new(&work.v, 0..count * shape.kv_width());
        self.clock.time(backend, Stage::Attention, || attention.keep(index, k, v))?;
        if index >= attending {
            return Ok(attention.pass_by(index, q)?);
        }
        let out = PartMut::new(&mut work.attention, 0..count * shape.q_width());
        self.clock.time(backend, Stage::Attention, || attention.attend(index, q, out))?;
        for chunk in chunks() {
            stop_if(cancel)?;
            self.finish(backend, layer, chunk, team, work)?;
        }
        Ok(())
    }

    /// Norm, q/k/v projections, q/k norms and rotation of one chunk of rows.
    fn project(
        &self,
        backend: &B,
        layer: &LayerWeights<B>,
        chunk: Span,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let shape = self.shape();
        let (hidden, eps) = (self.config.hidden, self.config.rms_norm_eps);
        let rows = |width: usize| chunk.start * width..chunk.end() * width;
        let x = Part::new(&work.x, rows(hidden));
        let clock = &self.clock;
        clock.time(backend, Stage::Rest, || {
            backend.rms_norm(x, &layer.input_norm, eps, &mut work.input)
        })?;
        let all = 0..chunk.len * shape.qkv_width();
        match team.and_then(|team| Some((team, team.slices.qkv.as_ref()?))) {
            Some((team, shares)) => {
                self.qkv_shared(backend, team, shares, layer, chunk.len, work)?;
            }
            None => {
                let qkv = PartMut::new(&mut work.qkv, all.clone());
                clock.time(backend, Stage::Linear, || {
                    backend.linear(&work.input, &layer.qkv, layer.qkv_bias.as_ref(), qkv)
                })?;
            }
        }
        let rotation = Rotation {
            norms: layer.qk_norms.as_ref().map(|(q, k)| (q, k, eps)),
            angles: Part::new(&work.angles, rows(shape.head_dim)),
        };
        let out = SplitQkv {
            q: PartMut::new(&mut work.q, rows(shape.q_width())),
            k: PartMut::new(&mut work.k, rows(shape.kv_width())),
            v: PartMut::new(&mut work.v, rows(shape.kv_width())),
        };
        Ok(clock.time(backend, Stage::Rest, || {
            backend.split_and_rotate(Part::new(&work.qkv, all), shape, rotation, out)
        })?)
    }

    /// Output projection and MLP of one chunk of rows, added to the residual stream.
    fn finish(
        &self,
        backend: &B,
        layer: &LayerWeights<B>,
        chunk: Span,
        team: Option<&Team<'_, B>>,
        work: &mut Workspace<B>,
    ) -> Result<(), ForwardError> {
        let ModelConfig { hidden, rms_norm_eps, .. } = self.config;
        let q_width = self.shape().q_width();
        let rows = |width: usize| chunk.start * width..chunk.end() * width;
        let Workspace { x, attention, input, gated, parts, .. } = work;
        let clock = &self.clock;
        let mut x = PartMut::new(x, rows(hidden));
        let attended = Part::new(attention, rows(q_width));
        match team.and_then(|team| Some((team, team.slices.output.as_ref()?))) {
            Some((team, shares)) => {
                let buffers = (&mut *input, &mut *parts);
                let x = x.reborrow();
                self.output_shared(backend, team, shares, layer, attended, buffers, x)?;
            }
            None => clock.time(backend, Stage::Linear, || {
                let (w, bias) = (&layer.output, layer.output_bias.as_ref());
                backend.linear_add_rows(attended, input, w, bias, x.reborrow())
            })?,
        }
        clock.time(backend, Stage::Rest, || {
            backend.rms_norm(x.as_part(), &layer.mlp_norm, rms_norm_eps, input)
        })?;
        match team.and_then(|team| Some((team, team.slices.mlp.as_ref()?))) {
            Some((team, shares)) => {
                self.mlp_shared(backend, team, shares, layer, (&*input, gated, parts), x)
            }
            None => Ok(clock.time(backend, Stage::Linear, || {
                backend.linear_gated(input, &layer.gate_up, layer.gate_up_bias.as_ref(), gated)?;
                backend.linear_add(gated, &layer.down, layer.down_bias.as_ref(), x)
            })?),
        }
    }
}

fn stop_if(cancel: &Cancel) -> Result<(), ForwardError> {
    if cancel.is_raised() { Err(AttentionError::Cancelled.into()) } else { Ok(()) }
}
