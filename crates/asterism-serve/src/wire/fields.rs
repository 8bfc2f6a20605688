//! Fields that a request has and this server does not know what to do with. Clients send many that
//! make no difference here; one that would change the answer must not be ignored.

use crate::error::{ApiError, ApiResult};
use serde_json::{Map, Value};

/// Fields that would change the answer, and the only values that mean "as if it were not there".
const CHANGING: [(&str, &[&str]); 16] = [
    ("audio", &[]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("function_call", &["\"none\""]),
    ("functions", &["[]"]),
    ("logit_bias", &["{}"]),
    ("modalities", &["[\"text\"]"]),
    ("prediction", &[]),
    ("presence_penalty", &["0", "0.0"]),
    ("suffix", &["\"\""]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("tools", &["[]"]),
    ("typical_p", &["1", "1.0"]),
    ("grammar", &["\"\""]),
    ("web_search_options", &[]),
];

/// The names of the fields in `rest` that are ignored.
///
/// # Errors
/// Names one that would change the answer.
pub(crate) fn sort_fields(rest: &Map<String, Value>) -> ApiResult<Vec<String>> {
    let mut ignored = Vec::new();
    for (name, value) in rest {
        let changing = CHANGING.iter().find(|(changing, _)| changing == name);
        match changing {
            _ if value.is_null() => {}
            Some((_, neutral)) if neutral.contains(&value.to_string().as_str()) => {}
            Some(_) => {
                let message = format!(
                    "{name:?} is not supported, and ignoring it would change the answer: leave it out"
                );
                return Err(ApiError::param(name, message));
            }
            None => ignored.push(name.clone()),
        }
    }
    ignored.sort_unstable();
    Ok(ignored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sorted(fields: Value) -> Result<Vec<String>, String> {
        let fields = fields.as_object().cloned().unwrap();
        sort_fields(&fields).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn harmless_fields_are_named_and_changing_ones_refused() {
        assert_eq!(
            sorted(json!({"user": "me", "tools": [], "store": null})),
            Ok(vec!["user".into()])
        );
        assert_eq!(sorted(json!({"presence_penalty": 0, "logit_bias": {}})), Ok(vec![]));
        for fields in [
            json!({"tools": [{"type": "function"}]}),
            json!({"presence_penalty": 0.5}),
            json!({"logit_bias": {"1": -100}}),
        ] {
            let name = fields.as_object().unwrap().keys().next().unwrap().clone();
            assert!(sorted(fields).unwrap_err().contains(&name));
        }
    }
}
