//! Where a host's keys and values lie in its file.
//!
//! The file is a safetensors file (format: <https://huggingface.co/docs/safetensors>). Block after
//! block, layer after layer, it has a *piece*: keys and values `[tokens, kv_heads, head_dim]`, in
//! 8 bits each with scales `[tokens, kv_heads]`. Of a block whose keys were pressed it has what is
//! kept, head after head, `[rows, 1, head_dim]`, with scales `[rows, 1]`, and before it as u32 how
//! many each head keeps, `[kv_heads]`, and of which tokens, `[rows]`. Everything but the checksums
//! follows from what the host knows already, so the whole header does.

use crate::cache::BlockKey;
use crate::tensor::{HeadShape, KvPrecision};
use blake3::Hash;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Data begins at a multiple of so many bytes.
const ALIGNMENT: usize = 8;

/// A block in a host's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredBlock {
    /// What it was computed from.
    pub(crate) key: BlockKey,
    pub(crate) tokens: usize,
    /// How many keys of all heads each layer keeps; all if it is missing.
    pub(crate) kept: Option<usize>,
}

/// What a host's file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) layers: usize,
    pub(crate) shape: HeadShape,
    pub(crate) precision: KvPrecision,
    pub(crate) blocks: Vec<StoredBlock>,
}

impl Layout {
    /// Bytes of a piece of `block`.
    pub(crate) fn piece_bytes(&self, block: usize) -> usize {
        self.table_bytes(block) + 2 * self.half_bytes(block)
    }

    /// Bytes of the table of a piece of `block`, which comes first: u32 numbers, for each head how
    /// many keys it keeps, and then which.
    pub(crate) fn table_bytes(&self, block: usize) -> usize {
        let numbers = self.blocks[block].kept.map_or(0, |rows| self.shape.kv_heads + rows);
        numbers * size_of::<u32>()
    }

    /// Bytes of the keys (or values) of a piece of `block`.
    pub(crate) fn half_bytes(&self, block: usize) -> usize {
        let (shape, rows) = self.rows(&self.blocks[block]);
        rows * self.precision.row_bytes(shape)
    }

    /// Bytes of the elements of the keys (or values) of a piece of `block`; scales follow.
    pub(crate) fn element_bytes(&self, block: usize) -> usize {
        let (shape, rows) = self.rows(&self.blocks[block]);
        rows * shape.kv_width() * element(self.precision).1
    }

    /// How keys of `block` lie: the heads of a row, and the rows.
    fn rows(&self, block: &StoredBlock) -> (HeadShape, usize) {
        match block.kept {
            Some(rows) => (HeadShape { heads: 1, kv_heads: 1, ..self.shape }, rows),
            None => (self.shape, block.tokens),
        }
    }

    /// Bytes of all pieces.
    pub(crate) fn data_bytes(&self) -> u64 {
        (0..self.blocks.len()).map(|block| (self.layers * self.piece_bytes(block)) as u64).sum()
    }

    /// Where the piece of `layer` of `block` begins, behind the header.
    pub(crate) fn offset(&self, block: usize, layer: usize) -> u64 {
        let before: usize = (0..block).map(|before| self.layers * self.piece_bytes(before)).sum();
        (before + layer * self.piece_bytes(block)) as u64
    }

    /// Pieces of all blocks.
    pub(crate) fn pieces(&self) -> usize {
        self.blocks.len() * self.layers
    }

    /// The block and layer of a piece.
    pub(crate) fn piece(&self, number: usize) -> (usize, usize) {
        (number / self.layers, number % self.layers)
    }

