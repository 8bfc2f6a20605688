//! Typed access to the fields of a JSON object that someone else wrote.
//!
//! Receives the bytes of a file such as `config.json`; gives its fields as sizes, numbers, flags
//! or texts, or a [`ModelError`] that names file, field, value and expectation. `null` counts as
//! absent, as in the Python configurations these files are written from.

use serde_json::{Map, Value};

use super::ModelError;
use crate::distinct::Distinct;
use crate::files::without_mark;

/// Longest excerpt of a foreign value that an error message repeats, in characters.
const EXCERPT: usize = 60;

/// A JSON object, with the names that errors need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    file: &'a str,
    /// Path of this object in the file, with a trailing dot; empty for the root.
    prefix: &'static str,
    map: &'a Map<String, Value>,
}

/// Reads a file that must hold one JSON object.
pub(super) fn object(file: &str, bytes: &[u8]) -> Result<Map<String, Value>, ModelError> {
    match serde_json::from_slice(without_mark(bytes)).map(|Distinct(value)| value) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(ModelError::BadField {
            file: file.into(),
            field: "(the whole file)".into(),
            found: excerpt(&other),
            expected: "an object".into(),
        }),
        Err(source) => Err(ModelError::Json { file: file.into(), source }),
    }
}

/// A value as it would stand in the file, cut to a readable length.
pub(super) fn excerpt(value: &Value) -> String {
    shortened(&value.to_string())
}

/// A text of somebody else's, cut to a readable length.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl<'a> Fields<'a> {
    /// The root object of `file`.
    pub(super) fn new(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Self { file, prefix: "", map }
    }

    /// Whether the field is written at all, be it as `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// The field's value, unless absent or `null`.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// An integer in `1..=max`, unless absent or `null`.
    pub(super) fn size(&self, name: &str, max: usize) -> Result<Option<usize>, ModelError> {
        self.get(name)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|n| usize::try_from(n).ok())
                    .filter(|n| (1..=max).contains(n))
                    .ok_or_else(|| self.bad(name, value, format!("an integer from 1 to {max}")))
            })
            .transpose()
    }

    /// An integer in `1..=max` that must be there.
    pub(super) fn required_size(&self, name: &str, max: usize) -> Result<usize, ModelError> {
        self.size(name, max)?
            .ok_or_else(|| self.missing(name, format!("an integer from 1 to {max}")))
    }

    /// A number, unless absent or `null`. JSON has no infinities, so it is finite.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        self.get(name)
            .map(|value| {
                value
                    .as_f64()
                    .filter(|number| number.is_finite())
                    .ok_or_else(|| self.bad(name, value, "a number"))
            })
            .transpose()
    }

    /// `true` or `false`; `default` where absent or `null`.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, ModelError> {
        self.get(name).map_or(Ok(default), |value| {
            value.as_bool().ok_or_else(|| self.bad(name, value, "true or false"))
        })
    }

    /// A string, unless absent or `null`.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        self.get(name)
            .map(|value| value.as_str().ok_or_else(|| self.bad(name, value, "a string")))
            .transpose()
    }

    /// A list, unless absent or `null`.
    pub(super) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, ModelError> {
        self.get(name)
            .map(|value| {
                value.as_array().map(Vec::as_slice).ok_or_else(|| self.bad(name, value, "a list"))
            })
            .transpose()
    }

    /// A nested object, unless absent or `null`. `prefix` is its name with a dot.
    pub(super) fn nested(
        &self,
        name: &str,
        prefix: &'static str,
    ) -> Result<Option<Self>, ModelError> {
        self.get(name)
            .map(|value| match value {
                Value::Object(map) => Ok(Self { file: self.file, prefix, map }),
                _ => Err(self.bad(name, value, "an object")),
            })
            .transpose()
    }

    /// One token id or a list of them, unless absent or `null`.
    pub(super) fn token_ids(&self, name: &str) -> Result<Option<Vec<u32>>, ModelError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match value {
            Value::Array(ids) => ids.iter().map(id).collect(),
            single => id(single).map(|id| vec![id]),
        }
        .map(Some)
        .ok_or_else(|| self.bad(name, value, "a token id or a list of token ids"))
    }

    /// The name, value and type of every entry.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.map.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The error for a field that must be there.
    pub(super) fn missing(&self, name: &str, expected: impl Into<String>) -> ModelError {
        ModelError::MissingField {
            file: self.file.into(),
            field: format!("{}{name}", self.prefix),
            expected: expected.into(),
        }
    }

    /// The error for a value that makes no sense.
    pub(super) fn bad(&self, name: &str, found: &Value, expected: impl Into<String>) -> ModelError {
        ModelError::BadField {
            file: self.file.into(),
            field: format!("{}{name}", self.prefix),
            found: excerpt(found),
            expected: expected.into(),
        }
    }

    /// The error for a value that makes sense, but is not computed here.
    pub(super) fn unsupported(
        &self,
        name: &str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> ModelError {
        ModelError::Unsupported {
            file: self.file.into(),
            field: format!("{}{name}", self.prefix),
            found: found.into(),
            advice: advice.into(),
        }
    }
}
