//! What can go wrong on a GPU, as one type.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ops::Range;

use cudarc::driver::sys::{self as driver, CUresult};

use super::loader::Missing;
use crate::TensorError;

/// An operation on a GPU, or on one of NVIDIA's libraries, that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// The driver or a library is not on this machine, or cannot be used.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The driver is there but has no GPU to offer.
    #[error("the NVIDIA driver finds no GPU: check `nvidia-smi` and CUDA_VISIBLE_DEVICES")]
    NoDevice,
    /// No such GPU.
    #[error("there is no GPU {ordinal}: this process sees {devices}, numbered from 0")]
    Ordinal {
        /// The GPU that was asked for.
        ordinal: usize,
        /// How many there are.
        devices: usize,
    },
    /// The GPU's memory is full.
    #[error(
        "out of GPU memory: {bytes} bytes were asked for, {free} of {total} are free; \
         take a shorter context or smaller blocks, or close what else runs on this GPU"
    )]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes free, those the memory pool holds unused included.
        free: usize,
        /// Bytes the GPU has.
        total: usize,
    },
    /// A call of the driver or of a library failed.
    #[error("{call} failed with code {code}: {text}")]
    Call {
        /// The function.
        call: &'static str,
        /// The number it returned.
        code: i32,
        /// What that means, in the library's words.
        text: String,
    },
    /// A kernel's source does not compile.
    #[error("the kernels in {name} do not compile for {arch}:\n{log}")]
    Compile {
        /// The name the source was given.
        name: String,
        /// The architecture, such as `sm_90a`.
        arch: String,
        /// The compiler's messages.
        log: String,
    },
    /// A buffer is too short for the shape it is used with.
    #[error("{what} holds {found} elements; the shape asks for {expected}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements it must have (or must have at least).
        expected: usize,
        /// Elements it has.
        found: usize,
    },
    /// A range outside a buffer.
    #[error("elements {}..{} lie outside a buffer of {len}", range.start, range.end)]
    Range {
        /// The elements asked for.
        range: Range<usize>,
        /// The elements there are.
        len: usize,
    },
    /// A recorded step has no room to run so much later.
    #[error(
        "a recorded step cannot run {later} tokens later: its buffers have room for {most}; \
         record it again"
    )]
    Later {
        /// How many tokens later it was to run.
        later: u32,
        /// How many there is room for.
        most: u32,
    },
    /// A count or a position that the kernels, which number in 32 bits, cannot hold.
    #[error(
        "{what} is {found}: a GPU kernel numbers up to {}; compute on fewer tokens at once",
        i32::MAX
    )]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Two buffers of one operation belong to different devices (or to one opened twice).
    #[error("{what} belongs to another device than the operation it is given to")]
    OtherDevice {
        /// Which buffer.
        what: &'static str,
    },
    /// The GPU or its libraries cannot do this.
    #[error("this GPU or its libraries cannot do {what}")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
}

impl From<CudaError> for TensorError {
    fn from(error: CudaError) -> Self {
        match error {
            CudaError::OutOfMemory { bytes, free, total } => {
                Self::OutOfMemory { bytes, free, total }
            }
            CudaError::Ordinal { .. } | CudaError::Unsupported { .. } => {
                Self::Unsupported { what: error.to_string() }
            }
            CudaError::Missing(Missing { library, why, remedy }) => {
                Self::Missing { what: library.into(), why, remedy: remedy.into() }
            }
            CudaError::NoDevice => Self::Missing {
                what: "a GPU".into(),
                why: "the NVIDIA driver finds none".into(),
                remedy: "check `nvidia-smi` and CUDA_VISIBLE_DEVICES".into(),
            },
            other => Self::Failed(other.into()),
        }
    }
}

/// The result of `call`, a function of the driver.
pub(super) fn check(call: &'static str, result: CUresult) -> Result<(), CudaError> {
    match result {
        CUresult::CUDA_SUCCESS => Ok(()),
        CUresult::CUDA_ERROR_NO_DEVICE => Err(CudaError::NoDevice),
        code => Err(CudaError::Call { call, code: code as i32, text: describe(code) }),
    }
}

/// The driver's name and sentence for `code`.
fn describe(code: CUresult) -> String {
    let (mut name, mut text) = (std::ptr::null(), std::ptr::null());
    // SAFETY: a result exists, so the driver is loaded; both calls only write the pointer, to a
    // static string or to null.
    unsafe {
        let _ = driver::cuGetErrorName(code, &mut name);
        let _ = driver::cuGetErrorString(code, &mut text);
    }
    let read = |pointer: *const std::ffi::c_char| match pointer.is_null() {
        true => "unknown error".into(),
        // SAFETY: not null, so one of the driver's static strings.
        false => unsafe { CStr::from_ptr(pointer) }.to_string_lossy(),
    };
    format!("{} ({})", read(name), read(text))
}

pub(crate) fn only_bf16() -> CudaError {
    CudaError::Unsupported {
        what: "f32 weights or keys: keep them in bf16, or compute on the CPU".into(),
    }
}

pub(super) fn no_int8() -> CudaError {
    let what = "keys in int8: cache them in fp8 or bf16, or compute on the CPU";
    CudaError::Unsupported { what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::CudaError;

    #[test]
    fn messages_name_the_value() {
        let ordinal = CudaError::Ordinal { ordinal: 4, devices: 2 }.to_string();
        assert!(ordinal.contains("GPU 4") && ordinal.contains("sees 2"), "{ordinal}");
        let full = CudaError::OutOfMemory { bytes: 10, free: 5, total: 8 }.to_string();
        assert!(full.contains("10 bytes") && full.contains("5 of 8"), "{full}");
        let range = CudaError::Range { range: 3..9, len: 8 }.to_string();
        assert!(range.contains("3..9") && range.contains('8'), "{range}");
    }
}