    /// The beginning of the file, as long whatever the `checksums` of its pieces are.
    pub(crate) fn header(&self, checksums: &[Hash]) -> Vec<u8> {
        let mut metadata = Map::new();
        metadata.insert("format".into(), "asterism keys 2".into());
        for (index, StoredBlock { key, .. }) in self.blocks.iter().enumerate() {
            let own = &checksums[index * self.layers..(index + 1) * self.layers];
            let own: String = own.iter().map(|hash| hash.to_hex().to_string()).collect();
            metadata.insert(key_name(index), key.to_string().into());
            metadata.insert(checksums_name(index), own.into());
        }
        let mut header = Map::new();
        header.insert("__metadata__".into(), Value::Object(metadata));
        let mut end = 0;
        for (index, block) in self.blocks.iter().enumerate() {
            for layer in 0..self.layers {
                for (name, dtype, shape, bytes) in self.tensors(block) {
                    let offsets = [end, end + bytes];
                    end += bytes;
                    header.insert(
                        format!("block.{index}.layer.{layer}.{name}"),
                        json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}),
                    );
                }
            }
        }
        let mut json = Value::Object(header).to_string().into_bytes();
        // The format allows spaces behind it.
        json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
        [&(json.len() as u64).to_le_bytes()[..], &json].concat()
    }

    /// The checksums in `header`, if everything else in it is what this layout has.
    pub(crate) fn read(&self, header: &[u8]) -> Option<Vec<Hash>> {
        /// What is not known beforehand.
        #[derive(Deserialize)]
        struct Header {
            __metadata__: BTreeMap<String, String>,
        }
        let Header { __metadata__: metadata } =
            serde_json::from_slice(header.get(size_of::<u64>()..)?).ok()?;
        let mut checksums = Vec::with_capacity(self.pieces());
        for index in 0..self.blocks.len() {
            let own = metadata.get(&checksums_name(index))?.as_bytes();
            let (all, rest) = own.as_chunks::<{ 2 * blake3::OUT_LEN }>();
            if all.len() != self.layers || !rest.is_empty() {
                return None;
            }
            for hex in all {
                checksums.push(Hash::from_hex(hex).ok()?);
            }
        }
        (self.header(&checksums) == header).then_some(checksums)
    }

    /// The tensors of a piece of `block`: name, type, shape and bytes.
    fn tensors(&self, block: &StoredBlock) -> Vec<(&'static str, &'static str, Vec<usize>, usize)> {
        let (row, tokens) = self.rows(block);
        let HeadShape { kv_heads, head_dim, .. } = row;
        let (dtype, bytes) = element(self.precision);
        let mut tensors = Vec::new();
        if let Some(rows) = block.kept {
            let heads = self.shape.kv_heads;
            for (name, numbers) in [("kept_by_head", heads), ("kept_tokens", rows)] {
                tensors.push((name, "U32", vec![numbers], numbers * size_of::<u32>()));
            }
        }
        for (name, scales) in [("keys", "key_scales"), ("values", "value_scales")] {
            let shape = vec![tokens, kv_heads, head_dim];
            tensors.push((name, dtype, shape, tokens * row.kv_width() * bytes));
            if self.precision.has_scales() {
                let bytes = tokens * kv_heads * size_of::<f32>();
                tensors.push((scales, "F32", vec![tokens, kv_heads], bytes));
            }
        }
        tensors
    }
}

/// The type of elements as the format names it, and their bytes.
fn element(precision: KvPrecision) -> (&'static str, usize) {
    match precision {
        KvPrecision::F32 => ("F32", 4),
        KvPrecision::Bf16 => ("BF16", 2),
        KvPrecision::Fp8 => ("F8_E4M3", 1),
        KvPrecision::Int8 => ("I8", 1),
    }
}

fn key_name(block: usize) -> String {
    format!("block.{block}.key")
}

