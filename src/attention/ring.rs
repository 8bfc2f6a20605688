//! Ring attention (arXiv 2310.01889): every host keeps its queries; keys travel round the hosts,
//! and each host merges attention over the share it holds at the moment. Exact. Whether shards are
//! contiguous or zigzag is the plan's business: a shard is a list of spans.

use super::{Attention, AttentionError, Partial};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::comm::{Comm, Message};
use crate::plan::Span;
use crate::tensor::{Cpu, Elements, ElementsView, HeadShape, KvSegment};

/// Queries per call of the kernel: how much work lies between two looks at the cancel flag.
const CHUNK: usize = 512;

/// Attention of one host's shard over the shards of all hosts.
pub struct RingAttention<'a> {
    /// Compute backend.
    pub cpu: &'a Cpu,
    /// This host's end of the network.
    pub comm: &'a dyn Comm,
    /// Heads of the model.
    pub shape: HeadShape,
    /// This host's keys, with its spans already opened.
    pub store: &'a mut KvStore,
    /// The spans of every host.
    pub shards: &'a [Vec<Span>],
    /// Looked at between chunks.
    pub cancel: &'a Cancel,
    /// Called with the number of queries that finished a layer.
    pub progress: &'a (dyn Fn(usize) + 'a),
}

impl RingAttention<'_> {
    /// Merges attention of all own queries over one shard's keys into `whole`.
    fn attend_shard(
        &self,
        q: &[f32],
        segments: &[KvSegment<'_>],
        whole: &mut Partial,
    ) -> Result<(), AttentionError> {
        let (q_width, heads) = (self.shape.q_width(), self.shape.heads);
        let mut offset = 0; // tokens of q before this chunk
        for chunk in self.shards[self.comm.rank()].iter().flat_map(|span| span.chunks(CHUNK)) {
            if self.cancel.is_raised() {
                return Err(AttentionError::Cancelled);
            }
            // Shards that lie wholly after the chunk are seen by none of its queries.
            if segments.iter().any(|s| s.start < chunk.end()) {
                let rows = offset * q_width..(offset + chunk.len) * q_width;
                let part =
                    Partial::of(self.cpu, &q[rows.clone()], chunk.start, self.shape, segments);
                let lse = &mut whole.lse[offset * heads..(offset + chunk.len) * heads];
                self.cpu.merge(&mut whole.out[rows], lse, &part.out, &part.lse);
            }
            offset += chunk.len;
        }
        Ok(())
    }
}

/// The keys of one shard in one layer, wherever they are stored.
fn segments<'a>(
    shape: HeadShape,
    spans: &[Span],
    keys: ElementsView<'a>,
    values: ElementsView<'a>,
) -> Vec<KvSegment<'a>> {
    let width = shape.kv_width();
    let mut offset = 0;
    spans
        .iter()
        .map(|span| {
            let range = offset * width..(offset + span.len) * width;
            offset += span.len;
            KvSegment {
                keys: keys.slice(range.clone()),
                values: values.slice(range),
                tokens: span.len,
                start: span.start,
            }
        })
        .collect()
}

impl Attention for RingAttention<'_> {
    fn attend(
        &mut self,
        layer: usize,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        out: &mut [f32],
    ) -> Result<(), AttentionError> {
        let (rank, hosts) = (self.comm.rank(), self.comm.size());
        let tokens = q.len() / self.shape.q_width();
        let mut whole = Partial::empty(tokens, self.shape);
        self.store.append(self.cpu, layer, k, v);
        let (mut keys, mut values): (Elements, Elements) = self.store.layer_elements(layer);
        for step in 0..hosts {
            let origin = (rank + hosts - step) % hosts;
            let last = step + 1 == hosts;
            if !last {
                // On their way before this host computes, so that the next need not wait.
                let next = (rank + 1) % hosts;
                self.comm.send(next, Message::Elements(keys.clone()))?;
                self.comm.send(next, Message::Elements(values.clone()))?;
            }
            let (k, v) = (keys.view(0..keys.len()), values.view(0..values.len()));
            let shard = segments(self.shape, &self.shards[origin], k, v);
            self.attend_shard(q, &shard, &mut whole)?;
            if !last {
                let previous = (rank + hosts - 1) % hosts;
                keys = self.comm.recv_elements(previous)?;
                values = self.comm.recv_elements(previous)?;
            }
        }
        out.copy_from_slice(&whole.out);
        (self.progress)(tokens);
        Ok(())
    }
}
