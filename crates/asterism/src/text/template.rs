//! A model's chat template: messages to the text it was trained on.
//!
//! Receives the files a model came with (`tokenizer_config.json`, `chat_template.jinja`) and then
//! messages; returns the prompt as text, character for character what Transformers'
//! `apply_chat_template` renders. The language is in `jinja.rs`; here is what surrounds it: where
//! the template and the special tokens are found, and which variables a template can see.

use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::config::{TokenizerConfig, type_name};
use super::{TextError, jinja};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The speaker: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// The message's text.
    pub content: String,
}

/// A chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    /// `bos_token` and so on; one that the model lacks is undefined in the template.
    special_tokens: Map<String, Json>,
}

/// Names under which a message's reasoning is passed; a template may read the first or the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl ChatTemplate {
    /// Finds the template in a model's files, either of which may be missing.
    ///
    /// `chat_template.jinja` wins over the `chat_template` of `tokenizer_config.json`, which may
    /// be one template or a list of named ones with a `default`. `None` if there is no template:
    /// a base model.
    ///
    /// # Errors
    /// [`TextError::BadTokenizerConfig`], [`TextError::NoDefaultTemplate`] and
    /// [`TextError::BadTemplate`] for files that do not hold what they should.
    pub fn from_files(
        tokenizer_config: Option<&[u8]>,
        chat_template_jinja: Option<&str>,
    ) -> Result<Option<Self>, TextError> {
        let config = tokenizer_config.map(TokenizerConfig::from_bytes);
        let config = config.transpose()?.unwrap_or_default();
        let source = match chat_template_jinja {
            Some(source) => Some(source),
            None => config.chat_template()?,
        };
        let template = |source: &str| {
            Ok(Self { env: jinja::environment(source)?, special_tokens: config.special_tokens()? })
        };
        source.map(template).transpose()
    }

    /// Fixes the moment that the template's `strftime_now` sees, in seconds since 1970, so that a
    /// prompt with a date in it can be reproduced.
    #[must_use]
    pub fn at_moment(mut self, unix_seconds: i64) -> Self {
        jinja::set_clock(&mut self.env, move || Ok(unix_seconds as f64));
        self
    }

    /// Renders messages; `add_generation_prompt` opens the assistant's turn at the end.
    ///
    /// # Errors
    /// [`TextError::Render`] if the template refuses the messages, with its reason.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let message = |m: &Message| Value::from_pairs([("role", &m.role), ("content", &m.content)]);
        let bytes = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
        let messages: Value = messages.iter().map(message).collect();
        self.render_values(messages, bytes, &Map::new(), add_generation_prompt)
    }

    /// Renders messages of any form (lists of parts, tool calls) with further variables, such as
    /// `tools`, `date_string` or `enable_thinking`. A variable wins over a special token.
    ///
    /// # Errors
    /// [`TextError::BadMessages`] if `messages` is not a list of objects; [`TextError::Render`] if
    /// the template refuses them.
    pub fn render_with(
        &self,
        messages: &Json,
        extra: &Map<String, Json>,
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let list =
            messages.as_array().ok_or(TextError::BadMessages { found: type_name(messages) })?;
        let message = |m: &Json| match m {
            Json::Object(fields) => Ok(to_value(&Json::Object(with_reasoning(fields)))),
            other => Err(TextError::BadMessages { found: type_name(other) }),
        };
        let messages: Value = list.iter().map(message).collect::<Result<Vec<_>, _>>()?.into();
        self.render_values(messages, text_bytes(list), extra, add_generation_prompt)
    }

    fn render_values(
        &self,
        messages: Value,
        bytes: usize,
        extra: &Map<String, Json>,
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        // Defined but none, as Transformers passes them: templates ask `tools is not none`.
        let none = ["tools", "documents"].map(|name| (name.to_owned(), Value::from(())));
        let given = self.special_tokens.iter().chain(extra);
        let given = given.map(|(name, value)| (name.clone(), to_value(value)));
        let own = [
            ("messages".to_owned(), messages),
            ("add_generation_prompt".to_owned(), add_generation_prompt.into()),
        ];
        let context = Value::from_pairs(none.into_iter().chain(given).chain(own));
        let bytes = bytes + extra.values().map(|value| text_bytes([value])).sum::<usize>();
        jinja::render(&self.env, context, bytes)
    }
}

/// Bytes of all texts in `values`.
fn text_bytes<'j>(values: impl IntoIterator<Item = &'j Json>) -> usize {
    let bytes = |value: &'j Json| match value {
        Json::String(text) => text.len(),
        Json::Array(items) => text_bytes(items),
        Json::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + text_bytes([value])).sum()
        }
        _ => 8,
    };
    values.into_iter().map(bytes).sum()
}

