//! What tests of both backends share.

use crate::cpu::Kv;
use crate::{Caching, Cpu, HeadShape, KvPrecision, Memory, Part};

/// Heads of `head_dim` elements, cached on the CPU.
pub(crate) fn cached(precision: KvPrecision, head_dim: usize, values: &[f32]) -> Kv {
    let cpu = Cpu::new(1, None).expect("a thread");
    let shape = HeadShape { heads: 1, kv_heads: 1, head_dim };
    let mut kv = Caching::kv(&cpu, precision, shape, values.len()).expect("a precision of the CPU");
    cpu.append(&mut kv, values);
    kv
}

/// What is left of such heads when they are cached.
pub(crate) fn held(precision: KvPrecision, head_dim: usize, values: &[f32]) -> Vec<f32> {
    let (cpu, kv) = (Cpu::new(1, None).expect("a thread"), cached(precision, head_dim, values));
    let bytes = cpu.kv_bytes(Part::new(&kv, 0..Memory::len(&kv))).expect("bytes");
    bytes.to_f32(precision, head_dim)
}

/// ‖out − reference‖ / ‖reference‖ of the pairs; NaN if any of them is.
pub(crate) fn relative_error(pairs: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let (mut difference, mut norm) = (0.0, 0.0);
    for (out, reference) in pairs {
        difference += (out - reference).powi(2);
        norm += reference.powi(2);
    }
    (difference / norm).sqrt()
}
