//! A model's chat template: messages to the text it was trained on.
//!
//! Receives the files a model came with (`tokenizer_config.json`, `chat_template.jinja`) and then
//! messages; returns the prompt as text, character for character what Transformers'
//! `apply_chat_template` renders. The language is in `jinja.rs`; here is what surrounds it: where
//! the template and the special tokens are found, and which variables a template can see.

use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{TextError, jinja};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    /// `bos_token` and so on; one that the model lacks is undefined in the template.
    special_tokens: Map<String, Json>,
}

/// The special tokens a template can name, with Transformers' names.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

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
        let config = tokenizer_config.map(parse_config).transpose()?;
        let config = config.unwrap_or_default();
        let source = match chat_template_jinja {
            Some(source) => Some(source),
            None => configured_template(&config)?,
        };
        let Some(source) = source else {
            return Ok(None);
        };
        let mut special_tokens = Map::new();
        for name in SPECIAL_TOKENS {
            if let Some(token) = special_token(&config, name)? {
                special_tokens.insert(name.to_owned(), token.into());
            }
        }
        Ok(Some(Self { env: jinja::environment(source)?, special_tokens }))
    }

    /// Fixes the moment that the template's `strftime_now` sees, in seconds since 1970, so that a
    /// prompt with a date in it can be reproduced.
    #[must_use]
    pub fn at_moment(mut self, unix_seconds: i64) -> Self {
        jinja::set_moment(&mut self.env, unix_seconds);
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
        let messages: Value = messages.iter().map(message).collect();
        self.render_values(messages, &Map::new(), add_generation_prompt)
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
        self.render_values(messages, extra, add_generation_prompt)
    }

    fn render_values(
        &self,
        messages: Value,
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
        self.env
            .get_template(jinja::NAME)
            .and_then(|template| template.render(context))
            .map_err(|e| TextError::Render { reason: jinja::explain(&e) })
    }
}

/// The bos token that a base model's prompt begins with, from its `tokenizer_config.json`; `None`
/// if there is none, or if the file says that prompts do not begin with it.
///
/// # Errors
/// [`TextError::BadTokenizerConfig`] if the file does not hold what it should.
pub fn configured_bos(tokenizer_config: &[u8]) -> Result<Option<String>, TextError> {
    let config = parse_config(tokenizer_config)?;
    if config.get("add_bos_token") == Some(&Json::Bool(false)) {
        return Ok(None);
    }
    Ok(special_token(&config, "bos_token")?.map(str::to_owned))
}

fn parse_config(bytes: &[u8]) -> Result<Map<String, Json>, TextError> {
    serde_json::from_slice(bytes)
        .map_err(|e| TextError::BadTokenizerConfig { reason: e.to_string() })
}

fn configured_template(config: &Map<String, Json>) -> Result<Option<&str>, TextError> {
    let list = match config.get("chat_template") {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(source)) => return Ok(Some(source)),
        Some(Json::Array(list)) => list,
        Some(other) => {
            return Err(TextError::BadTokenizerConfig {
                reason: format!("chat_template is {}, not text or a list", type_name(other)),
            });
        }
    };
    let mut names = Vec::new();
    for entry in list {
        let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str())
        else {
            return Err(TextError::BadTokenizerConfig {
                reason: "an entry of the chat_template list lacks a name or a template".to_owned(),
            });
        };
        if name == "default" {
            return Ok(Some(source));
        }
        names.push(name);
    }
    Err(TextError::NoDefaultTemplate { names: names.join(", ") })
}

/// A special token's text, which stands there by itself or as the `content` of an object.
fn special_token<'c>(
    config: &'c Map<String, Json>,
    name: &str,
) -> Result<Option<&'c str>, TextError> {
    let field = config.get(name).unwrap_or(&Json::Null);
    match field.get("content").unwrap_or(field) {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text)),
        other => Err(TextError::BadTokenizerConfig {
            reason: format!("{name} is {}, not text", type_name(other)),
        }),
    }
}

/// A message with its reasoning under all the names that templates read.
fn with_reasoning(fields: &Map<String, Json>) -> Map<String, Json> {
    let mut fields = fields.clone();
    let given = REASONING.iter().filter_map(|name| fields.get(*name));
    if let Some(reasoning) = given.filter(|value| !value.is_null()).next().cloned() {
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
            (None, None) => number.as_f64().map_or(Value::UNDEFINED, Value::from),
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => items.iter().map(to_value).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), to_value(value))))
        }
    }
}

fn type_name(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
    fn the_default_of_a_list_is_taken() {
        let entry = |name: &str| json!({"name": name, "template": format!("<{name}>")});
        let template = from_config(json!({"chat_template": [entry("tool_use"), entry("default")]}));
        assert_eq!(template.unwrap().unwrap().render(&[], false).unwrap(), "<default>");
        let error =
            from_config(json!({"chat_template": [entry("tool_use"), entry("rag")]})).unwrap_err();
        assert_eq!(error, TextError::NoDefaultTemplate { names: "tool_use, rag".into() });
    }

    #[test]
    fn fields_of_the_wrong_type_are_errors() {
        for config in [
            json!([]),
            json!({"chat_template": 3}),
            json!({"chat_template": [{"name": "default"}]}),
            json!({"chat_template": "x", "bos_token": 1}),
            json!({"chat_template": "x", "eos_token": {"content": []}}),
        ] {
            assert!(matches!(from_config(config), Err(TextError::BadTokenizerConfig { .. })));
        }
        assert!(matches!(
            from_config(json!({"chat_template": "{% if"})),
            Err(TextError::BadTemplate { .. })
        ));
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

    #[test]
    fn bos_of_a_base_model_is_the_configured_one_unless_switched_off() {
        let bos = |config: Json| configured_bos(config.to_string().as_bytes()).unwrap();
        assert_eq!(bos(json!({"bos_token": "<s>"})).as_deref(), Some("<s>"));
        assert_eq!(
            bos(json!({"bos_token": {"content": "<s>"}, "add_bos_token": true})).as_deref(),
            Some("<s>")
        );
        assert_eq!(bos(json!({"bos_token": "<s>", "add_bos_token": false})), None);
        assert_eq!(bos(json!({"bos_token": null})), None);
    }
}
