//! What `tokenizer_config.json` says about prompts.
//!
//! Receives the bytes of the file; returns its chat template and its special tokens, which both
//! come in several forms: a template may stand alone or in a list of named ones, a token may be
//! text or an object.

use serde_json::{Map, Value as Json};

use super::{TextError, Tokenizer};
use crate::distinct::Distinct;

/// The special tokens a template can name, with Transformers' names.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A `tokenizer_config.json`; the default is an empty one.
#[derive(Debug, Default)]
pub(super) struct TokenizerConfig(Map<String, Json>);

impl TokenizerConfig {
    /// Reads the file.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        match serde_json::from_slice(crate::files::without_mark(bytes)) {
            Ok(Distinct(Json::Object(fields))) => Ok(Self(fields)),
            Ok(Distinct(other)) => Err(bad(format!("it is {}, not an object", type_name(&other)))),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// The source of the chat template, if there is one: of several, the one named `default`.
    pub(super) fn chat_template(&self) -> Result<Option<&str>, TextError> {
        let list = match self.0.get("chat_template") {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::String(source)) => return Ok(Some(source)),
            Some(Json::Array(list)) => list,
            Some(other) => {
                let found = type_name(other);
                return Err(bad(format!("chat_template is {found}, not text or a list")));
            }
        };
        let mut names = Vec::new();
        for entry in list {
            let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str())
            else {
                return Err(bad(
                    "an entry of the chat_template list lacks a name or a template".to_owned()
                ));
            };
            if name == "default" {
                return Ok(Some(source));
            }
            names.push(name);
        }
        Err(TextError::NoDefaultTemplate { names: names.join(", ") })
    }

    /// The special tokens there are, by their names.
    pub(super) fn special_tokens(&self) -> Result<Map<String, Json>, TextError> {
        let mut tokens = Map::new();
        for name in SPECIAL_TOKENS {
            if let Some(token) = self.special_token(name)? {
                tokens.insert(name.to_owned(), token.into());
            }
        }
        Ok(tokens)
    }

    /// A special token's text, which stands there by itself or as the `content` of an object.
    fn special_token(&self, name: &str) -> Result<Option<&str>, TextError> {
        let field = self.0.get(name).unwrap_or(&Json::Null);
        match field.get("content").unwrap_or(field) {
            Json::Null => Ok(None),
            Json::String(text) => Ok(Some(text)),
            other => Err(bad(format!("{name} is {}, not text", type_name(other)))),
        }
    }
}

/// The text of the token that the prompt of a model without a chat template begins with; `None` if
/// it begins with none. `tokenizer_config.json` decides: it may say that there is no such token
/// (`add_bos_token` is false, or `bos_token` null) or name one. If it says nothing, the token is
/// `bos`, the id in `config.json`.
///
/// # Errors
/// [`TextError::BadTokenizerConfig`] if the file does not hold what it should, or names a token
/// that `tokenizer` does not have: it would be read as ordinary text.
pub(crate) fn bos_text(
    tokenizer_config: Option<&[u8]>,
    tokenizer: &Tokenizer,
    bos: Option<u32>,
) -> Result<Option<String>, TextError> {
    let config = tokenizer_config.map(TokenizerConfig::from_bytes);
    let config = config.transpose()?.unwrap_or_default();
    if config.0.get("add_bos_token") == Some(&Json::Bool(false))
        || config.0.get("bos_token") == Some(&Json::Null)
    {
        return Ok(None);
    }
    match config.special_token("bos_token")? {
        Some(text) if tokenizer.token_to_id(text).is_none() => {
            Err(bad(format!("bos_token {text:?} is not a token of tokenizer.json")))
        }
        Some(text) => Ok(Some(text.to_owned())),
        None => Ok(bos.and_then(|id| tokenizer.id_to_token(id))),
    }
}

/// A JSON type in words.
pub(super) fn type_name(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

fn bad(reason: String) -> TextError {
    TextError::BadTokenizerConfig { reason }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::sentencepiece_tokenizer;
    use super::*;
    use serde_json::json;

    fn config(json: Json) -> TokenizerConfig {
        TokenizerConfig::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_default_of_a_list_is_taken() {
        let entry = |name: &str| json!({"name": name, "template": format!("<{name}>")});
        let both = config(json!({"chat_template": [entry("tool_use"), entry("default")]}));
        assert_eq!(both.chat_template().unwrap(), Some("<default>"));
        let neither = config(json!({"chat_template": [entry("tool_use"), entry("rag")]}));
        let names = "tool_use, rag".to_owned();
        assert_eq!(neither.chat_template(), Err(TextError::NoDefaultTemplate { names }));
    }

    #[test]
    fn special_tokens_are_text_or_objects_or_missing() {
        let tokens = config(json!({
            "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
        }));
        let expected = json!({"bos_token": "<s>", "eos_token": "</s>"});
        assert_eq!(Json::from(tokens.special_tokens().unwrap()), expected);
    }

    #[test]
    fn fields_of_the_wrong_type_are_errors() {
        assert!(TokenizerConfig::from_bytes(b"[]").is_err());
        for template in [json!(3), json!({}), json!(["x"]), json!([{"name": "default"}])] {
            assert!(config(json!({"chat_template": template})).chat_template().is_err());
        }
        for token in [json!(1), json!({"lstrip": true}), json!({"content": []})] {
            let error = config(json!({"eos_token": token})).special_tokens();
            assert!(error.unwrap_err().to_string().contains("eos_token is"));
        }
    }

    #[test]
    fn bos_of_a_base_model_is_the_configured_one_unless_switched_off() {
        let tokenizer = sentencepiece_tokenizer(Json::Null);
        let bos = |config: Json| {
            bos_text(Some(config.to_string().as_bytes()), &tokenizer, Some(2)).unwrap()
        };
        let object = json!({"bos_token": {"content": "<s>"}, "add_bos_token": true});
        assert_eq!(bos(json!({"bos_token": "<s>"})).as_deref(), Some("<s>"));
        assert_eq!(bos(object).as_deref(), Some("<s>"));
        assert_eq!(bos(json!({"bos_token": "<s>", "add_bos_token": false})), None);
        assert_eq!(bos(json!({"bos_token": null})), None);
        // Nothing is said: the id of config.json.
        assert_eq!(bos(json!({"add_bos_token": true})).as_deref(), Some("</s>"));
        assert_eq!(bos_text(None, &tokenizer, Some(2)).unwrap().as_deref(), Some("</s>"));
        assert_eq!(bos_text(None, &tokenizer, None).unwrap(), None);
    }

    #[test]
    fn bos_must_be_a_token() {
        let tokenizer = sentencepiece_tokenizer(Json::Null);
        let error = bos_text(Some(br#"{"bos_token": "<bos>"}"#), &tokenizer, None).unwrap_err();
        assert!(error.to_string().contains("\"<bos>\" is not a token"), "{error}");
    }
}
