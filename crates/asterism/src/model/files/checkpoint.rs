//! The weights of a model: named tensors in one or several safetensors files.
//!
//! Receives the files' bytes and, for checkpoints of several files, the index; gives tensors by
//! name. Every header is read and checked once, in [`Checkpoint::open`]; the data is only sliced,
//! so that a mapped file costs no memory until a tensor is used.
//!
//! The format (<https://huggingface.co/docs/safetensors>): 8 bytes little-endian header length,
//! that many bytes of JSON (name to element type, shape and byte range), then the data, without
//! gaps, to the end of the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use serde_json::Value;

use super::shard_index::{INDEX_FILE, MOST_NAME, ShardIndex};
use super::{DType, TensorView};
use crate::distinct::DistinctNames;
use crate::model::ModelError;
use crate::tensor::{Bytes, RowReader};

/// Bytes of the header's length.
const LENGTH: usize = 8;
/// Largest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// What a file in a Git checkout without LFS holds instead of its content.
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// Most weight files that an error message lists.
const LISTED: usize = 8;

/// An open checkpoint.
pub struct Checkpoint {
    pub(super) files: Vec<(String, Bytes)>,
    pub(super) tensors: HashMap<String, Location>,
}

/// Type and shape of a tensor, and the file and the bytes of it that hold the elements.
pub(super) struct Location {
    pub(super) file: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// In the file, from its start.
    pub(super) range: Range<usize>,
    /// Whether anybody asked for it.
    used: AtomicBool,
}

impl Checkpoint {
    /// Reads the headers of all files and checks them against each other and against the index.
    ///
    /// `files` are pairs of a name (for errors, and to be found in the index) and the content;
    /// `index` is the content of `model.safetensors.index.json`, if the model has one. Tensors
    /// that the index does not mention are accepted.
    ///
    /// # Errors
    /// No files; a file that is empty, cut short, followed by stray bytes or not safetensors; a
    /// tensor in two files; an index that names a missing file, or a tensor its file lacks.
    pub fn open(files: Vec<(String, Bytes)>, index: Option<&[u8]>) -> Result<Self, ModelError> {
        if files.is_empty() {
            return Err(ModelError::NoWeights);
        }
        let mut tensors: HashMap<String, Location> = HashMap::new();
        for (number, (name, bytes)) in files.iter().enumerate() {
            for (tensor, location) in read_header(number, name, bytes)? {
                match tensors.entry(tensor) {
                    Entry::Vacant(free) => {
                        free.insert(location);
                    }
                    Entry::Occupied(taken) => {
                        return Err(ModelError::DuplicateTensor {
                            tensor: taken.key().clone(),
                            first: files[taken.get().file].0.clone(),
                            second: name.clone(),
                        });
                    }
                }
            }
        }
        let checkpoint = Self { files, tensors };
        if let Some(index) = index {
            checkpoint.check_index(&ShardIndex::parse(index)?)?;
        }
        Ok(checkpoint)
    }

