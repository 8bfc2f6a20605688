//! Which weight file holds which tensor, for checkpoints of several files.
//!
//! Receives `model.safetensors.index.json` as Transformers writes it (an object whose
//! `weight_map` maps tensor names to file names beside the index); gives the pairs. The file names
//! come from outside and are later joined to a folder, so anything but a plain name is an error.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::model::ModelError;
use crate::model::fields::{self, Fields};

/// The index's file name.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// Bytes of the longest name of a tensor; published ones have some sixty.
pub(super) const MOST_NAME: usize = 256;
const NAMES: &str = "names of tensors, of at most 256 bytes";

/// The parsed index.
#[derive(Debug)]
pub(super) struct ShardIndex {
    /// Tensor name and file name, in the order of the index.
    pub(super) entries: Vec<(String, String)>,
}

impl ShardIndex {
    /// Parses an index.
    ///
    /// # Errors
    /// Not JSON, no `weight_map` or an empty one, file names that are not plain names.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ModelError> {
        let map = fields::object(INDEX_FILE, bytes)?;
        let root = Fields::new(INDEX_FILE, &map);
        let expected = "an object from tensor names to file names";
        let weights = root
            .nested("weight_map", "weight_map.")?
            .ok_or_else(|| root.missing("weight_map", expected))?;
        let entries: Vec<_> = weights
            .entries()
            .map(|(tensor, file)| match file.as_str() {
                _ if tensor.len() > MOST_NAME => Err(root.bad("weight_map", &tensor.into(), NAMES)),
                Some(name) if is_plain(name) => Ok((tensor.to_owned(), name.to_owned())),
                _ => Err(weights.bad(tensor, file, "the plain name of a file beside the index")),
            })
            .collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Err(root.missing("weight_map", expected));
        }
        Ok(Self { entries })
    }

    /// The weight files, each once, sorted.
    pub(super) fn files(&self) -> BTreeSet<&str> {
        self.entries.iter().map(|(_, file)| file.as_str()).collect()
    }
}

/// Whether joining `name` to a folder stays directly in that folder, on any system.
pub(super) fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['/', '\\', ':', '\0'])
        && name.len() < 256
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        ShardIndex::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_index_names_only_files_of_its_folder() {
        for name in ["../w.safetensors", "/etc/passwd", "a/b", "..", "", "c:x", "a\\\\b"] {
            let text = message(&format!(r#"{{"weight_map": {{"t": "{name}"}}}}"#));
            assert!(text.contains("weight_map.t") && text.contains("plain name"), "{text}");
        }
    }

    #[test]
    fn an_index_without_files_is_refused() {
        for json in ["{}", r#"{"weight_map": {}}"#] {
            assert!(message(json).contains("`weight_map` is missing"));
        }
    }

    #[test]
    fn a_file_with_several_tensors_is_listed_once() {
        let json = br#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#;
        let index = ShardIndex::parse(json).unwrap();
        assert_eq!(index.entries.len(), 3);
        assert!(index.files().into_iter().eq(["1.safetensors", "2.safetensors"]));
    }
}
