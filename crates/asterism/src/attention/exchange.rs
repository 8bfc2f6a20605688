//! What every host has some elements of, brought to all others or to the first: where the network
//! knows no better way, by a message from each to each.

use super::AttentionError;
use crate::comm::{Comm, CommError, Message};
use crate::tensor::{Backend, Part, PartMut, TensorError};
use std::ops::Range;
use std::sync::Arc;

/// For each host, the elements of a buffer that it has, in rising order.
pub type Pieces = Vec<Vec<Range<usize>>>;

/// `len` elements for each of `hosts`, one host behind the other.
fn places(hosts: usize, len: usize) -> Pieces {
    let place = |host| std::iter::once(host * len..(host + 1) * len);
    (0..hosts).map(|host| place(host).collect()).collect()
}

/// Of each of `rows` rows of `width` elements, the columns `shares` of the hosts.
#[must_use]
pub fn columns(rows: usize, width: usize, shares: &[Range<usize>]) -> Pieces {
    let of = |share: &Range<usize>| {
        let row = |row: usize| row * width + share.start..row * width + share.end;
        (0..rows).map(row).filter(|piece| !piece.is_empty()).collect()
    };
    shares.iter().map(of).collect()
}

/// Brings what each host has at its place in `rows` and `sums`, which have places of equal size for
/// all of them, to all others.
///
/// # Errors
/// If a message does not arrive, or there is no memory for one.
pub fn gather_all<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    mut rows: Option<PartMut<'_, B::Rows>>,
    mut sums: Option<PartMut<'_, B::Sums>>,
) -> Result<(), AttentionError> {
    let shared = (rows.as_mut().map(PartMut::reborrow), sums.as_mut().map(PartMut::reborrow));
    if comm.gather_all(shared.0, shared.1)? {
        return Ok(());
    }
    let hosts = comm.size();
    let of = |len: usize| places(hosts, len / hosts);
    let pieces = (rows.as_ref().map(|rows| of(rows.len)), sums.as_ref().map(|sums| of(sums.len)));
    // All is on its way before anything is waited for.
    if let (Some(rows), Some(pieces)) = (&rows, &pieces.0) {
        send::<B, InRows>(backend, comm, rows.as_part(), pieces, None)?;
    }
    if let (Some(sums), Some(pieces)) = (&sums, &pieces.1) {
        send::<B, InSums>(backend, comm, sums.as_part(), pieces, None)?;
    }
    if let (Some(rows), Some(pieces)) = (rows, &pieces.0) {
        receive::<B, InRows>(backend, comm, rows, pieces, None)?;
    }
    if let (Some(sums), Some(pieces)) = (sums, &pieces.1) {
        receive::<B, InSums>(backend, comm, sums, pieces, None)?;
    }
    Ok(())
}

/// Brings the `pieces` that each host has of `rows` to all others.
///
/// # Errors
/// As [`gather_all`].
pub fn share_rows<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    mut rows: PartMut<'_, B::Rows>,
    pieces: &Pieces,
) -> Result<(), AttentionError> {
    if comm.share_rows(rows.reborrow(), pieces)? {
        return Ok(());
    }
    send::<B, InRows>(backend, comm, rows.as_part(), pieces, None)?;
    receive::<B, InRows>(backend, comm, rows, pieces, None)
}

/// Brings the `pieces` that each host has of `sums` to the first.
///
/// # Errors
/// As [`gather_all`].
pub fn collect_sums<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    mut sums: PartMut<'_, B::Sums>,
    pieces: &Pieces,
) -> Result<(), AttentionError> {
    if comm.collect_sums(sums.reborrow(), pieces)? {
        return Ok(());
    }
    send::<B, InSums>(backend, comm, sums.as_part(), pieces, Some(0))?;
    receive::<B, InSums>(backend, comm, sums, pieces, Some(0))
}

/// Numbers of one kind, as messages carry them.
trait Kind<B: Backend> {
    type Buffer: Default;
    fn at_least(backend: &B, buffer: &mut Self::Buffer, len: usize) -> Result<(), TensorError>;
    fn put(
        backend: &B,
        from: Part<'_, Self::Buffer>,
        to: PartMut<'_, Self::Buffer>,
    ) -> Result<(), TensorError>;
    fn message(buffer: Self::Buffer) -> Message<B>;
    fn receive(comm: &dyn Comm<B>, from: usize, len: usize)
    -> Result<Arc<Self::Buffer>, CommError>;
}