fn checksums_name(block: usize) -> String {
    format!("block.{block}.checksums")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Span;
    use proptest::prelude::*;
    use safetensors::{Dtype, SafeTensors};

    /// A layout with blocks of so many tokens.
    fn layout(precision: KvPrecision, blocks: &[usize]) -> Layout {
        let block = |(start, tokens): (usize, &usize)| {
            let span = Span { start, len: *tokens };
            let key = BlockKey::of("test", 0, &[], span, &vec![7; *tokens]);
            StoredBlock { key, tokens: *tokens, kept: None }
        };
        let shape = HeadShape { heads: 4, kv_heads: 2, head_dim: 8 };
        let blocks = blocks.iter().enumerate().map(block).collect();
        Layout { layers: 3, shape, precision, blocks }
    }

    fn checksums(layout: &Layout) -> Vec<Hash> {
        (0..layout.pieces()).map(|piece| blake3::hash(&[piece as u8])).collect()
    }

    #[test]
    fn other_programs_read_the_file() {
        let types = [Dtype::F32, Dtype::BF16, Dtype::F8_E4M3, Dtype::I8];
        let precisions = [KvPrecision::F32, KvPrecision::Bf16, KvPrecision::Fp8, KvPrecision::Int8];
        for (precision, dtype) in precisions.into_iter().zip(types) {
            let layout = layout(precision, &[5, 16]);
            let mut file = layout.header(&checksums(&layout));
            assert_eq!(file.len() % ALIGNMENT, 0);
            file.resize(file.len() + layout.data_bytes() as usize, 0);
            let tensors = SafeTensors::deserialize(&file).unwrap();
            let keys = tensors.tensor("block.1.layer.2.keys").unwrap();
            assert_eq!((keys.shape(), keys.dtype()), (&[16, 2, 8][..], dtype));
            // Where the data is, and where this says.
            let data = file.len() - layout.data_bytes() as usize;
            let start = keys.data().as_ptr() as usize - file.as_ptr() as usize - data;
            assert_eq!(start as u64, layout.offset(1, 2));
            assert_eq!(keys.data().len(), layout.element_bytes(1));
            let all: usize = tensors.tensors().iter().map(|(_, tensor)| tensor.data().len()).sum();
            assert_eq!(all as u64, layout.data_bytes());
        }
    }

    #[test]
    fn of_a_pressed_block_other_programs_read_what_is_kept() {
        let mut layout = layout(KvPrecision::Fp8, &[5, 16]);
        layout.blocks[1].kept = Some(6);
        let mut file = layout.header(&checksums(&layout));
        file.resize(file.len() + layout.data_bytes() as usize, 0);
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let tensor = |name: &str| tensors.tensor(&format!("block.1.layer.2.{name}")).unwrap();
        assert_eq!(tensor("keys").shape(), [6, 1, 8]);
        assert_eq!(tensor("value_scales").shape(), [6, 1]);
        assert_eq!(tensor("kept_tokens").shape(), [6]);
        let data = file.len() - layout.data_bytes() as usize;
        let start = tensor("kept_by_head").data().as_ptr() as usize - file.as_ptr() as usize - data;
        assert_eq!(start as u64, layout.offset(1, 2));
        assert_eq!(layout.piece_bytes(1), 4 * (2 + 6) + 2 * (6 * 8 + 6 * 4));
    }

    proptest! {
        #[test]
        fn a_header_is_read_only_if_it_is_this_layouts(
            blocks in prop::collection::vec(1usize..40, 1..4),
            at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0usize..100,
        ) {
            let layout = layout(KvPrecision::Bf16, &blocks);
            let checksums = checksums(&layout);
            let mut header = layout.header(&checksums);
            prop_assert_eq!(layout.read(&header), Some(checksums.clone()));
            prop_assert_eq!(layout.read(&header[..header.len().saturating_sub(cut + 1)]), None);
            let at = at.index(header.len());
            let before = std::mem::replace(&mut header[at], byte);
            if before != byte {
                // But for another checksum, which no piece has.
                prop_assert_ne!(layout.read(&header), Some(checksums));
            }
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert_eq!(layout(KvPrecision::Fp8, &[3]).read(&bytes), None);
        }
    }
}
