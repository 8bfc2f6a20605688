//! Documents of requests: texts as they are, files read by processes of their own.

use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::{Content, Document, GivenDocument};
use asterism::cancel::Cancel;
use asterism_documents::{ReadError, Reader};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Somebody waits for a file: nobody does when this is dropped.
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// Documents that were read.
#[derive(Debug, Default)]
pub(crate) struct ReadDocuments {
    pub(crate) documents: Vec<Document>,
    /// What whoever sent them should know, by document.
    notes: Vec<(String, String)>,
}

impl ReadDocuments {
    /// `info`, with what is to be known of the documents: pages without text, a guessed encoding.
    pub(crate) fn with_notes(&self, info: &impl Serialize) -> ApiResult<Value> {
        let failed = |error: serde_json::Error| ApiError::internal(error.to_string());
        let mut value = serde_json::to_value(info).map_err(failed)?;
        let note =
            |(document, note): &(String, String)| json!({"document": document, "note": note});
        value["notes"] = self.notes.iter().map(note).collect();
        Ok(value)
    }
}

/// Reads what a request gives; texts of files are in `encoding`, if it says.
///
/// # Errors
/// Names the document that cannot be read.
pub(crate) async fn read_documents(
    app: &Arc<App>,
    given: Vec<GivenDocument>,
    encoding: Option<&str>,
) -> ApiResult<ReadDocuments> {
    let mut read = ReadDocuments::default();
    for GivenDocument { name, content } in given {
        match content {
            Content::Text(text) => read.documents.push(Document { name, text }),
            Content::File(bytes) => {
                let document = read_file(app, name, bytes, encoding).await?;
                let note = |note: &String| (document.name.clone(), note.clone());
                read.notes.extend(document.notes.iter().map(note));
                read.documents.push(Document { name: document.name, text: document.text });
            }
        }
    }
    Ok(read)
}

/// Reads a file, whose text is in `encoding`, if that is said.
///
/// # Errors
/// Why it cannot be read, with its name.
pub(crate) async fn read_file(
    app: &Arc<App>,
    name: String,
    bytes: Vec<u8>,
    encoding: Option<&str>,
) -> ApiResult<asterism_documents::Document> {
    let encoding = encoding.map(str::parse).transpose();
    let encoding = encoding.map_err(|error: String| ApiError::param("encoding", error))?;
    let reader = Reader { encoding, ..app.options.reader.clone() };
    let closed = |error: tokio::sync::AcquireError| ApiError::internal(error.to_string());
    let reading = Arc::clone(&app.readers).acquire_owned().await.map_err(closed)?;
    let cancel = app.stop.child();
    let wanted = Wanted(cancel.clone());
    let read = tokio::task::spawn_blocking(move || {
        let read = reader.document_while(name, bytes, &|| !cancel.is_raised());
        drop(reading);
        read
    });
    let read = read.await.map_err(|error| ApiError::internal(error.to_string()))?;
    drop(wanted);
    read.map_err(|error| match error {
        error @ (ReadError::NotStarted { .. } | ReadError::Io { .. }) => {
            ApiError::internal(error.to_string())
        }
        error => ApiError::bad(error.code(), error.to_string()).about("documents"),
    })
}
