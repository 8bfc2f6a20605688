//! Requests of OpenAI's API, with our fields beside OpenAI's.

use super::{Body, MethodFields, sort_fields};
use crate::error::{ApiError, ApiResult};
use asterism::engine::{Generation, TextOptions};
use asterism::text::Message;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Answers to one request at most.
const MOST_ANSWERS: usize = 32;
/// Likely tokens beside each chosen one at most: OpenAI's bound.
const MOST_LOGPROBS: usize = 20;
/// Stop strings at most.
const MOST_STOPS: usize = 16;

/// One text, or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// A message of a conversation.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct ChatMessage {
    /// system, developer, user or assistant.
    role: String,
    /// Its text, or a list of parts of type "text", between which stands a blank line.
    content: Option<Content>,
}

/// What a message says.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of what a message says.
#[derive(Debug, Clone, Deserialize, ToSchema)]
struct Part {
    /// "text"; others are refused.
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl ChatMessage {
    fn message(self, index: usize) -> ApiResult<Message> {
        let refuse = |field: &str, message: String| {
            ApiError::param(&format!("messages[{index}].{field}"), message)
        };
        let role = match &*self.role {
            // OpenAI's newer name.
            "developer" => "system".to_owned(),
            "system" | "user" | "assistant" => self.role,
            other => {
                let message = format!(
                    "role {other:?} is not supported: it may be system, developer, user or \
                     assistant"
                );
                return Err(refuse("role", message));
            }
        };
        let content = match self.content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let text = |part: Part| match (&*part.kind, part.text) {
                    ("text", Some(text)) => Ok(text),
                    (kind, _) => {
                        let message = format!("a part of type {kind:?} cannot be read: send text");
                        Err(refuse("content", message))
                    }
                };
                parts.into_iter().map(text).collect::<ApiResult<Vec<_>>>()?.join("\n\n")
            }
            None => return Err(refuse("content", "a message needs a content".to_owned())),
        };
        Ok(Message { role, content })
    }
}

/// How an answer is to be generated; the server's own settings where a field is missing.
#[derive(Debug, Clone, Default, ToSchema)]
pub(crate) struct AnswerFields {
    /// Tokens of the answer at most.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// Its newer name.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<usize>,
    /// 0 always takes the likeliest token.
    #[schema(minimum = 0)]
    temperature: Option<f32>,
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    /// 0 for all.
    top_k: Option<usize>,
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f32>,
    #[schema(exclusive_minimum = 0)]
    repetition_penalty: Option<f32>,
    /// The same seed and settings give the same answer, whoever else asks.
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    /// Say which blocks of the context the question looked at.
    sources: Option<bool>,
}

impl AnswerFields {
    pub(crate) fn take(body: &mut Body) -> ApiResult<Self> {
        let fields = Self {
            max_tokens: body.take("max_tokens")?,
            max_completion_tokens: body.take("max_completion_tokens")?,
            temperature: body.take("temperature")?,
            top_p: body.take("top_p")?,
            top_k: body.take("top_k")?,
            min_p: body.take("min_p")?,
            repetition_penalty: body.take("repetition_penalty")?,
            seed: body.take("seed")?,
            stop: body.take("stop")?,
            sources: body.take("sources")?,
        };
        if let (Some(older), Some(newer)) = (fields.max_tokens, fields.max_completion_tokens)
            && newer != older
        {
            let message = format!(
                "max_tokens is {older} and max_completion_tokens, its newer name, is {newer}: give one"
            );
            return Err(ApiError::param("max_tokens", message));
        }
        Ok(fields)
    }

    /// How the answer is generated, where `default` fills in what was not said.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub(crate) fn generation(&self, default: &Generation) -> ApiResult<Generation> {
        let mut generation = default.clone();
        let sampling = &mut generation.sampling;
        sampling.temperature = self.temperature.unwrap_or(sampling.temperature);
        sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.min_p = self.min_p.unwrap_or(sampling.min_p);
        sampling.repetition_penalty =
            self.repetition_penalty.unwrap_or(sampling.repetition_penalty);
        // Clients send -1 for any; it is a seed like others here.
        sampling.seed = self.seed.map_or(sampling.seed, |seed| seed as u64);
        sampling
            .check()
            .map_err(|error| ApiError::param(&error.name.replace('-', "_"), error.to_string()))?;
        let asked = self.max_completion_tokens.or(self.max_tokens);
        generation.max_tokens = asked.unwrap_or(generation.max_tokens);
        if generation.max_tokens == 0 {
            return Err(ApiError::param("max_tokens", "max_tokens is 0: it must be at least 1"));
        }
        generation.sources = self.sources.unwrap_or(generation.sources);
        Ok(generation)
    }

    /// How its tokens become text.
    ///
    /// # Errors
    /// If there are too many stop strings, or an empty one.
    pub(crate) fn text(&self) -> ApiResult<TextOptions> {
        let stop = self.stop.clone().map(OneOrMany::into_vec).unwrap_or_default();
        if stop.len() > MOST_STOPS {
            let message = format!("{} stop strings: at most {MOST_STOPS}", stop.len());
            return Err(ApiError::param("stop", message));
        }
        if stop.iter().any(String::is_empty) {
            return Err(ApiError::param("stop", "a stop string is empty"));
        }
        Ok(TextOptions { stop, show_special: false })
    }
}

