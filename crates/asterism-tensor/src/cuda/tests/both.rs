//! The same buffers and operations on a GPU, in bf16, and on the CPU, in f32.

use super::{device, relative_error};
use crate::cuda::{Cuda, Grown};
use crate::{Aligned, Cpu, Memory, Part, PartMut};
use half::bf16;
use half::slice::HalfFloatSliceExt;

/// What bf16 activations may cost: each is rounded by up to 2^-9.
pub(super) const TOLERANCE: f64 = 8e-3;

/// Something in the GPU's precision, and the same in f32 on the CPU.
pub(super) type RowsOnBoth = (Grown<bf16>, Aligned<f32>);
pub(super) type SumsOnBoth = (Grown<f32>, Aligned<f32>);

pub(super) struct Both {
    pub(super) gpu: Cuda,
    pub(super) cpu: Cpu,
}

impl Both {
    pub(super) fn open() -> Option<Self> {
        device()?;
        let cpu = Cpu::new(std::thread::available_parallelism().map_or(1, usize::from), None);
        Some(Self { gpu: Cuda::open(0).unwrap(), cpu: cpu.unwrap() })
    }

    pub(super) fn rows(&self, values: &[bf16]) -> RowsOnBoth {
        let (mut on_gpu, mut on_cpu) = (Grown::default(), Aligned::default());
        on_gpu.first(self.gpu.device(), values.len()).unwrap().write(values).unwrap();
        values.convert_to_f32_slice(on_cpu.at_least(values.len()));
        (on_gpu, on_cpu)
    }

    pub(super) fn sums(&self, values: &[f32]) -> SumsOnBoth {
        let (mut on_gpu, mut on_cpu) = (Grown::default(), Aligned::default());
        on_gpu.first(self.gpu.device(), values.len()).unwrap().write(values).unwrap();
        on_cpu.at_least(values.len()).copy_from_slice(values);
        (on_gpu, on_cpu)
    }

    /// Poisoned outputs.
    pub(super) fn no_rows(&self, len: usize) -> RowsOnBoth {
        self.rows(&vec![bf16::NAN; len])
    }

    pub(super) fn no_sums(&self, len: usize) -> SumsOnBoth {
        self.sums(&vec![f32::NAN; len])
    }

    pub(super) fn check_rows(&self, (found, expected): &RowsOnBoth, what: &str) {
        let found = all_of(found);
        let pairs = found.iter().zip(&expected[..]).map(|(a, b)| (a.to_f64(), f64::from(*b)));
        let error = relative_error(pairs);
        assert!(error < TOLERANCE, "{what}: {error:e}");
    }

    pub(super) fn check_sums(&self, (found, expected): &SumsOnBoth, most: f64, what: &str) {
        let found = all_of(found);
        let seen = found.iter().zip(&expected[..]).filter(|(a, b)| a != b);
        let error = relative_error(seen.map(|(a, b)| (f64::from(*a), f64::from(*b))));
        assert!(error < most || found[..] == expected[..], "{what}: {error:e}");
    }
}

pub(super) fn all_of<T: crate::cuda::Element>(rows: &Grown<T>) -> Vec<T> {
    let all = Part::new(rows, 0..Memory::len(rows));
    crate::cuda::memory::view(all).unwrap().to_vec().unwrap()
}

pub(super) fn all<T: Memory>(of: &T) -> Part<'_, T> {
    Part::new(of, 0..of.len())
}

pub(super) fn all_mut<T: Memory>(of: &mut T) -> PartMut<'_, T> {
    let len = of.len();
    PartMut::new(of, 0..len)
}

pub(super) fn widened(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// Runs the same lines on both backends.
macro_rules! on_both {
    ($both:expr, |$backend:ident, $side:tt| $body:expr) => {{
        {
            let $backend = &$both.gpu;
            macro_rules! $side {
                ($pair:expr) => {
                    $pair.0
                };
            }
            $body
        }
        {
            let $backend = &$both.cpu;
            macro_rules! $side {
                ($pair:expr) => {
                    $pair.1
                };
            }
            $body
        }
    }};
}
pub(super) use on_both;
