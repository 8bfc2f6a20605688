//! Exact attention over the keys of all hosts: phase 2 of Star Attention (paper, section 2.2), and
//! dense prefill with keys spread over hosts.
//!
//! The query host (rank 0) runs the model. In each layer it sends the queries to the other hosts,
//! which attend over the keys they hold and send back a [`Partial`]; the query host merges. The
//! paper runs the query through the model on every host instead; the result is the same, and
//! running it once leaves the other hosts' cores and memory bandwidth free.
//!
//! What a query sees is decided by positions alone, on every host alike.

use super::{Attention, AttentionError, Partial};
use crate::cache::KvStore;
use crate::comm::{Comm, CommError, Message};
use crate::plan::Span;
use crate::tensor::{Cpu, Elements, HeadShape, Precision};

/// Attention on the query host.
pub struct GlobalAttention<'a> {
    cpu: &'a Cpu,
    comm: &'a dyn Comm,
    shape: HeadShape,
    store: &'a mut KvStore,
    precision: Precision,
    chunk: Span,
    owner: usize,
    /// `[tokens, heads]`: of the keys merged so far
    lse: Vec<f32>,
}

impl<'a> GlobalAttention<'a> {
    /// Begins a forward pass of the tokens at `chunk`, whose keys `owner` keeps, and tells the
    /// other hosts.
    ///
    /// # Errors
    /// If another host stopped.
    pub fn begin(
        cpu: &'a Cpu,
        comm: &'a dyn Comm,
        shape: HeadShape,
        store: &'a mut KvStore,
        precision: Precision,
        chunk: Span,
        owner: usize,
    ) -> Result<Self, AttentionError> {
        let step = Message::Words(vec![chunk.start as u64, chunk.len as u64, owner as u64]);
        comm.send_to_others(&step)?;
        if owner == comm.rank() {
            store.open(chunk);
        }
        let lse = vec![0.0; chunk.len * shape.heads];
        Ok(Self { cpu, comm, shape, store, precision, chunk, owner, lse })
    }
}

impl Attention for GlobalAttention<'_> {
    fn attend(
        &mut self,
        layer: usize,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        out: &mut [f32],
    ) -> Result<(), AttentionError> {
        let Self { cpu, comm, shape, .. } = *self;
        if self.owner == comm.rank() {
            self.store.append(cpu, layer, k, v);
        } else {
            let rounded = |x| Message::Elements(Elements::from_f32(self.precision, x));
            comm.send(self.owner, rounded(k))?;
            comm.send(self.owner, rounded(v))?;
        }
        // Queries go out before this host attends over its own keys, so that all work at once.
        if comm.size() > 1 {
            comm.send_to_others(&Message::Floats(q.to_vec()))?;
        }
        let segments = self.store.segments(layer);
        cpu.attend(q, self.chunk.start, shape, &segments, out, &mut self.lse);
        for from in (0..comm.size()).filter(|from| *from != comm.rank()) {
            let part = comm.recv_floats(from, out.len())?;
            let part_lse = comm.recv_floats(from, self.lse.len())?;
            cpu.merge(out, &mut self.lse, &part, &part_lse);
        }
        Ok(())
    }
}

/// Tells the other hosts that there is no further forward pass: [`serve`] returns.
///
/// # Errors
/// If another host stopped.
pub fn announce_end(comm: &dyn Comm) -> Result<(), CommError> {
    comm.send_to_others(&Message::Words(Vec::new()))
}

/// What every host but the query host does: attends over its keys for each layer of each forward
/// pass, until the query host says that it is done.
///
/// # Errors
/// If another host stopped, or the query host sends something else than expected.
pub fn serve(
    cpu: &Cpu,
    comm: &dyn Comm,
    layers: usize,
    shape: HeadShape,
    store: &mut KvStore,
) -> Result<(), AttentionError> {
    loop {
        let step = comm.recv_words(0)?;
        let [start, len, owner] = step[..] else {
            return match step.len() {
                0 => Ok(()),
                _ => {
                    let rank = comm.rank();
                    Err(CommError::Unexpected { rank, from: 0, expected: "a step" }.into())
                }
            };
        };
        let chunk = Span { start: start as usize, len: len as usize };
        let owns = owner as usize == comm.rank();
        if owns {
            store.open(chunk);
        }
        for layer in 0..layers {
            if owns {
                let (keys, values) = (comm.recv_elements(0)?, comm.recv_elements(0)?);
                store.append_elements(
                    layer,
                    keys.view(0..keys.len()),
                    values.view(0..values.len()),
                );
            }
            let q = comm.recv_floats(0, chunk.len * shape.q_width())?;
            let part = Partial::of(cpu, &q, chunk.start, shape, &store.segments(layer));
            comm.send(0, Message::Floats(part.out))?;
            comm.send(0, Message::Floats(part.lse))?;
        }
    }
}
