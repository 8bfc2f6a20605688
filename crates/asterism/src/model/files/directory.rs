//! A model in a folder, laid out as on the Hub.
//!
//! Receives the folder; gives its [`ModelFiles`], small files read, weight files mapped. The Hub's
//! local cache has the same layout, so models fetched from there are read here too.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::ModelFiles;
use super::shard_index::{INDEX_FILE, ShardIndex};
use crate::files::{read_regular, regular_size, without_mark};
use crate::model::ModelError;
use crate::tensor::Bytes;

/// The architecture; required.
pub(super) const CONFIG: &str = "config.json";
/// The tokenizer; required.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The weights, where one file holds them all.
pub(super) const SINGLE_WEIGHTS: &str = "model.safetensors";
const GENERATION_CONFIG: &str = "generation_config.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// Bytes of the largest tokenizer.json that is read; published ones have up to 35 MB.
const MOST_TOKENIZER: u64 = 256 << 20;
/// Bytes of the largest other file that is read whole. An index of 100,000 tensors has ten million.
pub(super) const MOST_OTHER: u64 = 64 << 20;
/// Files that are used where they are there.
#[cfg(feature = "hub")]
pub(super) const OPTIONAL: [&str; 3] = [GENERATION_CONFIG, TOKENIZER_CONFIG, CHAT_TEMPLATE];

/// How a model's weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// In `model.safetensors`.
    Single,
    /// In the files that `model.safetensors.index.json` names.
    Sharded,
}

impl Weights {
    /// Decides by the names of the files in `origin`; with both layouts present the single file
    /// is taken, as Transformers does.
    ///
    /// # Errors
    /// Neither is there; with its own message where there are pickles instead.
    pub(super) fn among(origin: &str, names: &[String]) -> Result<Self, ModelError> {
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has(SINGLE_WEIGHTS) {
            return Ok(Self::Single);
        }
        if has(INDEX_FILE) {
            return Ok(Self::Sharded);
        }
        let pickle = |name: &&String| {
            [".bin", ".pt", ".pth", ".bin.index.json"].iter().any(|end| name.ends_with(end))
        };
        // Sorted, so that the message does not depend on the order of the folder.
        Err(match names.iter().filter(pickle).min() {
            Some(found) => ModelError::PickleOnly { origin: origin.into(), found: found.clone() },
            None => missing(origin, "model.safetensors or model.safetensors.index.json"),
        })
    }
}

/// The error for a file that every model needs.
pub(super) fn missing(origin: &str, file: &str) -> ModelError {
    ModelError::MissingFile {
        origin: origin.into(),
        file: file.into(),
        hint: match file {
            CONFIG => "a Transformers model folder has one; convert other formats first",
            TOKENIZER => {
                "save it with AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(...)"
            }
            _ => "copy it from the model's Hub repository, or convert the weights to safetensors",
        },
    }
}

/// Reads a model folder, with its weights or without; `name` is what the model will be called.
///
/// # Errors
/// No such folder, files that are missing or cannot be read, an index that is not one.
pub(super) fn read(dir: &Path, name: String, with_weights: bool) -> Result<ModelFiles, ModelError> {
    let origin = dir.display().to_string();
    let names = list(dir)?;
    let required = |file: &str| match read_if_there(dir, file)? {
        Some(bytes) => Ok(bytes),
        None => Err(missing(&origin, file)),
    };
    let config = required(CONFIG)?;
    let tokenizer = required(TOKENIZER)?;
    let chat_template = read_if_there(dir, CHAT_TEMPLATE)?
        .map(|bytes| String::from_utf8(without_mark(&bytes).to_vec()))
        .transpose()
        .map_err(|_| ModelError::NotUtf8 { file: dir.join(CHAT_TEMPLATE).display().to_string() })?;
    let layout = with_weights.then(|| Weights::among(&origin, &names)).transpose()?;
    let (weights, weight_index) = match layout {
        None => (Vec::new(), None),
        Some(Weights::Single) => (vec![map(dir, SINGLE_WEIGHTS)?], None),
        Some(Weights::Sharded) => {
            let bytes = required(INDEX_FILE)?;
            let index = ShardIndex::parse(&bytes)?;
            let shards = index.files().into_iter().map(|file| map(dir, file));
            (shards.collect::<Result<_, _>>()?, Some(bytes))
        }
    };
    Ok(ModelFiles {
        name,
        config,
        generation_config: read_if_there(dir, GENERATION_CONFIG)?,
        tokenizer,
        tokenizer_config: read_if_there(dir, TOKENIZER_CONFIG)?,
        chat_template,
        weights,
        weight_index,
    })
}

fn list(dir: &Path) -> Result<Vec<String>, ModelError> {
    let failed = |source| ModelError::Io { path: dir.into(), source };
    let entries = fs::read_dir(dir).map_err(|source| match source.kind() {
        ErrorKind::NotFound => ModelError::NoSuchDirectory { path: dir.into() },
        ErrorKind::NotADirectory => ModelError::NotADirectory { path: dir.into() },
        _ => failed(source),
    })?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Reads a file that is read whole, if it is there.
fn read_if_there(dir: &Path, file: &str) -> Result<Option<Vec<u8>>, ModelError> {
    let path = dir.join(file);
    let most = if file == TOKENIZER { MOST_TOKENIZER } else { MOST_OTHER };
    match read_regular(&path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Io { path, source }),
    }
}

fn map(dir: &Path, file: &str) -> Result<(String, Bytes), ModelError> {
    let path = dir.join(file);
    match regular_size(&path).and_then(|_| Bytes::map(&path)) {
        Ok(bytes) => Ok((file.to_owned(), bytes)),
        Err(source) if source.kind() == ErrorKind::NotFound => {
            Err(missing(&dir.display().to_string(), file))
        }
        Err(source) => Err(ModelError::Io { path, source }),
    }
}
