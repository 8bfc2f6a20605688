//! Ring attention (arXiv 2310.01889): every host keeps its queries; keys travel round the hosts,
//! and each host merges attention over the share it holds at the moment. Exact. Whether shards are
//! contiguous or zigzag is the plan's business: a shard is a list of spans.

use super::{Attention, AttentionError, Partial};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::comm::Comm;
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvPrecision, Part, PartMut, Positions, Segment, Sequence};
use std::sync::Arc;

/// Attention of one host's shard over the shards of all hosts.
pub struct RingAttention<'a, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// This host's end of the network.
    pub comm: &'a dyn Comm<B>,
    /// Heads of the model.
    pub shape: HeadShape,
    /// What keys are rounded to.
    pub precision: KvPrecision,
    /// This host's keys, with its spans already opened.
    pub store: &'a mut KvStore<B>,
    /// The spans of every host.
    pub shards: &'a [Vec<Span>],
    /// Looked at between chunks.
    pub cancel: &'a Cancel,
}

/// Attention over the keys met so far, of all own queries.
struct Whole<'a, B: Backend> {
    /// `[tokens, heads, head_dim]`
    out: PartMut<'a, B::Rows>,
    /// `[tokens, heads]`
    lse: PartMut<'a, B::Sums>,
}

impl<B: Backend> RingAttention<'_, B> {
    /// Elements of the keys of a host's shard.
    fn elements(&self, host: usize) -> usize {
        let tokens: usize = self.shards[host].iter().map(|span| span.len).sum();
        tokens * self.shape.kv_width()
    }

    /// Attention of all own queries over one shard's keys: the first goes into `whole`, every
    /// further one is merged.
    fn attend_shard(
        &self,
        q: Part<'_, B::Rows>,
        segments: &[Segment<'_, B>],
        first: bool,
        whole: &mut Whole<'_, B>,
    ) -> Result<(), AttentionError> {
        let (backend, shape) = (self.backend, self.shape);
        let mut offset = 0; // tokens of q before this chunk
        let spans = &self.shards[self.comm.rank()];
        for chunk in spans.iter().flat_map(|span| span.chunks(backend.chunk_tokens())) {
            if self.cancel.is_raised() {
                return Err(AttentionError::Cancelled);
            }
            let range = |width: usize| offset * width..(offset + chunk.len) * width;
            let q = q.slice(range(shape.q_width()));
            let out = whole.out.slice(range(shape.q_width()));
            let lse = whole.lse.slice(range(shape.heads));
            let positions = Positions::From(chunk.start);
            if first {
                let all = Sequence { rows: 0..chunk.len, positions, segments };
                backend.attend(q, shape, &[all], out, lse)?;
            } else if segments.iter().any(|s| s.start < chunk.end()) {
                // Shards that lie wholly after the chunk are seen by none of its queries.
                let all = Sequence { rows: 0..chunk.len, positions, segments };
                let part = Partial::of(backend, q, shape, &[all])?;
                let part_out = Part::new(&part.out, 0..out.len);
                let part_lse = Part::new(&part.lse, 0..lse.len);
                backend.merge(out, lse, part_out, part_lse)?;
            }
            offset += chunk.len;
        }
        Ok(())
    }
}

/// The keys of one shard in one layer, wherever they are stored.
fn segments<'a, B: Backend>(
    shape: HeadShape,
    spans: &[Span],
    keys: &'a B::Kv,
    values: &'a B::Kv,
) -> Vec<Segment<'a, B>> {
    let width = shape.kv_width();
    let mut offset = 0;
    spans
        .iter()
        .map(|span| {
            let range = offset * width..(offset + span.len) * width;
            offset += span.len;
            Segment {
                keys: Part::new(keys, range.clone()),
                values: Part::new(values, range),
                tokens: span.len,
                start: span.start,
                hidden: None,
                kept: None,
            }
        })
        .collect()
}

impl<B: Backend> Attention<B> for RingAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        Ok(self.store.append(self.backend, layer, k, v)?)
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let (rank, hosts, backend) = (self.comm.rank(), self.comm.size(), self.backend);
        let tokens = q.len / self.shape.q_width();
        let mut lse = B::Sums::default();
        backend.sums_at_least(&mut lse, tokens * self.shape.heads)?;
        let lse = PartMut::new(&mut lse, 0..tokens * self.shape.heads);
        let mut whole = Whole::<B> { out, lse };
        if hosts == 1 {
            return self.attend_shard(q, &self.store.segments(layer), true, &mut whole);
        }
        let (keys, values) = self.store.layer_kv(backend, layer, self.precision)?;
        let (mut keys, mut values) = (Arc::new(keys), Arc::new(values));
        for step in 0..hosts {
            let origin = (rank + hosts - step) % hosts;
            let last = step + 1 == hosts;
            if !last {
                // On their way before this host computes, so that the next need not wait.
                let (next, previous) = ((rank + 1) % hosts, (rank + hosts - 1) % hosts);
                let len = self.elements((origin + hosts - 1) % hosts);
                self.comm.shift(next, [&keys, &values], previous, len)?;
            }
            let shard = segments(self.shape, &self.shards[origin], &*keys, &*values);
            self.attend_shard(q, &shard, step == 0, &mut whole)?;
            if !last {
                let previous = (rank + hosts - 1) % hosts;
                let len = self.elements((origin + hosts - 1) % hosts);
                keys = self.comm.recv_kv(previous, len)?;
                values = self.comm.recv_kv(previous, len)?;
            }
        }
        Ok(())
    }
}