/// A message with its reasoning under all the names that templates read.
fn with_reasoning(fields: &Map<String, Json>) -> Map<String, Json> {
    let mut fields = fields.clone();
    let mut given = REASONING.iter().filter_map(|name| fields.get(*name));
    if let Some(reasoning) = given.find(|value| !value.is_null()).cloned() {
        fields.entry(REASONING[1]).or_insert_with(|| reasoning.clone());
        fields.insert(REASONING[0].to_owned(), reasoning);
    }
    fields
}

/// JSON as a value of the template engine, objects in their own order.
fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => items.iter().map(to_value).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), to_value(value))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::nano_template;
    use super::*;
    use serde_json::json;

    fn from_config(config: Json) -> Result<Option<ChatTemplate>, TextError> {
        ChatTemplate::from_files(Some(config.to_string().as_bytes()), None)
    }

    fn user(content: &str) -> Message {
        Message { role: "user".into(), content: content.into() }
    }

    #[test]
    fn the_bundled_model_renders_its_headers() {
        assert_eq!(
            nano_template().render(&[user("Who?")], true).unwrap(),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
    }

    #[test]
    fn a_file_of_its_own_wins_and_still_sees_the_special_tokens() {
        let config = json!({"chat_template": "config", "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": null});
        let template = ChatTemplate::from_files(
            Some(config.to_string().as_bytes()),
            Some("{{ bos_token }}file{{ eos_token }}\n"),
        );
        assert_eq!(template.unwrap().unwrap().render(&[], false).unwrap(), "<s>file");
    }

    #[test]
    fn without_a_template_there_is_none() {
        assert!(ChatTemplate::from_files(None, None).unwrap().is_none());
        assert!(from_config(json!({"bos_token": "<s>"})).unwrap().is_none());
        assert!(from_config(json!({"chat_template": null})).unwrap().is_none());
    }

    #[test]
    fn files_that_cannot_be_used_are_errors() {
        let error = from_config(json!({"chat_template": "{% if"})).unwrap_err();
        assert!(matches!(error, TextError::BadTemplate { .. }));
        for config in [json!([]), json!({"chat_template": "x", "bos_token": 1})] {
            let error = from_config(config).unwrap_err();
            assert!(matches!(error, TextError::BadTokenizerConfig { .. }));
        }
    }

    #[test]
    fn tools_are_defined_but_none_until_they_are_given() {
        let source = "{% if tools is defined and tools is none %}none{% else %}{{ tools | tojson }}{% endif %}";
        let template = ChatTemplate::from_files(None, Some(source)).unwrap().unwrap();
        assert_eq!(template.render(&[], false).unwrap(), "none");
        let extra = json!({"tools": [{"b": 1, "a": 2.0}]});
        let rendered = template.render_with(&json!([]), extra.as_object().unwrap(), false);
        assert_eq!(rendered.unwrap(), r#"[{"b": 1, "a": 2.0}]"#);
    }

    #[test]
    fn reasoning_is_seen_under_both_names() {
        let source =
            "{% for m in messages %}[{{ m.reasoning_content }}|{{ m.thinking }}]{% endfor %}";
        let template = ChatTemplate::from_files(None, Some(source)).unwrap().unwrap();
        let messages = json!([{"reasoning": "a"}, {"thinking": "b", "reasoning_content": null}, {"thinking": "b", "reasoning_content": "c"}, {}]);
        let rendered = template.render_with(&messages, &Map::new(), false).unwrap();
        assert_eq!(rendered, "[a|a][b|b][c|b][|]");
    }

    #[test]
    fn messages_that_are_not_objects_are_errors() {
        let template = nano_template();
        let error = template.render_with(&json!({}), &Map::new(), false).unwrap_err();
        assert_eq!(error, TextError::BadMessages { found: "an object" });
        let error = template.render_with(&json!(["hi"]), &Map::new(), false).unwrap_err();
        assert_eq!(error, TextError::BadMessages { found: "text" });
    }

    #[test]
    fn a_refusal_keeps_the_templates_words() {
        let template =
            ChatTemplate::from_files(None, Some("{{ raise_exception('No system role.') }}"));
        let error = template.unwrap().unwrap().render(&[], true).unwrap_err();
        assert!(error.to_string().contains("No system role."), "{error}");
    }

    #[test]
    fn a_fixed_moment_dates_the_prompt() {
        let template = ChatTemplate::from_files(None, Some("{{ strftime_now('%Y-%m-%d') }}"))
            .unwrap()
            .unwrap();
        assert_eq!(template.at_moment(0).render(&[], false).unwrap(), "1970-01-01");
    }
}
