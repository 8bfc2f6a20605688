//! What the answers to a request look like, put together.

use crate::contexts::source_infos;
use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::{
    MethodInfo, SourceInfo, Timings, Usage, chat_logprob, finish_reason, token_text,
};
use crate::work::{Asked, Encoded, Event};
use asterism::engine::{AnswerText, Generated, Logprobs};
use asterism::plan::PlanSpec;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Which of OpenAI's two kinds of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Completion,
}

impl Kind {
    /// The name of a whole answer of its kind.
    fn object(self) -> &'static str {
        match self {
            Self::Chat => "chat.completion",
            Self::Completion => "text_completion",
        }
    }
}

/// How the answers to a request are told.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// As the request named it.
    pub(crate) model: String,
    pub(crate) created: u64,
    pub(crate) spec: PlanSpec,
    /// The name of the context that is asked.
    pub(crate) context: Option<String>,
    pub(crate) sources: bool,
    pub(crate) logprobs: bool,
    /// How many there are to be.
    pub(crate) answers: usize,
    /// Whether the stream tells of progress.
    pub(crate) progress: bool,
    /// Whether it ends with the usage.
    pub(crate) include_usage: bool,
    pub(crate) ignored: Vec<String>,
}

/// What only this server says: how the context was encoded, and where the answer came from.
#[derive(Serialize)]
pub(crate) struct Ours<'a> {
    #[serde(flatten)]
    how: MethodInfo,
    context: Option<&'a str>,
    blocks: Value,
    revisited: Value,
    sources: Option<Vec<SourceInfo>>,
    ignored: &'a [String],
}

impl Reply {
    /// What all parts of the answer have: its name, its time, its model.
    pub(crate) fn envelope(&self, object: &str) -> Map<String, Value> {
        let fields = [
            ("id", json!(self.id)),
            ("object", json!(object)),
            ("created", json!(self.created)),
            ("model", json!(self.model)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What only this server says of an answer.
    ///
    /// # Errors
    /// If the tokenizer has no text for a source.
    pub(crate) fn ours<'a>(&'a self, encoded: &Encoded, answer: &Generated) -> ApiResult<Ours<'a>> {
        let sources = match self.sources {
            true => Some(source_infos(&encoded.context, &answer.sources)?),
            false => None,
        };
        Ok(Ours {
            how: self.spec.into(),
            context: self.context.as_deref(),
            blocks: json!({"reused": encoded.reused, "encoded": encoded.encoded}),
            revisited: revisited(answer),
            sources,
            ignored: &self.ignored,
        })
    }

    /// Log-probabilities of tokens, if they are wanted.
    pub(crate) fn logprobs(&self, app: &App, tokens: &[(u32, Logprobs)], at: usize) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let tokenizer = app.engine.tokenizer();
        if self.kind == Kind::Chat {
            let content = tokens.iter().map(|(id, likely)| chat_logprob(tokenizer, *id, likely));
            return json!({"content": content.collect::<Vec<_>>(), "refusal": null});
        }
        let text = |id: u32| token_text(tokenizer, id).0;
        let mut offset = at;
        let mut offsets = Vec::with_capacity(tokens.len());
        for (id, _) in tokens {
            offsets.push(offset);
            offset += text(*id).chars().count();
        }
        let top = |likely: &Logprobs| -> Map<String, Value> {
            likely.top.iter().map(|(id, logprob)| (text(*id), json!(logprob))).collect()
        };
        json!({
            "tokens": tokens.iter().map(|(id, _)| text(*id)).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|(_, likely)| likely.chosen).collect::<Vec<_>>(),
            "top_logprobs": tokens.iter().map(|(_, likely)| top(likely)).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }

    fn choice(&self, index: usize, text: &str, finish: &str, logprobs: Value) -> Value {
        match self.kind {
            Kind::Chat => json!({
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": logprobs,
                "finish_reason": finish,
            }),
            Kind::Completion => json!({
                "index": index,
                "text": text,
                "logprobs": logprobs,
                "finish_reason": finish,
            }),
        }
    }
}

/// What was computed anew for an answer.
pub(crate) fn revisited(answer: &Generated) -> Value {
    let revisited = answer.revisited;
    json!({"tokens": revisited.tokens, "seconds": revisited.time.as_secs_f64()})
}

/// All answers of a request, when the last one has ended.
///
/// # Errors
/// The failure that ended it.
pub(crate) async fn gather(
    asked: &mut Asked,
) -> ApiResult<(Box<Encoded>, Vec<(AnswerText, Vec<(u32, Logprobs)>)>)> {
    let (mut encoded, mut answers, mut tokens) = (None, Vec::new(), Vec::new());
    while let Some(event) = asked.next().await {
        match event {
            Event::Encoding { .. } => {}
            Event::Encoded(context) => encoded = Some(context),
            Event::Piece { tokens: new, .. } => tokens.extend(new),
            Event::Ended { answer, tokens: new, .. } => {
                tokens.extend(new);
                answers.push((*answer, std::mem::take(&mut tokens)));
            }
            Event::Failed(error) => return Err(error),
        }
    }
    let encoded = encoded.ok_or_else(|| ApiError::internal("the work ended without an answer"))?;
    Ok((encoded, answers))
}

/// The whole answer at once.
///
/// # Errors
/// The failure that ended it.
pub(crate) async fn respond(app: Arc<App>, reply: Reply, mut asked: Asked) -> ApiResult<Response> {
    let (encoded, answers) = gather(&mut asked).await?;
    let missing = || ApiError::internal("the work ended before all answers were there");
    let (first, _) =
        answers.first().filter(|_| answers.len() == reply.answers).ok_or_else(missing)?;
    let generated: Vec<&Generated> = answers.iter().map(|(answer, _)| &answer.generated).collect();
    let choices = answers.iter().enumerate().map(|(index, (answer, tokens))| {
        let logprobs = reply.logprobs(&app, tokens, 0);
        let finish = finish_reason(answer.generated.finish);
        reply.choice(index, &answer.text, finish, logprobs)
    });
    let mut body = reply.envelope(reply.kind.object());
    body.insert("choices".into(), choices.collect());
    body.insert("usage".into(), json!(Usage::of(encoded.cost, &generated)));
    body.insert("system_fingerprint".into(), json!(fingerprint()));
    body.insert("timings".into(), json!(Timings::of(encoded.cost, &first.generated)));
    body.insert("asterism".into(), json!(reply.ours(&encoded, &first.generated)?));
    Ok(Json(Value::Object(body)).into_response())
}

/// What answers of the same seed depend on beside the request.
pub(crate) fn fingerprint() -> &'static str {
    concat!("asterism-", env!("CARGO_PKG_VERSION"))
}
