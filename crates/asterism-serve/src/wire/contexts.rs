//! Requests for contexts with a name, and what they look like.

use super::{AnswerFields, Body, MethodFields, MethodInfo, OneOrMany};
use crate::error::{ApiError, ApiResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Questions to one context at a time at most.
const MOST_QUESTIONS: usize = 256;

/// A document: a name, which is not part of what the model reads, and a text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A document of a request: its text, or a file that has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentFields {
    name: String,
    /// Either this, or data.
    text: Option<String>,
    /// A file in Base64: text in any encoding, HTML, EPUB, DOCX or PDF.
    data: Option<String>,
}

/// A document of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenDocument {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Text(String),
    /// The bytes of a file that is to be read.
    File(Vec<u8>),
}

impl Content {
    /// Of a request with these fields.
    ///
    /// # Errors
    /// Unless it has one of them.
    fn of(text: Option<String>, data: Option<String>, name: &str) -> ApiResult<Self> {
        match (text, data) {
            (Some(text), None) => Ok(Self::Text(text)),
            (None, Some(data)) => file_of(&data, name).map(Self::File),
            _ => {
                let message = format!("document {name:?}: give either text or data");
                Err(ApiError::param("text", message))
            }
        }
    }
}

/// The bytes of the file `name` in Base64.
fn file_of(data: &str, name: &str) -> ApiResult<Vec<u8>> {
    STANDARD.decode(data).map_err(|error| {
        ApiError::param("data", format!("document {name:?}: data is no Base64: {error}"))
    })
}

/// What requests for a context have beside how it is encoded.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct ContextFields {
    /// Its name among models; its id if there is none.
    pub(crate) name: Option<String>,
    /// Either this, or documents.
    text: Option<String>,
    documents: Option<Vec<DocumentFields>>,
    /// The encoding of files that are text, such as windows-1252; guessed if they are no UTF-8.
    pub(crate) encoding: Option<String>,
    /// Tokens of room that each block of star keeps for edits; a sixteenth of the block.
    pub(crate) slack: Option<usize>,
    /// A message of the system in front of the documents.
    pub(crate) system: Option<String>,
    /// Seconds after its last use when it goes.
    pub(crate) ttl_seconds: Option<u64>,
    /// Whether it stays when memory becomes short.
    pub(crate) pinned: Option<bool>,
    /// Answer when it is encoded, and not at once.
    pub(crate) wait: Option<bool>,
    /// Say what it would take, and encode nothing.
    pub(crate) dry_run: Option<bool>,
}

/// `POST /v1/contexts`.
#[derive(Debug, Clone)]
pub(crate) struct NewContext {
    pub(crate) fields: ContextFields,
    pub(crate) documents: Vec<GivenDocument>,
    pub(crate) method: MethodFields,
}

impl NewContext {
    /// Takes the fields of a request, to which the texts of `files` were attached.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn take(mut body: Body, files: Vec<GivenDocument>) -> ApiResult<Self> {
        let mut fields = ContextFields {
            name: body.take("name")?,
            text: body.take("text")?,
            documents: body.take("documents")?,
            encoding: body.take("encoding")?,
            slack: body.take("slack")?,
            system: body.take("system")?,
            ttl_seconds: body.take("ttl_seconds")?,
            pinned: body.take("pinned")?,
            wait: body.take("wait")?,
            dry_run: body.take("dry_run")?,
        };
        let method = MethodFields::take(&mut body)?;
        body.nothing_left()?;
        if let Some(name) = &fields.name {
            check_name(name)?;
        }
        let given = fields.documents.take().unwrap_or_default().into_iter();
        let given = given.map(|DocumentFields { name, text, data }| {
            Ok(GivenDocument { content: Content::of(text, data, &name)?, name })
        });
        let mut documents = given.collect::<ApiResult<Vec<_>>>()?;
        documents.extend(files);
        if let Some(text) = fields.text.take() {
            if !documents.is_empty() {
                let message = "give either text or documents";
                return Err(ApiError::param("text", message));
            }
            let name = fields.name.clone().unwrap_or_else(|| "text".to_owned());
            documents.push(GivenDocument { name, content: Content::Text(text) });
        }
        check_documents(&documents)?;
        Ok(Self { fields, documents, method })
    }
}

/// Names stand in addresses and among models.
fn check_name(name: &str) -> ApiResult<()> {
    let fits = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '?' | '#' | '%');
    if name.trim() != name || name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
        let message = "a name has 1 to 128 bytes, no white space at its ends, and none of / \\ ? # % \
                       or control characters";
        return Err(ApiError::param("name", message));
    }
    Ok(())
}

fn check_documents(documents: &[GivenDocument]) -> ApiResult<()> {
    if documents.is_empty() {
        let message = "there is nothing to read: give text, documents or files";
        return Err(ApiError::param("documents", message));
    }
    for (index, document) in documents.iter().enumerate() {
        if document.name.is_empty() {
            let message = format!("document {index} has no name");
            return Err(ApiError::param("documents", message));
        }
        if documents[..index].iter().any(|other| other.name == document.name) {
            let message = format!("two documents are named {:?}", document.name);
            return Err(ApiError::param("documents", message));
        }
    }
    Ok(())
}

