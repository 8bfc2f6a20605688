//! Keys and values in a GPU's memory.

use super::Result;
use crate::cuda::Cuda;
use crate::cuda::kv::Kv;
use crate::cuda::memory::{Grown, view};
use crate::cuda::queries::Kept;
use crate::{Caching, HeadShape, KeptKeys, KvBytes, KvPrecision, Part};
use half::bf16;

impl Caching for Cuda {
    fn kv(&self, precision: KvPrecision, shape: HeadShape, capacity: usize) -> Result<Kv> {
        Ok(Kv::with_capacity(&self.device, precision, shape, capacity)?)
    }

    fn append(&self, cached: [&mut Kv; 2], new: [Part<'_, Grown<bf16>>; 2]) -> Result {
        let [keys, values] = new;
        if keys.len == 0 {
            return Ok(());
        }
        Ok(Kv::append(&self.rows, cached, [view(keys)?, view(values)?])?)
    }

    fn extend(&self, kv: &mut Kv, other: Part<'_, Kv>) -> Result {
        Ok(kv.extend(other)?)
    }

    fn kv_bytes(&self, kv: Part<'_, Kv>) -> Result<KvBytes> {
        Ok(Kv::bytes_of(kv)?)
    }

    fn extend_bytes(&self, kv: &mut Kv, stored: &KvBytes) -> Result {
        Ok(kv.extend_bytes(stored)?)
    }

    fn truncate(&self, kv: &mut Kv, len: usize) {
        kv.truncate(len);
    }

    fn advance(&self, kv: &mut Kv, len: usize) -> bool {
        kv.advance(len)
    }

    fn gather(&self, kv: Part<'_, Kv>, shape: HeadShape, chosen: &[u32]) -> Result<Kv> {
        Ok(Kv::gather(&self.rows, kv, shape, chosen)?)
    }

    fn kept(&self, kept: KeptKeys) -> Result<Kept> {
        Ok(Kept::new(&self.device, kept)?)
    }
}
