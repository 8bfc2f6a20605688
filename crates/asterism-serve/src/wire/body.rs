//! The fields of a request's body, taken out one by one: what is wrong is said with its name, and
//! what is left over is known.

use crate::error::{ApiError, ApiResult};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A JSON object on its way into a request.
#[derive(Debug, Clone)]
pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// Reads the bytes of a body.
    ///
    /// # Errors
    /// If they are not a JSON object.
    pub(crate) fn read(bytes: &[u8]) -> ApiResult<Self> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            ApiError::bad("invalid_json", format!("the body is not valid JSON: {error}"))
        })?;
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(ApiError::bad("invalid_json", "the body must be a JSON object")),
        }
    }

    /// All of it, as one value.
    ///
    /// # Errors
    /// If a field is missing, of another type, or unknown.
    pub(crate) fn whole<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
        let fields = Value::Object(Self::read(bytes)?.0);
        serde_json::from_value(fields)
            .map_err(|error| ApiError::bad("invalid_value", error.to_string()))
    }

    /// The fields of a form, all of which are text.
    pub(crate) fn of_form(fields: Vec<(String, String)>) -> Self {
        let value = |text: String| match serde_json::from_str(&text) {
            // Numbers, yes and no are what they look like.
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
            _ => Value::String(text),
        };
        Self(fields.into_iter().map(|(name, text)| (name, value(text))).collect())
    }

    /// Takes a field that may be missing or null.
    ///
    /// # Errors
    /// If it is of another type.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> ApiResult<Option<T>> {
        let Some(value) = self.0.remove(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| ApiError::param(name, format!("{name}: {error}")))
    }

    /// Whether a field is there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes a field that has to be there.
    ///
    /// # Errors
    /// If it is missing or of another type.
    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &str) -> ApiResult<T> {
        self.take(name)?.ok_or_else(|| {
            let message = format!("{name} is missing");
            ApiError::param(name, message)
        })
    }

    /// What nobody took.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.0
    }

    /// Refuses fields that nobody took: for our own requests, where a field of another name is a
    /// mistake.
    ///
    /// # Errors
    /// Names the first of them.
    pub(crate) fn nothing_left(self) -> ApiResult<()> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::param(&name, format!("unknown field {name:?}"))),
        }
    }
}