/// `PATCH /v1/contexts/{id}`: what is to change; a lifetime of null is none.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct ContextChange {
    pub(crate) name: Option<String>,
    #[schema(value_type = Option<u64>)]
    pub(crate) ttl_seconds: Option<Option<u64>>,
    pub(crate) pinned: Option<bool>,
}

impl ContextChange {
    pub(crate) fn take(mut body: Body) -> ApiResult<Self> {
        let has_ttl = body.has("ttl_seconds");
        let name: Option<String> = body.take("name")?;
        if let Some(name) = &name {
            check_name(name)?;
        }
        let ttl: Option<u64> = body.take("ttl_seconds")?;
        let pinned = body.take("pinned")?;
        body.nothing_left()?;
        Ok(Self { name, ttl_seconds: has_ttl.then_some(ttl), pinned })
    }
}

/// What questions about a context have beside how they are answered.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct AskFields {
    /// Either this, or questions.
    question: Option<String>,
    /// All are answered together: the context's keys are read once for all of them.
    questions: Option<OneOrMany>,
    /// As in requests for contexts.
    revisit: Option<Value>,
}

/// `POST /v1/contexts/{id}/ask`.
#[derive(Debug, Clone)]
pub(crate) struct AskRequest {
    pub(crate) questions: Vec<String>,
    pub(crate) answer: AnswerFields,
    /// How many tokens of the context are computed anew for them.
    pub(crate) method: MethodFields,
}

impl AskRequest {
    pub(crate) fn take(mut body: Body) -> ApiResult<Self> {
        let fields = AskFields {
            question: body.take("question")?,
            questions: body.take("questions")?,
            revisit: body.take("revisit")?,
        };
        let answer = AnswerFields::take(&mut body)?;
        body.nothing_left()?;
        let questions = match (fields.question, fields.questions) {
            (Some(one), None) => vec![one],
            (None, Some(many)) => many.into_vec(),
            _ => return Err(ApiError::param("questions", "give either question or questions")),
        };
        if questions.is_empty() || questions.len() > MOST_QUESTIONS {
            let count = questions.len();
            let message = format!("{count} questions: give from 1 to {MOST_QUESTIONS}");
            return Err(ApiError::param("questions", message));
        }
        let method = MethodFields { revisit: fields.revisit, ..MethodFields::default() };
        Ok(Self { questions, answer, method })
    }
}

/// `POST /tokenize`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizeFields {
    pub(crate) content: String,
    /// Whether special tokens in it are special.
    pub(crate) parse_special: Option<bool>,
}

/// `POST /detokenize`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetokenizeFields {
    pub(crate) tokens: Vec<u32>,
}

/// `PUT /v1/contexts/{id}/documents/{name}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutFields {
    /// Either this, or data.
    text: Option<String>,
    /// A file in Base64.
    data: Option<String>,
    /// As in requests for contexts.
    encoding: Option<String>,
}

impl PutFields {
    /// The document, called `name`, and the encoding of its file.
    ///
    /// # Errors
    /// Unless there is either a text or a file.
    pub(crate) fn document(self, name: String) -> ApiResult<(GivenDocument, Option<String>)> {
        let content = Content::of(self.text, self.data, &name)?;
        Ok((GivenDocument { name, content }, self.encoding))
    }
}

/// `POST /v1/documents`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadFields {
    name: String,
    /// The file in Base64.
    data: String,
    /// As in requests for contexts.
    encoding: Option<String>,
}

impl ReadFields {
    /// Its name, its bytes and the encoding of its text.
    ///
    /// # Errors
    /// If the data are no Base64.
    pub(crate) fn file(self) -> ApiResult<(String, Vec<u8>, Option<String>)> {
        if self.name.is_empty() {
            return Err(ApiError::param("name", "the file has no name"));
        }
        let bytes = file_of(&self.data, &self.name)?;
        Ok((self.name, bytes, self.encoding))
    }
}

/// What a file says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReadInfo {
    pub(crate) object: &'static str,
    pub(crate) name: String,
    /// text, html, epub, docx or pdf.
    pub(crate) kind: &'static str,
    /// Pages of a PDF and chapters of a book end with form feeds.
    pub(crate) text: String,
    /// Of files that are text.
    pub(crate) encoding: Option<String>,
    /// Pages without text, an encoding that was guessed.
    pub(crate) notes: Vec<String>,
}

/// A document of a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentInfo {
    pub(crate) name: String,
    pub(crate) characters: usize,
    pub(crate) tokens: usize,
}

/// A block of a context (star), or a host's share of it (other methods).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Cell {
    pub(crate) index: usize,
    /// Position of its first token.
    pub(crate) start: usize,
    pub(crate) tokens: usize,
    pub(crate) host: usize,
    /// waiting, encoded, reused or loaded.
    pub(crate) state: &'static str,
    /// After an edit, what became of it: reused, edited, moved, anchor or given_up.
    pub(crate) change: Option<&'static str>,
    /// Documents that it has parts of.
    pub(crate) documents: Vec<String>,
}