/// Numbers as the backend computes them.
struct InRows;

impl<B: Backend> Kind<B> for InRows {
    type Buffer = B::Rows;

    fn at_least(backend: &B, buffer: &mut B::Rows, len: usize) -> Result<(), TensorError> {
        backend.rows_at_least(buffer, len)
    }

    fn put(
        backend: &B,
        from: Part<'_, B::Rows>,
        to: PartMut<'_, B::Rows>,
    ) -> Result<(), TensorError> {
        backend.put_rows(from, to)
    }

    fn message(buffer: B::Rows) -> Message<B> {
        Message::Rows(Arc::new(buffer))
    }

    fn receive(comm: &dyn Comm<B>, from: usize, len: usize) -> Result<Arc<B::Rows>, CommError> {
        comm.recv_rows(from, len)
    }
}

/// Sums in f32.
struct InSums;

impl<B: Backend> Kind<B> for InSums {
    type Buffer = B::Sums;

    fn at_least(backend: &B, buffer: &mut B::Sums, len: usize) -> Result<(), TensorError> {
        backend.sums_at_least(buffer, len)
    }

    fn put(
        backend: &B,
        from: Part<'_, B::Sums>,
        to: PartMut<'_, B::Sums>,
    ) -> Result<(), TensorError> {
        backend.put_sums(from, to)
    }

    fn message(buffer: B::Sums) -> Message<B> {
        Message::Sums(Arc::new(buffer))
    }

    fn receive(comm: &dyn Comm<B>, from: usize, len: usize) -> Result<Arc<B::Sums>, CommError> {
        comm.recv_sums(from, len)
    }
}

fn len(pieces: &[Range<usize>]) -> usize {
    pieces.iter().map(Range::len).sum()
}

/// Sends this host's pieces of `all`, as one message, to host `to` or to all others.
fn send<B: Backend, K: Kind<B>>(
    backend: &B,
    comm: &dyn Comm<B>,
    all: Part<'_, K::Buffer>,
    pieces: &Pieces,
    to: Option<usize>,
) -> Result<(), AttentionError> {
    let own = &pieces[comm.rank()];
    if to == Some(comm.rank()) || own.is_empty() {
        return Ok(());
    }
    let (mut buffer, mut at) = (K::Buffer::default(), 0);
    K::at_least(backend, &mut buffer, len(own))?;
    for piece in own {
        let place = PartMut::new(&mut buffer, at..at + piece.len());
        K::put(backend, all.slice(piece.clone()), place)?;
        at += piece.len();
    }
    let message = K::message(buffer);
    match to {
        Some(to) => comm.send(to, message)?,
        None => comm.send_to_others(&message)?,
    }
    Ok(())
}

/// Receives the others' pieces of `all`, if it is this host that they go to.
fn receive<B: Backend, K: Kind<B>>(
    backend: &B,
    comm: &dyn Comm<B>,
    mut all: PartMut<'_, K::Buffer>,
    pieces: &Pieces,
    to: Option<usize>,
) -> Result<(), AttentionError> {
    if to.is_some_and(|to| to != comm.rank()) {
        return Ok(());
    }
    for (from, theirs) in pieces.iter().enumerate() {
        if from == comm.rank() || theirs.is_empty() {
            continue;
        }
        let (part, mut at) = (K::receive(comm, from, len(theirs))?, 0);
        for piece in theirs {
            let came = Part::new(&*part, at..at + piece.len());
            K::put(backend, came, all.slice(piece.clone()))?;
            at += piece.len();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_lie_in_every_row() {
        let pieces = columns(2, 10, &[0..4, 4..4, 4..10]);
        assert_eq!(pieces, [vec![0..4, 10..14], vec![], vec![4..10, 14..20]]);
        let of_two: Vec<_> = places(2, 3).into_iter().flatten().collect();
        assert_eq!(of_two, [0..3, 3..6]);
    }
}
