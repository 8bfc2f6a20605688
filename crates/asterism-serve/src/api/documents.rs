//! `/v1/documents`: a file, read as the text that a context of it would have.

use crate::error::ApiResult;
use crate::state::App;
use crate::wire::{Body, ReadFields, ReadInfo};
use crate::work::read_file;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use std::sync::Arc;

/// Reads a file as text; nothing is kept of it.
#[utoipa::path(post, path = "/v1/documents", tag = "Contexts", request_body = ReadFields,
    responses((status = 200, description = "What it says", body = ReadInfo),
              (status = "4XX", description = "What is wrong with the file"),
              (status = "5XX", description = "The server failed, is busy, or is about to stop")))]
pub(crate) async fn read(State(app): State<Arc<App>>, body: Bytes) -> ApiResult<Json<ReadInfo>> {
    let (name, bytes, encoding) = Body::whole::<ReadFields>(&body)?.file()?;
    let _place = app.gate.enter()?;
    let document = read_file(&app, name, bytes, encoding.as_deref()).await?;
    Ok(Json(ReadInfo {
        object: "document",
        name: document.name,
        kind: document.kind.name(),
        text: document.text,
        encoding: document.encoding.map(|encoding| encoding.name.into_owned()),
        notes: document.notes,
    }))
}
