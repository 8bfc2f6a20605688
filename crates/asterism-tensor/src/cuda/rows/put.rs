//! Tables written by a kernel that brings them along.

#![allow(unsafe_code)]

use crate::cuda::kernels::{PUT_THREADS, PUT_WORDS};
use crate::cuda::view::same_length;
use crate::cuda::{Argument, CudaError, Function, ViewMut};
use std::ffi::c_void;

/// Writes tables without waiting, also in a step that is recorded.
#[derive(Clone)]
pub(in crate::cuda) struct Put(pub(super) Function);

/// `struct Words` of the kernel.
#[repr(C)]
struct Words([u32; PUT_WORDS]);

// SAFETY: laid out as the kernel declares it.
unsafe impl Argument for Words {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl Put {
    /// `to = words`, of which there are as many.
    pub(in crate::cuda) fn put(
        &self,
        to: ViewMut<'_, u32>,
        words: &[u32],
    ) -> Result<(), CudaError> {
        same_length("the table", words.len(), to.len())?;
        let mut rest = to;
        for part in words.chunks(PUT_WORDS) {
            let mut all = Words([0; PUT_WORDS]);
            all.0[..part.len()].copy_from_slice(part);
            let (now, later) = rest.split_at(part.len())?;
            rest = later;
            let count = part.len() as i32;
            let blocks = part.len().div_ceil(PUT_THREADS as usize) as u32;
            // SAFETY: the kernel's parameters, in its order; it writes `count` words, as many as
            // `now` has.
            unsafe {
                self.0.launch([blocks, 1, 1], [PUT_THREADS, 1, 1], 0, &[&now, &all, &count])?;
            }
        }
        Ok(())
    }
}
