//! What a GPU can do at most, measured.

use super::{Buffer, CudaError, Device, Event, Gemm};
use crate::Peak;
use half::bf16;
use std::sync::Arc;

/// Rows, inputs and outputs of the product: large enough to run at the full rate.
const SIZE: usize = 8192;
/// Bytes of one copy, many times any cache.
const COPIED: usize = 1 << 30;
/// How often either is repeated; the best counts.
const REPEATS: usize = 5;

/// The best of five products `8192 x 8192 x 8192` of random bf16 matrices, and of five copies of
/// 1 GiB within the GPU's memory (bytes read and bytes written).
pub(super) fn measure(device: &Arc<Device>, gemm: &Gemm) -> Result<Peak, CudaError> {
    let mut state = 1u32;
    // Random numbers: zeros multiply faster than real data.
    let numbers: Vec<bf16> = (0..SIZE * SIZE)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bf16::from_f32((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        })
        .collect();
    let x = Buffer::from_slice(device, &numbers)?;
    let mut y = Buffer::<bf16>::uninit(device, SIZE * SIZE)?;
    let product =
        fastest(device, || gemm.bf16(x.view(), x.view(), (SIZE, SIZE, SIZE), y.view_mut()))?;
    let from = Buffer::<u8>::zeros(device, COPIED)?;
    let mut to = Buffer::<u8>::uninit(device, COPIED)?;
    let copy = fastest(device, || to.view_mut().copy_from(from.view()))?;
    Ok(Peak {
        flops_per_second: 2.0 * (SIZE as f64).powi(3) / product,
        bytes_per_second: 2.0 * COPIED as f64 / copy,
    })
}

/// Seconds of the fastest of several runs, after one that warms up.
fn fastest(
    device: &Arc<Device>,
    mut run: impl FnMut() -> Result<(), CudaError>,
) -> Result<f64, CudaError> {
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Event::record(device)?;
        run()?;
        best = best.min(start.until(&Event::record(device)?)?.as_secs_f64());
    }
    Ok(best)
}
