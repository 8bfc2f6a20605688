//! Uploads of much data: through memory that the device reads by itself while the host copies the
//! next piece.

#![allow(unsafe_code)]

use super::{CudaError, Device, Element, Event, ViewMut};
use crate::cuda::error::check;
use crate::cuda::view::same_length;
use cudarc::driver::sys as driver;
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes that are copied at a time: enough that neither side waits for commands.
const PIECE: usize = 8 << 20;

/// Bytes that one thread of the host copies at least.
const SHARE: usize = 1 << 20;

/// Threads that copy. Reading a mapped file is what takes long, and more do not make it faster.
const THREADS: usize = 8;

/// Two pieces of pinned memory that take turns.
pub(super) struct Staging {
    device: Arc<Device>,
    pieces: [Piece; 2],
    turn: usize,
    threads: usize,
}

/// `PIECE` bytes of pinned memory.
struct Piece {
    device: Arc<Device>,
    memory: *mut c_void,
    /// When the device has read what was put here last.
    read: Option<Event>,
}

// SAFETY: the memory belongs to this alone and is written by who holds it mutably.
unsafe impl Send for Piece {}

impl Staging {
    /// # Errors
    /// The driver's, if there is no memory to pin.
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let pieces = [Piece::new(device)?, Piece::new(device)?];
        Ok(Self { device: Arc::clone(device), pieces, turn: 0, threads })
    }

    /// Copies `from`, which has as many elements as `to`. When this returns, `from` is no longer
    /// needed; `to` is ready for work that is enqueued later.
    ///
    /// # Errors
    /// [`CudaError::Length`]; the driver's.
    pub(super) fn upload<T: Element>(
        &mut self,
        to: ViewMut<'_, T>,
        from: &[T],
    ) -> Result<(), CudaError> {
        same_length("the host's slice", to.len(), from.len())?;
        self.device.not_recording("an upload")?;
        self.device.bind()?;
        // SAFETY: elements are plain numbers, without padding; the slice is read only.
        let bytes =
            unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<u8>(), size_of_val(from)) };
        for (i, from) in bytes.chunks(PIECE).enumerate() {
            let piece = &mut self.pieces[self.turn];
            self.turn = 1 - self.turn;
            copy(piece.free()?, from, self.threads);
            let address = to.pointer + (i * PIECE) as driver::CUdeviceptr;
            // SAFETY: both sides hold as many bytes; the piece is not written again before the
            // event that is recorded behind this.
            check("cuMemcpyHtoDAsync", unsafe {
                let stream = self.device.stream();
                driver::cuMemcpyHtoDAsync_v2(address, piece.memory, from.len(), stream)
            })?;
            piece.read = Some(Event::record(&self.device)?);
        }
        Ok(())
    }
}

impl Piece {
    fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.bind()?;
        let mut memory = std::ptr::null_mut();
        // SAFETY: the context is current; the call writes the address of `PIECE` bytes.
        check("cuMemHostAlloc", unsafe { driver::cuMemHostAlloc(&mut memory, PIECE, 0) })?;
        Ok(Self { device: Arc::clone(device), memory, read: None })
    }

    /// Its memory, once the device has read what was there.
    fn free(&mut self) -> Result<&mut [u8], CudaError> {
        if let Some(read) = self.read.take() {
            read.wait()?;
        }
        // SAFETY: `PIECE` bytes, zeroed by the system or written since, which nobody else uses: the
        // device is done with them.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.cast(), PIECE) })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // If the device failed, it reads no more.
        let _ = self.free();
        if self.device.bind().is_ok() {
            // SAFETY: allocated by `new`, freed once, and the device is done with it.
            let _ = unsafe { driver::cuMemFreeHost(self.memory) };
        }
    }
}

/// Copies `from` to the beginning of `to`.
fn copy(to: &mut [u8], from: &[u8], threads: usize) {
    let to = &mut to[..from.len()];
    let share = from.len().div_ceil(threads).max(SHARE);
    if from.len() <= share {
        return to.copy_from_slice(from);
    }
    std::thread::scope(|scope| {
        for (to, from) in to.chunks_mut(share).zip(from.chunks(share)) {
            scope.spawn(move || to.copy_from_slice(from));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Buffer;
    use crate::cuda::tests::{device, random};
    use rand_xoshiro::rand_core::Rng;

    #[test]
    fn shares_make_the_whole() {
        for len in [0, 1, SHARE, SHARE + 1, 5 * SHARE + 3] {
            let from: Vec<u8> = (0..len).map(|i| (i * 31 / 7) as u8).collect();
            let mut to = vec![0; len + 2];
            copy(&mut to, &from, 3);
            assert!(to[..len] == from && to[len..] == [0, 0], "{len}");
        }
    }

    #[test]
    fn what_is_uploaded_arrives() {
        let Some(device) = device() else { return };
        let (mut random, mut staging) = (random(), Staging::new(&device).unwrap());
        let elements = PIECE / size_of::<u32>();
        for len in [0, 1, elements, 3 * elements + 5] {
            let host: Vec<u32> = (0..len).map(|_| random.next_u32()).collect();
            let mut buffer = Buffer::uninit(&device, len).unwrap();
            staging.upload(buffer.view_mut(), &host).unwrap();
            assert!(buffer.to_vec().unwrap() == host, "{len}");
        }
        let mut short = Buffer::<u32>::uninit(&device, 1).unwrap();
        assert!(staging.upload(short.view_mut(), &[]).is_err());
    }
}
