//! Chats, with our fields beside OpenAI's.

use super::common::bounded;
use super::{AnswerFields, Body, CommonFields, MethodFields, sort_fields};
use crate::error::{ApiError, ApiResult};
use asterism::text::Message;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

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