/// How a stream is to look.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// One more chunk, without choices, with the usage.
    #[serde(default)]
    pub(crate) include_usage: bool,
}

/// What an answer has to look like.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: JsonSchema },
}

/// A schema with a name.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct JsonSchema {
    /// JSON Schema.
    pub(crate) schema: Value,
}

/// What chats have beside what all requests have.
#[derive(Debug, Clone, Default, ToSchema)]
pub(crate) struct ChatFields {
    /// The model's id; or the id or name of a context, which the conversation is then about.
    pub(crate) model: Option<String>,
    #[schema(required = true)]
    messages: Option<Vec<ChatMessage>>,
    /// Say of each token how likely it was.
    logprobs: Option<bool>,
    /// Likely tokens beside each chosen one, at most 20.
    #[schema(maximum = 20)]
    top_logprobs: Option<usize>,
    pub(crate) response_format: Option<ResponseFormat>,
}

impl ChatFields {
    fn take(body: &mut Body) -> ApiResult<Self> {
        Ok(Self {
            model: body.take("model")?,
            messages: body.take("messages")?,
            logprobs: body.take("logprobs")?,
            top_logprobs: body.take("top_logprobs")?,
            response_format: body.take("response_format")?,
        })
    }

    /// The messages, if all can be read.
    fn messages(&mut self) -> ApiResult<Vec<Message>> {
        let messages = self.messages.take();
        let messages =
            messages.ok_or_else(|| ApiError::param("messages", "messages is missing"))?;
        let message = |(index, message): (usize, ChatMessage)| message.message(index);
        messages.into_iter().enumerate().map(message).collect()
    }

    /// Likely tokens beside each chosen one; `None` if no log-probabilities are wanted.
    fn likely(&self) -> ApiResult<Option<usize>> {
        let wanted = self.logprobs.unwrap_or(false);
        if self.top_logprobs.is_some_and(|top| top > 0) && !wanted {
            let message = "top_logprobs needs \"logprobs\": true";
            return Err(ApiError::param("top_logprobs", message));
        }
        bounded("top_logprobs", wanted.then_some(self.top_logprobs.unwrap_or(0)))
    }
}

/// `POST /v1/chat/completions`.
#[derive(Debug, Clone)]
pub(crate) struct ChatRequest {
    pub(crate) chat: ChatFields,
    pub(crate) messages: Vec<Message>,
    pub(crate) answer: AnswerFields,
    pub(crate) method: MethodFields,
    pub(crate) common: CommonFields,
    /// Likely tokens beside each chosen one; `None` if no log-probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    /// Fields that make no difference here.
    pub(crate) ignored: Vec<String>,
}

impl ChatRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn read(bytes: &[u8]) -> ApiResult<Self> {
        let mut body = Body::read(bytes)?;
        let mut chat = ChatFields::take(&mut body)?;
        Ok(Self {
            messages: chat.messages()?,
            logprobs: chat.likely()?,
            chat,
            answer: AnswerFields::take(&mut body)?,
            method: MethodFields::take(&mut body)?,
            common: CommonFields::take(&mut body)?,
            ignored: sort_fields(&body.rest())?,
        })
    }

    /// The model that it is for; nothing if it names none.
    pub(crate) fn model(&self) -> &str {
        self.chat.model.as_deref().unwrap_or_default()
    }
}

/// What completions have beside what all requests have.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct CompletionFields {
    /// The model's id.
    model: Option<String>,
    /// The text to continue, as it is; or a list of one.
    prompt: OneOrMany,
    /// Likely tokens beside each chosen one, at most 20.
    #[schema(maximum = 20)]
    pub(crate) logprobs: Option<usize>,
}

/// `POST /v1/completions`.
#[derive(Debug, Clone)]
pub(crate) struct CompletionRequest {
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) answer: AnswerFields,
    pub(crate) method: MethodFields,
    pub(crate) common: CommonFields,
    pub(crate) logprobs: Option<usize>,
    pub(crate) ignored: Vec<String>,
}

