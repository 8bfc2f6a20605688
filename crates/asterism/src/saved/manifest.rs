//! `context.json`: what a saved context is, beside its keys.

use super::SavedError;
use crate::plan::Plan;
use crate::text::PromptFrame;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The format that this version writes, and the only one that it reads.
const FORMAT: &str = "asterism context 2";

/// What a saved context is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    /// What its keys depend on beside tokens and plan.
    pub(crate) by: SavedBy,
    pub(crate) plan: Plan,
    /// `[plan.tokens]`
    pub(crate) tokens: Vec<u32>,
    pub(crate) frame: PromptFrame,
    pub(crate) documents: Option<SavedDocuments>,
    /// Tokens of the question and of the answer that it was encoded with room for.
    pub(crate) room: (usize, usize),
    /// What encoding took, in seconds.
    pub(crate) encode_seconds: f64,
    /// Bytes of keys and values on all hosts.
    pub(crate) kv_bytes: u64,
}

/// The engine that encoded a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedBy {
    /// Of its configuration and weights.
    pub(crate) model: String,
    pub(crate) weights_in: String,
    pub(crate) keys_in: String,
}

/// The documents of a context, and how they were asked to be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedDocuments {
    /// Tokens from which on a document begins a block.
    pub(crate) own_blocks: Option<usize>,
    /// Names and texts.
    pub(crate) all: Vec<(String, String)>,
}

impl Manifest {
    /// What is saved of a context.
    pub(crate) fn new(
        by: SavedBy,
        (plan, tokens): (&Plan, &[u32]),
        frame: &PromptFrame,
        documents: Option<SavedDocuments>,
        room: (usize, usize),
        (encoding, kv_bytes): (Duration, u64),
    ) -> Self {
        Self {
            format: FORMAT.into(),
            by,
            plan: plan.clone(),
            tokens: tokens.to_vec(),
            frame: frame.clone(),
            documents,
            room,
            encode_seconds: encoding.as_secs_f64(),
            kv_bytes,
        }
    }

    /// Where it is in `folder`.
    pub(crate) fn path(folder: &Path) -> PathBuf {
        folder.join("context.json")
    }

    /// Writes it into `folder`: all of it or nothing.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), SavedError> {
        let (path, draft) = (Self::path(folder), folder.join("context.json.new"));
        let json = serde_json::to_vec(self)
            .map_err(|error| SavedError::Io { path: path.clone(), source: error.into() })?;
        std::fs::write(&draft, json).map_err(SavedError::io(&draft))?;
        std::fs::rename(&draft, &path).map_err(SavedError::io(&path))
    }

    /// Takes it out of `folder`, which then holds no context.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn remove(folder: &Path) -> Result<(), SavedError> {
        let path = Self::path(folder);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(SavedError::io(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Reads that of `folder`.
    ///
    /// # Errors
    /// [`SavedError::Nothing`] if there is none; the system's; what is wrong with it.
    pub(crate) fn read(folder: &Path) -> Result<Self, SavedError> {
        let path = Self::path(folder);
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => SavedError::Nothing(folder.to_owned()),
            _ => SavedError::Io { path: path.clone(), source },
        })?;
        Self::of_bytes(&path, &bytes)
    }

    /// Reads `bytes`, those of the file `path`.
    pub(super) fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self, SavedError> {
        /// All that is known of formats to come.
        #[derive(Deserialize)]
        struct Format {
            format: String,
        }
        let damaged = |error: serde_json::Error| SavedError::damaged(path, error.to_string());
        let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        differs(path, "the format", &format, FORMAT)?;
        let mut manifest: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        // First: checking a plan takes as long as it has tokens.
        let (planned, given) = (manifest.plan.tokens, manifest.tokens.len());
        if planned != given {
            let what = format!("its plan is for {planned} tokens, and it has {given}");
            return Err(SavedError::damaged(path, what));
        }
        let plan = manifest.plan.checked();
        manifest.plan =
            plan.map_err(|source| SavedError::Plan { path: path.to_owned(), source })?;
        Ok(manifest)
    }

    /// Checks that the engine `by`, which is to read the context in `folder`, would have the same
    /// keys.
    ///
    /// # Errors
    /// [`SavedError::Other`].
    pub(crate) fn check(&self, folder: &Path, by: &SavedBy) -> Result<(), SavedError> {
        let path = Self::path(folder);
        differs(&path, "the model", &self.by.model, &by.model)?;
        differs(&path, "weights in", &self.by.weights_in, &by.weights_in)?;
        differs(&path, "keys in", &self.by.keys_in, &by.keys_in)
    }
}

/// Refuses what differs.
fn differs(
    path: &Path,
    field: &'static str,
    found: &str,
    expected: &str,
) -> Result<(), SavedError> {
    if found == expected {
        return Ok(());
    }
    let (path, found, expected) = (path.to_owned(), found.to_owned(), expected.to_owned());
    Err(SavedError::Other { path, field, found, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanSpec;
    use serde_json::Value;

    fn manifest() -> Manifest {
        let by =
            SavedBy { model: "0123".into(), weights_in: "bf16".into(), keys_in: "bf16".into() };
        let plan = Plan::spaced(PlanSpec::star(32).anchor(16).hosts(2), 100, &[40], 4).unwrap();
        let frame = PromptFrame::from_template(None, None, Some("<s>")).unwrap();
        let all = vec![("a".into(), "one".into()), ("b".into(), "two".into())];
        let documents = SavedDocuments { own_blocks: Some(8), all };
        let (took, room) = (Duration::from_millis(1500), (256, 128));
        Manifest::new(by, (&plan, &[5; 100]), &frame, Some(documents), room, (took, 1 << 20))
    }

    #[test]
    fn what_was_written_is_read_by_the_same_engine_only() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, manifest) = (folder.path(), manifest());
        let nothing = Manifest::read(folder).unwrap_err();
        assert!(matches!(nothing, SavedError::Nothing(_)), "{nothing}");
        manifest.write(folder).unwrap();
        let read = Manifest::read(folder).unwrap();
        assert_eq!(read, manifest);
        read.check(folder, &manifest.by).unwrap();
        let other = SavedBy { keys_in: "fp8".into(), ..manifest.by };
        let error = read.check(folder, &other).unwrap_err().to_string();
        assert!(error.contains("keys in bf16, and this is fp8"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let path = Path::new("context.json");
        let whole = serde_json::to_value(manifest()).unwrap();
        type Change = fn(&mut Value);
        let error = |change: Change| {
            let mut value = whole.clone();
            change(&mut value);
            let bytes = value.to_string().into_bytes();
            Manifest::of_bytes(path, &bytes).unwrap_err().to_string()
        };
        let changes: [(&str, Change); 6] = [
            ("asterism context 9", |v| v["format"] = "asterism context 9".into()),
            ("missing field `tokens`", |v| drop(v.as_object_mut().unwrap().remove("tokens"))),
            ("unknown field `more`", |v| v["more"] = 1.into()),
            ("for 100 tokens, and it has 3", |v| v["tokens"] = vec![1, 2, 3].into()),
            ("none that this version makes", |v| v["plan"]["anchor"] = 17.into()),
            ("invalid type", |v| v["plan"]["hosts"] = "two".into()),
        ];
        for (words, change) in changes {
            let error = error(change);
            assert!(error.contains(words), "{words}: {error}");
        }
        let cut = &whole.to_string().into_bytes()[..50];
        assert!(matches!(Manifest::of_bytes(path, cut), Err(SavedError::Damaged { .. })));
    }
}
