//! What the query host has the other hosts do in a layer: attend over the keys they hold.

use super::AttentionError;
use crate::comm::{Comm, Message};
use crate::tensor::{Backend, Memory, Part, PartMut};
use std::sync::Arc;

/// Sends the queries `q [tokens, heads, head_dim]` to the other hosts, if there are any. It goes
/// before the query host attends over its own keys, so that all work at once.
///
/// # Errors
/// If another host stopped, or there is no memory for a copy.
pub(super) fn ask<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    q: Part<'_, B::Rows>,
) -> Result<(), AttentionError> {
    if comm.size() > 1 {
        comm.send_to_others(&Message::Rows(Arc::new(backend.copy_rows(q)?)))?;
    }
    Ok(())
}

/// Merges what the other hosts send back into `out [tokens, heads, head_dim]` and `lse [tokens,
/// heads]`, in the order of their ranks.
///
/// # Errors
/// If another host stopped, or sends something else.
pub(super) fn merge<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    mut out: PartMut<'_, B::Rows>,
    mut lse: PartMut<'_, B::Sums>,
) -> Result<(), AttentionError> {
    for from in (0..comm.size()).filter(|from| *from != comm.rank()) {
        let part = comm.recv_rows(from, out.len)?;
        let part_lse = comm.recv_sums(from, lse.len)?;
        let (part, part_lse) =
            (Part::new(&*part, 0..part.len()), Part::new(&*part_lse, 0..part_lse.len()));
        backend.merge(out.reborrow(), lse.reborrow(), part, part_lse)?;
    }
    Ok(())
}
