//! A host's file, written and read piece by piece, so that other work can be done in between.

use super::{Layout, SavedError};
use crate::cache::LayerBytes;
use crate::tensor::{KeptKeys, KvBytes};
use blake3::{Hash, Hasher};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The file of host `rank` in `folder`.
fn path_of(folder: &Path, rank: usize) -> PathBuf {
    folder.join(format!("host-{rank}.safetensors"))
}

/// A file that is being written.
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
    layout: Layout,
    /// Of the pieces that were written.
    checksums: Vec<Hash>,
}

impl Writer {
    /// Begins the file of host `rank` in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn create(folder: &Path, rank: usize, layout: Layout) -> Result<Self, SavedError> {
        std::fs::create_dir_all(folder).map_err(SavedError::io(folder))?;
        let path = path_of(folder, rank);
        let begin = || {
            let mut file = File::create(&path)?;
            // In the place of the header, which is known at the end: what no reader believes.
            let none = vec![Hash::from_bytes([0; blake3::OUT_LEN]); layout.pieces()];
            file.write_all(&vec![0; layout.header(&none).len()])?;
            Ok(file)
        };
        let file = begin().map_err(SavedError::io(&path))?;
        Ok(Self { path, file, layout, checksums: Vec::new() })
    }

    /// The block and layer of the piece that comes next; `None` once all are written.
    pub(crate) fn next(&self) -> Option<(usize, usize)> {
        let number = self.checksums.len();
        (number < self.layout.pieces()).then(|| self.layout.piece(number))
    }

    /// Writes the next piece: keys and values of one layer of one block.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn put(&mut self, piece: &LayerBytes) -> Result<(), SavedError> {
        let mut hash = Hasher::new();
        let table: Vec<u8> = piece.kept.iter().flat_map(table).collect();
        let parts = piece.kv.iter().flat_map(|kv| [&kv.elements, &kv.scales]);
        for bytes in [&table].into_iter().chain(parts) {
            hash.update(bytes);
            self.file.write_all(bytes).map_err(SavedError::io(&self.path))?;
        }
        self.checksums.push(hash.finalize());
        Ok(())
    }

    /// Writes the header, once all pieces are there. Returns the bytes of the file.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn finish(mut self) -> Result<u64, SavedError> {
        let header = self.layout.header(&self.checksums);
        let mut write = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&header)
        };
        write().map_err(SavedError::io(&self.path))?;
        Ok(header.len() as u64 + self.layout.data_bytes())
    }
}

/// How many keys each head keeps, and which.
fn table(kept: &KeptKeys) -> Vec<u8> {
    let lengths = (0..kept.kv_heads()).map(|head| kept.range(head).len() as u32);
    lengths.chain(kept.indices().iter().copied()).flat_map(u32::to_le_bytes).collect()
}

/// A file that is being read.
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
    layout: Layout,
    /// Where the data begins.
    data: u64,
    checksums: Vec<Hash>,
}

impl Reader {
    /// Opens the file of host `rank` in `folder`, which is to have `layout`.
    ///
    /// # Errors
    /// The system's; [`SavedError::Damaged`] if it is another file.
    pub(crate) fn open(folder: &Path, rank: usize, layout: Layout) -> Result<Self, SavedError> {
        let path = path_of(folder, rank);
        let none = vec![Hash::from_bytes([0; blake3::OUT_LEN]); layout.pieces()];
        let mut header = vec![0; layout.header(&none).len()];
        let (data, all) = (header.len() as u64, header.len() as u64 + layout.data_bytes());
        let read = |header: &mut [u8]| {
            let mut file = File::open(&path)?;
            let len = file.metadata()?.len();
            if len == all {
                file.read_exact(header)?;
            }
            Ok((file, len))
        };
        let (file, len) = read(&mut header).map_err(SavedError::io(&path))?;
        if len != all {
            let what = format!("it has {len} bytes and must have {all}");
            return Err(SavedError::damaged(&path, what));
        }
        let checksums = layout.read(&header).ok_or_else(|| {
            SavedError::damaged(&path, "its header is not the one that this context has")
        })?;
        Ok(Self { path, file, layout, data, checksums })
    }

    /// The keys and values of `layer` of `block`.
    ///
    /// # Errors
    /// The system's; [`SavedError::Damaged`] if they are not what was written.
    pub(crate) fn piece(&mut self, block: usize, layer: usize) -> Result<LayerBytes, SavedError> {
        let (table, half_bytes) = (self.layout.table_bytes(block), self.layout.half_bytes(block));
        let elements = self.layout.element_bytes(block);
        let mut hash = Hasher::new();
        let mut part = |file: &mut File, bytes: usize| {
            let mut part = vec![0; bytes];
            file.read_exact(&mut part)?;
            hash.update(&part);
            Ok::<_, std::io::Error>(part)
        };
        let mut read = || {
            let file = &mut self.file;
            file.seek(SeekFrom::Start(self.data + self.layout.offset(block, layer)))?;
            let table = part(file, table)?;
            let mut half = || {
                let (elements, scales) = (elements, half_bytes - elements);
                let (elements, scales) = (part(file, elements)?, part(file, scales)?);
                Ok::<_, std::io::Error>(KvBytes { elements, scales })
            };
            Ok((table, [half()?, half()?]))
        };
        let (table, kv) = read().map_err(SavedError::io(&self.path))?;
        let number = block * self.layout.layers + layer;
        if hash.finalize() != self.checksums[number] {
            let what = format!("layer {layer} of block {block} has another checksum");
            return Err(SavedError::damaged(&self.path, what));
        }
        let kept = match self.layout.blocks[block].kept {
            Some(_) => Some(self.kept(block, &table).ok_or_else(|| {
                let what = format!("layer {layer} of block {block} keeps tokens it does not have");
                SavedError::damaged(&self.path, what)
            })?),
            None => None,
        };
        Ok(LayerBytes { kv, kept })
    }

