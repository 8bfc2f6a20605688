//! Launches of the kernels that work row by row.
//!
//! * `layer`: what of a decoder layer is neither a matrix product nor attention
//! * `cached`: keys and values into caches, and out of them
//! * `sums`: rows that become one
//! * `choose`: tokens by their logits
//! * `put`: tables

#![allow(unsafe_code)]

mod cached;
mod choose;
mod layer;
mod put;
mod sums;

use super::kernels::ROWS;
use super::{Argument, CudaError, Device, Function, Module};
pub(super) use choose::RowChoice;
pub(super) use put::Put;
use std::ffi::CStr;
use std::sync::Arc;

/// The loaded kernels.
pub(super) struct RowKernels {
    device: Arc<Device>,
    embed: Function,
    angles: Function,
    rms_norm: Function,
    split_rotate: Function,
    silu_mul: Function,
    add_bias_bf16: Function,
    add_bias_f32: Function,
    merge: Function,
    merge_all: Function,
    argmax: Function,
    sample: Function,
    add_rows: Function,
    gather: Function,
    append: Function,
    append_fp8: Function,
    unpack_fp8: Function,
    /// For [`Flash`](super::flash::Flash).
    pub(super) combine: Function,
    pub(super) put: Put,
}

impl RowKernels {
    /// Compiles them.
    pub(super) fn compile(device: &Arc<Device>) -> Result<Self, CudaError> {
        let module = Module::compile(device, ROWS.name, &ROWS.text(), &[])?;
        let function = |name: &CStr| module.function(name);
        Ok(Self {
            device: Arc::clone(device),
            embed: function(c"embed")?,
            angles: function(c"angles")?,
            rms_norm: function(c"rms_norm")?,
            split_rotate: function(c"split_rotate")?,
            silu_mul: function(c"silu_mul")?,
            add_bias_bf16: function(c"add_bias_bf16")?,
            add_bias_f32: function(c"add_bias_f32")?,
            merge: function(c"merge")?,
            merge_all: function(c"merge_all")?,
            argmax: function(c"argmax")?,
            sample: function(c"sample")?,
            add_rows: function(c"add_rows")?,
            gather: function(c"gather")?,
            append: function(c"append")?,
            append_fp8: function(c"append_fp8")?,
            unpack_fp8: function(c"unpack_fp8")?,
            combine: function(c"combine")?,
            put: Put(function(c"put")?),
        })
    }

    /// One block of threads per row, a thread for about `work` elements.
    fn per_row(
        &self,
        kernel: &Function,
        rows: usize,
        work: usize,
        arguments: &[&dyn Argument],
    ) -> Result<(), CudaError> {
        let rows = int("the number of rows", rows)?;
        let threads = work.next_multiple_of(32).clamp(32, 512) as u32;
        // SAFETY: each caller passes what the kernel of its name declares, with lengths checked.
        unsafe { kernel.launch([rows as u32, 1, 1], [threads, 1, 1], 0, arguments) }
    }
}

/// `count` as the kernels take it.
pub(super) fn int(what: &'static str, count: usize) -> Result<i32, CudaError> {
    i32::try_from(count).map_err(|_| CudaError::TooMany { what, found: count })
}

#[cfg(test)]
mod tests {
    use super::int;

    #[test]
    fn counts_beyond_32_bits_are_refused_by_name() {
        assert_eq!(int("rows", i32::MAX as usize).unwrap(), i32::MAX);
        // What a ring's shard of two million tokens appends at once.
        let error = int("the number of appended elements", 1 << 31).unwrap_err().to_string();
        assert!(error.contains("appended elements is 2147483648"), "{error}");
    }
}
