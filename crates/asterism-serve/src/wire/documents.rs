//! Documents of requests, and what is known of them.

use crate::error::{ApiError, ApiResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

impl DocumentFields {
    /// The document.
    ///
    /// # Errors
    /// Unless there is either a text or a file.
    pub(super) fn document(self) -> ApiResult<GivenDocument> {
        let content = Content::of(self.text, self.data, &self.name)?;
        Ok(GivenDocument { name: self.name, content })
    }
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

/// Refuses no documents, and names that tell none apart.
pub(super) fn check_documents(documents: &[GivenDocument]) -> ApiResult<()> {
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