    /// The tensor `name`, which must have exactly `shape`.
    ///
    /// # Errors
    /// No such tensor, another shape, or elements that are not BF16, F16 or F32.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>, ModelError> {
        let (location, dtype) = self.locate(name, shape)?;
        let data = &self.files[location.file].1[location.range.clone()];
        Ok(TensorView { dtype, shape: location.shape.clone(), data })
    }

    /// What reads single rows of the matrix `name [rows, width]`, and keeps the files mapped.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub fn row_reader(
        self: &Arc<Self>,
        name: &str,
        shape: &[usize],
    ) -> Result<RowReader, ModelError> {
        let (location, dtype) = self.locate(name, shape)?;
        let (file, range) = (location.file, location.range.clone());
        let checkpoint = Arc::clone(self);
        Ok(Arc::new(move |row, out| {
            let data = &checkpoint.files[file].1[range.clone()];
            TensorView { dtype, shape: Vec::new(), data }.row_to_f32(row, out);
        }))
    }

    fn locate(&self, name: &str, shape: &[usize]) -> Result<(&Location, DType), ModelError> {
        let Some(location) = self.tensors.get(name) else {
            return Err(ModelError::MissingTensor { tensor: name.into(), files: self.file_list() });
        };
        location.used.store(true, Ordering::Relaxed);
        let file = &self.files[location.file].0;
        if location.shape != shape {
            return Err(ModelError::WrongShape {
                file: file.clone(),
                tensor: name.into(),
                found: location.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let dtype = match location.dtype {
            Dtype::BF16 => DType::Bf16,
            Dtype::F16 => DType::F16,
            Dtype::F32 => DType::F32,
            other => {
                return Err(ModelError::UnsupportedDType {
                    file: file.clone(),
                    tensor: name.into(),
                    found: format!("{other:?}"),
                });
            }
        };
        Ok((location, dtype))
    }

    /// Refuses tensors of the model's own naming that nobody asked for: the model has more layers,
    /// or other parts, than config.json says, and would answer without them.
    ///
    /// # Errors
    /// [`ModelError::UnusedTensor`] with the first of them in alphabetical order.
    pub fn check_all_used(&self) -> Result<(), ModelError> {
        let is_own = |name: &str| {
            // Of tied embeddings some files hold the head once more; old ones hold frequencies.
            let spare = name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq");
            (name.starts_with("model.") || name.starts_with("lm_head.")) && !spare
        };
        let unused =
            |(name, at): &(&String, &Location)| is_own(name) && !at.used.load(Ordering::Relaxed);
        let count = self.tensors.iter().filter(unused).count();
        match self.tensors.iter().filter(unused).min_by_key(|(name, _)| *name) {
            None => Ok(()),
            Some((tensor, location)) => Err(ModelError::UnusedTensor {
                file: self.files[location.file].0.clone(),
                tensor: tensor.clone(),
                count,
            }),
        }
    }

    /// Gives the memory of what was read so far back to the system; it is read again when needed.
    pub fn release(&self) {
        self.files.iter().for_each(|(_, bytes)| bytes.release());
    }

    /// Whether some file holds the tensor, of whatever shape and type.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Bytes of all tensors together, without the headers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let lengths = self.tensors.values().map(|location| location.range.len());
        lengths.map(|length| length as u64).sum()
    }

    fn check_index(&self, index: &ShardIndex) -> Result<(), ModelError> {
        let numbers: HashMap<&str, usize> = self
            .files
            .iter()
            .enumerate()
            .map(|(number, (name, _))| (name.as_str(), number))
            .collect();
        for (tensor, file) in &index.entries {
            let Some(number) = numbers.get(file.as_str()) else {
                return Err(ModelError::MissingShard {
                    index: INDEX_FILE.into(),
                    file: file.clone(),
                    tensor: tensor.clone(),
                });
            };
            let instead = match self.tensors.get(tensor) {
                Some(location) if location.file == *number => continue,
                Some(location) => format!("it is in {}", self.files[location.file].0),
                None => "no file does".to_owned(),
            };
            return Err(ModelError::NotInShard {
                index: INDEX_FILE.into(),
                tensor: tensor.clone(),
                file: file.clone(),
                instead,
            });
        }
        Ok(())
    }

    fn file_list(&self) -> String {
        let names: Vec<&str> =
            self.files.iter().take(LISTED).map(|(name, _)| name.as_str()).collect();
        let rest = match self.files.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        names.join(", ") + &rest
    }
}

/// Files and totals: the tensors may be gigabytes.
impl fmt::Debug for Checkpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Checkpoint")
            .field("files", &self.file_list())
            .field("tensors", &self.tensors.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}

/// The tensor whose entry in `header` is none by itself, for a message.
fn culprit(header: &[u8]) -> String {
    let entries: Option<HashMap<String, Value>> = serde_json::from_slice(header).ok();
    let is_bad = |(name, entry): &(String, Value)| {
        *name != "__metadata__" && TensorInfo::deserialize(entry).is_err()
    };
    match entries.into_iter().flatten().find(is_bad) {
        Some((name, _)) => format!(" at tensor `{name:.200}`"),
        None => String::new(),
    }
}

/// Reads one file's header and checks that its tensors fill the rest of the file exactly.
///
/// The lengths are added here, with overflow checks, rather than by the safetensors crate's
/// `read_metadata`: in 0.8.0 forged byte ranges overflow its sum, a panic in debug builds.
fn read_header(
    number: usize,
    name: &str,
    bytes: &[u8],
) -> Result<Vec<(String, Location)>, ModelError> {
    let not_safetensors =
        |reason: &str| ModelError::NotSafetensors { file: name.into(), reason: reason.into() };
    let found = bytes.len() as u64;
    let truncated = |expected: u64, part: &'static str| ModelError::Truncated {
        file: name.into(),
        found,
        expected,
        part,
    };
    if bytes.is_empty() {
        return Err(not_safetensors("the file is empty; fetch it again"));
    }
    if bytes.starts_with(LFS_POINTER) {
        return Err(not_safetensors("it is a Git LFS pointer; run `git lfs pull` in the folder"));
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Err(truncated(LENGTH as u64, "the header's length"));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(not_safetensors(&format!(
            "the first 8 bytes announce a header of {length} bytes (at most {MAX_HEADER})"
        )));
    }
    let Some(header) = usize::try_from(length).ok().and_then(|end| rest.get(..end)) else {
        return Err(truncated(LENGTH as u64 + length, "the header"));
    };
    let corrupt =
        |source| ModelError::CorruptHeader { file: name.into(), tensor: culprit(header), source };
    let DistinctNames = serde_json::from_slice(header).map_err(corrupt)?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(corrupt)?;
    if let Some(long) = metadata.offset_keys().iter().find(|name| name.len() > MOST_NAME) {
        let reason = format!("a tensor's name has {} bytes (at most {MOST_NAME})", long.len());
        return Err(not_safetensors(&reason));
    }
    let start = LENGTH + header.len();
    let end = start.checked_add(metadata.data_len());
    match end.map(|end| end as u64) {
        None => return Err(not_safetensors("the tensors' byte ranges overflow")),
        Some(end) if end > found => return Err(truncated(end, "its tensors")),
        Some(end) if end < found => {
            let reason = format!("{} stray bytes after the last tensor", found - end);
            return Err(not_safetensors(&reason));
        }
        Some(_) => {}
    }
    Ok(metadata
        .tensors()
        .into_iter()
        .map(|(tensor, info)| {
            let location = Location {
                file: number,
                dtype: info.dtype,
                shape: info.shape.clone(),
                range: start + info.data_offsets.0..start + info.data_offsets.1,
                used: AtomicBool::new(false),
            };
            (tensor, location)
        })
        .collect())
}