impl CompletionRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn read(bytes: &[u8]) -> ApiResult<Self> {
        let mut body = Body::read(bytes)?;
        let fields = CompletionFields {
            model: body.take("model")?,
            prompt: body.need("prompt")?,
            logprobs: body.take("logprobs")?,
        };
        let mut prompts = fields.prompt.into_vec();
        let prompt = match (prompts.pop(), prompts.is_empty()) {
            (Some(prompt), true) => prompt,
            _ => return Err(ApiError::param("prompt", "prompt must be one text")),
        };
        Ok(Self {
            model: fields.model.unwrap_or_default(),
            prompt,
            answer: AnswerFields::take(&mut body)?,
            method: MethodFields::take(&mut body)?,
            common: CommonFields::take(&mut body)?,
            logprobs: bounded("logprobs", fields.logprobs)?,
            ignored: sort_fields(&body.rest())?,
        })
    }
}

fn bounded(name: &str, logprobs: Option<usize>) -> ApiResult<Option<usize>> {
    match logprobs {
        Some(count) if count > MOST_LOGPROBS => {
            let message = format!("{name} is {count}: it must be at most {MOST_LOGPROBS}");
            Err(ApiError::param(name, message))
        }
        logprobs => Ok(logprobs),
    }
}

/// What both kinds of requests have.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
pub(crate) struct CommonFields {
    /// Send the answer in pieces, as server-sent events.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Answers, from as many seeds; at most 32.
    #[schema(minimum = 1, maximum = 32)]
    n: Option<usize>,
    /// Chunks that say how far the context is encoded.
    return_progress: Option<bool>,
}

impl CommonFields {
    fn take(body: &mut Body) -> ApiResult<Self> {
        let fields = Self {
            stream: body.take("stream")?,
            stream_options: body.take("stream_options")?,
            n: body.take("n")?,
            return_progress: body.take("return_progress")?,
        };
        let n = fields.n();
        if !(1..=MOST_ANSWERS).contains(&n) {
            let message = format!("n is {n}: it must be from 1 to {MOST_ANSWERS}");
            return Err(ApiError::param("n", message));
        }
        Ok(fields)
    }

    pub(crate) fn stream(self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with the usage.
    pub(crate) fn include_usage(self) -> bool {
        self.stream_options.unwrap_or_default().include_usage
    }

    pub(crate) fn n(self) -> usize {
        self.n.unwrap_or(1)
    }

    pub(crate) fn return_progress(self) -> bool {
        self.return_progress.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn chat(fields: Value) -> Result<ChatRequest, Value> {
        let mut all = json!({"model": "nano", "messages": [{"role": "user", "content": "Who?"}]});
        let object = all.as_object_mut().unwrap();
        object.extend(fields.as_object().cloned().unwrap());
        ChatRequest::read(all.to_string().as_bytes()).map_err(|error| error.body())
    }

    #[test]
    fn parts_of_a_message_stand_apart_by_a_blank_line() {
        let parts = json!([{"type": "text", "text": "A book."}, {"type": "text", "text": "Who?"}]);
        let request = chat(json!({"messages": [{"role": "user", "content": parts}]})).unwrap();
        assert_eq!(request.messages[0].content, "A book.\n\nWho?");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, param) in [
            (json!({"messages": "Who?"}), "messages"),
            (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                "messages[0].content",
            ),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"max_tokens": 5, "max_completion_tokens": 6}), "max_tokens"),
            (json!({"n": 0}), "n"),
            (json!({"n": 33}), "n"),
            (json!({"top_logprobs": 3}), "top_logprobs"),
            (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
            (json!({"response_format": {"type": "xml"}}), "response_format"),
            (json!({"stream": 1}), "stream"),
            (json!({"tools": [{}]}), "tools"),
        ] {
            let error = chat(fields.clone()).unwrap_err();
            assert_eq!(error["error"]["param"], param, "{fields} {error}");
        }
    }

    #[test]
    fn both_names_of_the_longest_answer_are_understood() {
        let tokens = |fields| {
            chat(fields).unwrap().answer.generation(&Generation::default()).unwrap().max_tokens
        };
        assert_eq!(tokens(json!({"max_tokens": 5})), 5);
        assert_eq!(tokens(json!({"max_completion_tokens": 6})), 6);
        assert_eq!(tokens(json!({"max_tokens": null})), 128);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (fields, param) in [
            (json!({"temperature": -1}), "temperature"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"max_tokens": 0}), "max_tokens"),
        ] {
            let answer = chat(fields).unwrap().answer;
            let error = answer.generation(&Generation::default()).unwrap_err().body();
            assert_eq!(error["error"]["param"], param);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ChatRequest::read(&bytes);
            let _ = CompletionRequest::read(&bytes);
        }

        #[test]
        fn any_values_are_read_or_refused(
            name in prop::sample::select(vec![
                "model", "messages", "n", "seed", "stop", "stream_options", "response_format",
                "max_tokens", "logprobs", "block", "revisit", "hosts", "temperature", "other",
            ]),
            value in prop::sample::select(vec![
                json!(null), json!(-1), json!(1e300), json!(18446744073709551615u64), json!(""),
                json!([]), json!({}), json!([[]]), json!([null]), json!({"type": 1}), json!(true),
            ]),
        ) {
            let _ = chat(json!({name: value}));
        }
    }
}