/// A context with a name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ContextInfo {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// encoding, ready or failed; on disk only, stored, and restoring once it is asked for.
    pub(crate) status: &'static str,
    /// Share of the work that is done, from 0 to 1.
    pub(crate) progress: f64,
    pub(crate) tokens: usize,
    pub(crate) kv_bytes: u64,
    /// Where keys are left out, the share of attention's tiles that was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) density: Option<f64>,
    /// The share of softmax weight that was kept then, in sampled rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept_mass: Option<f64>,
    #[serde(flatten)]
    pub(crate) how: MethodInfo,
    pub(crate) documents: Vec<DocumentInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<Vec<Cell>>,
    pub(crate) reused_blocks: usize,
    pub(crate) encoded_blocks: usize,
    /// Blocks whose keys were read from disk.
    pub(crate) loaded_blocks: usize,
    /// What encoding took.
    pub(crate) seconds: Option<f64>,
    /// What it was expected to take.
    pub(crate) predicted_seconds: Option<f64>,
    /// Whether it would be there after a restart as it is now.
    pub(crate) on_disk: bool,
    /// How it was brought back from disk, if it was.
    pub(crate) restored: Option<RestoreInfo>,
    pub(crate) pinned: bool,
    pub(crate) ttl_seconds: Option<u64>,
    pub(crate) expires_at: Option<u64>,
    pub(crate) last_used: u64,
    pub(crate) error: Option<ErrorInfo>,
}

/// How a context came back from disk, and why so.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct RestoreInfo {
    /// loaded, or encoded from the texts on disk.
    pub(crate) how: &'static str,
    /// What reading its keys was expected to take; null if this server has read none.
    pub(crate) load_seconds: Option<f64>,
    /// What encoding it was expected to take.
    pub(crate) encode_seconds: Option<f64>,
    /// Why keys that were expected to load faster were not loaded.
    pub(crate) reason: Option<String>,
}

/// Why a context could not be encoded.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorInfo {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// What encoding a context would take.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanInfo {
    pub(crate) object: &'static str,
    pub(crate) tokens: usize,
    #[serde(flatten)]
    pub(crate) how: MethodInfo,
    pub(crate) blocks: Vec<Cell>,
    pub(crate) kv_bytes: u64,
    #[schema(value_type = u64)]
    pub(crate) work_flops: u128,
    /// By what this server encoded before; null if that was nothing.
    pub(crate) seconds: Option<f64>,
    pub(crate) fits: bool,
    /// Why it does not fit.
    pub(crate) reason: Option<String>,
    pub(crate) documents: Vec<DocumentInfo>,
}

/// Where in a document a passage stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlaceInfo {
    pub(crate) document: String,
    /// Characters, from 0.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Lines, from 1.
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
    /// The first page of a PDF, from 1.
    pub(crate) page: Option<usize>,
    /// As a person would write it: `paper.pdf, page 12`, `src/main.rs:40-71`.
    pub(crate) cite: String,
}

/// A block that a question looked at.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SourceInfo {
    pub(crate) block: usize,
    /// Its share of the question's weight, less its share of that of a question that asks nothing.
    pub(crate) share: f32,
    /// The same of the words in the middle of the passage, by which sources are ordered.
    pub(crate) best_share: f32,
    pub(crate) passage: String,
    pub(crate) places: Vec<PlaceInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn new(body: Value) -> Result<NewContext, String> {
        let body = Body::read(body.to_string().as_bytes()).unwrap();
        NewContext::take(body, Vec::new()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_text_is_a_document_of_the_contexts_name() {
        let context = new(json!({"name": "walden", "text": "A pond."})).unwrap();
        let content = Content::Text("A pond.".into());
        let expected = GivenDocument { name: "walden".into(), content };
        assert_eq!(context.documents, [expected]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let two = json!([{"name": "a", "text": "x"}, {"name": "a", "text": "y"}]);
        for (body, words) in [
            (json!({}), "nothing to read"),
            (json!({"text": "x", "documents": [{"name": "a", "text": "x"}]}), "either"),
            (json!({"documents": two}), "two documents"),
            (json!({"documents": [{"name": "a", "txt": "x"}]}), "txt"),
            (json!({"documents": [{"name": "a", "data": "*"}]}), "data"),
            (json!({"documents": [{"name": "a", "data": "YQ==", "text": "a"}]}), "either text"),
            (json!({"documents": [{"name": "a"}]}), "either text"),
            (json!({"text": "x", "name": "a/b"}), "name"),
            (json!({"text": "x", "name": " a"}), "name"),
            (json!({"text": "x", "blok": 5}), "blok"),
        ] {
            let error = new(body.clone()).unwrap_err();
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn a_lifetime_of_null_is_none_and_none_is_no_change() {
        let ttl = |body: Value| {
            ContextChange::take(Body::read(body.to_string().as_bytes()).unwrap())
                .unwrap()
                .ttl_seconds
        };
        assert_eq!(ttl(json!({})), None);
        assert_eq!(ttl(json!({"ttl_seconds": null})), Some(None));
        assert_eq!(ttl(json!({"ttl_seconds": 5})), Some(Some(5)));
    }
}