    /// Which keys of `block` are kept, as `table` says.
    fn kept(&self, block: usize, table: &[u8]) -> Option<KeptKeys> {
        let numbers: Vec<u32> =
            table.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let (lengths, indices) = numbers.split_at_checked(self.layout.shape.kv_heads)?;
        KeptKeys::from_rows(self.layout.blocks[block].tokens, lengths, indices.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::BlockKey;
    use crate::plan::Span;
    use crate::saved::StoredBlock;
    use crate::tensor::{HeadShape, KvPrecision};

    fn layout(precision: KvPrecision, token: u32) -> Layout {
        let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 4 };
        let block = |start: usize, len: usize| {
            let key = BlockKey::of("test", 0, &[], Span { start, len }, &vec![token; len]);
            StoredBlock { key, tokens: len, kept: None }
        };
        Layout { layers: 2, shape, precision, blocks: vec![block(0, 3), block(3, 2)] }
    }

    /// The piece of `layer` of `block`: bytes that no other piece has.
    fn piece(layout: &Layout, block: usize, layer: usize) -> LayerBytes {
        let (half, elements) = (layout.half_bytes(block), layout.element_bytes(block));
        let kv = [0, 1].map(|which| {
            let byte = (100 * block + 10 * layer + which) as u8;
            KvBytes { elements: vec![byte; elements], scales: vec![byte + 5; half - elements] }
        });
        // Of a block that is pressed the last tokens are kept.
        let StoredBlock { tokens, kept, .. } = layout.blocks[block];
        let all = |rows: usize| (tokens - rows) as u32..tokens as u32;
        let kept = kept.and_then(|rows| KeptKeys::new(tokens, &[all(rows).collect()]));
        LayerBytes { kv, kept }
    }

    fn write(folder: &Path, layout: &Layout) -> u64 {
        let mut writer = Writer::create(folder, 1, layout.clone()).unwrap();
        while let Some((block, layer)) = writer.next() {
            writer.put(&piece(layout, block, layer)).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn pieces_come_back_in_any_order() {
        let precisions = [KvPrecision::F32, KvPrecision::Bf16, KvPrecision::Fp8, KvPrecision::Int8];
        for (precision, kept) in precisions.into_iter().flat_map(|p| [(p, None), (p, Some(2))]) {
            let folder = tempfile::tempdir().unwrap();
            let (folder, mut layout) = (folder.path().join("new"), layout(precision, 1));
            layout.blocks[0].kept = kept;
            let bytes = write(&folder, &layout);
            assert_eq!(path_of(&folder, 1).metadata().unwrap().len(), bytes);
            let mut reader = Reader::open(&folder, 1, layout.clone()).unwrap();
            for (block, layer) in [(1, 1), (0, 0), (1, 0), (0, 1)] {
                let found = reader.piece(block, layer).unwrap();
                assert_eq!(found, piece(&layout, block, layer), "{precision}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_what_was_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, layout_1) = (folder.path(), layout(KvPrecision::Bf16, 1));
        let open = |layout| Reader::open(folder, 1, layout).map(|_| ()).unwrap_err();
        let missing = open(layout_1.clone());
        assert!(matches!(missing, SavedError::Io { .. }), "{missing}");
        write(folder, &layout_1);
        // Of other tokens, and in another precision.
        for other in [layout(KvPrecision::Bf16, 2), layout(KvPrecision::F32, 1)] {
            assert!(matches!(open(other), SavedError::Damaged { .. }));
        }
        let path = path_of(folder, 1);
        let whole = std::fs::read(&path).unwrap();
        // A byte of the last piece.
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let mut reader = Reader::open(folder, 1, layout_1.clone()).unwrap();
        assert!(reader.piece(0, 0).is_ok());
        let error = reader.piece(1, 1).unwrap_err().to_string();
        assert!(error.contains("layer 1 of block 1") && error.contains("encode"), "{error}");
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(open(layout_1.clone()).to_string().contains("bytes and must have"));
        // A file that was not written to its end.
        let mut writer = Writer::create(folder, 1, layout_1.clone()).unwrap();
        writer.put(&piece(&layout_1, 0, 0)).unwrap();
        drop(writer);
        assert!(matches!(open(layout_1), SavedError::Damaged { .. }));
    }
}
