//! Keys and values, cached in the precisions that the CPU reads.

use super::{Result, cached, floats};
use crate::cpu::{Cpu, CpuError, Kv};
use crate::{Aligned, Caching, HeadShape, KeptKeys, KvBytes, KvPrecision, Part, Precision};

impl Caching for Cpu {
    fn kv(&self, precision: KvPrecision, shape: HeadShape, capacity: usize) -> Result<Kv> {
        match precision {
            KvPrecision::F32 => Ok(Kv::floats(Precision::F32, capacity)),
            KvPrecision::Bf16 => Ok(Kv::floats(Precision::Bf16, capacity)),
            KvPrecision::Int8 => Ok(Kv::int8(shape.head_dim, capacity)),
            KvPrecision::Fp8 => Err(CpuError::NoFp8.into()),
        }
    }

    fn append(&self, cached: [&mut Kv; 2], new: [Part<'_, Aligned<f32>>; 2]) -> Result {
        for (cached, new) in cached.into_iter().zip(new) {
            self.append(cached, floats(new));
        }
        Ok(())
    }

    fn extend(&self, kv: &mut Kv, other: Part<'_, Kv>) -> Result {
        kv.extend_from(cached(other));
        Ok(())
    }

    fn kv_bytes(&self, kv: Part<'_, Kv>) -> Result<KvBytes> {
        Ok(cached(kv).to_bytes())
    }

    fn extend_bytes(&self, kv: &mut Kv, stored: &KvBytes) -> Result {
        kv.extend_bytes(stored);
        Ok(())
    }

    fn truncate(&self, kv: &mut Kv, len: usize) {
        kv.truncate(len);
    }

    fn advance(&self, _kv: &mut Kv, _len: usize) -> bool {
        false // nothing is recorded
    }

    fn gather(&self, kv: Part<'_, Kv>, shape: HeadShape, chosen: &[u32]) -> Result<Kv> {
        let (kv, width) = (cached(kv), shape.kv_width());
        let mut gathered = kv.none_like(chosen.len() * width);
        for token in chosen {
            let start = *token as usize * width;
            gathered.extend_from(kv.slice(start..start + width));
        }
        Ok(gathered)
    }

    fn kept(&self, kept: KeptKeys) -> Result<KeptKeys> {
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_tokens_are_gathered_in_their_order() {
        let cpu = Cpu::new(1, None).unwrap();
        let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 2 };
        let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
        for precision in [KvPrecision::F32, KvPrecision::Bf16, KvPrecision::Int8] {
            let stored = |numbers: &[f32]| {
                let mut kv = Caching::kv(&cpu, precision, shape, numbers.len()).unwrap();
                cpu.append(&mut kv, numbers);
                kv
            };
            let kv = stored(&numbers);
            // Tokens of a part, one of them twice.
            let chosen = cpu.gather(Part::new(&kv, 2..12), shape, &[4, 0, 0]).unwrap();
            assert_eq!(chosen, stored(&[10.0, 11.0, 2.0, 3.0, 2.0, 3.0]), "{precision}");
        }
    }
}
