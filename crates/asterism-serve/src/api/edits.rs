//! `/v1/contexts/{id}/documents/{name}`: one document of a context, read, put or taken out. Only
//! blocks that change are encoded anew.

use crate::contexts::{Entry, documents_of};
use crate::error::{ApiError, ApiResult};
use crate::gate::Place;
use crate::state::App;
use crate::wire::{Body, ContextInfo, Document, PutFields};
use crate::work::{Build, bring_soon, encode_entry, read_documents};
use asterism::engine::{Context, EngineError, Prepared};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// A document's text.
#[utoipa::path(get, path = "/v1/contexts/{id}/documents/{name}", tag = "Contexts",
    params(("id" = String, Path,), ("name" = String, Path,)),
    responses((status = 200, description = "The document", body = Document),
              (status = "4XX", description = "Refused")))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path((id, name)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let context = bring_soon(&app, &app.contexts.get(&id)?).await?;
    let document = context.documents().iter().find(|document| document.name() == name);
    let document = document.ok_or_else(|| no_document(&name))?;
    Ok(Json(json!({"name": name, "text": document.text()})))
}

fn no_document(name: &str) -> ApiError {
    let message = format!("the context has no document {name:?}");
    ApiError::not_found("document_not_found", message)
}

/// Adds a document, or puts another text in its place.
#[utoipa::path(put, path = "/v1/contexts/{id}/documents/{name}", tag = "Contexts",
    params(("id" = String, Path,), ("name" = String, Path,)),
    request_body = PutFields,
    responses((status = 200, description = "The context", body = ContextInfo),
              (status = "4XX", description = "Refused"),
              (status = "5XX", description = "The server failed, is busy, or is about to stop")))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path((id, name)): Path<(String, String)>,
    body: Bytes,
) -> ApiResult<Json<ContextInfo>> {
    let fields: PutFields = Body::whole(&body)?;
    let (given, encoding) = fields.document(name)?;
    let read = read_documents(&app, vec![given], encoding.as_deref()).await?;
    let change = |documents: &mut Vec<Document>| {
        for new in read.documents {
            match documents.iter_mut().find(|document| document.name == new.name) {
                Some(document) => document.text = new.text,
                None => documents.push(new),
            }
        }
        Ok(())
    };
    edit(&app, &id, change).await
}

/// Takes a document out.
#[utoipa::path(delete, path = "/v1/contexts/{id}/documents/{name}", tag = "Contexts",
    params(("id" = String, Path,), ("name" = String, Path,)),
    responses((status = 200, description = "The context", body = ContextInfo),
              (status = "4XX", description = "Refused"),
              (status = "5XX", description = "The server failed, is busy, or is about to stop")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path((id, name)): Path<(String, String)>,
) -> ApiResult<Json<ContextInfo>> {
    let change = |documents: &mut Vec<Document>| {
        let before = documents.len();
        documents.retain(|document| document.name != name);
        match documents.len() {
            after if after == before => Err(no_document(&name)),
            0 => Err(ApiError::conflict(
                "last_document",
                "a context needs at least one document: delete the context instead",
            )),
            _ => Ok(()),
        }
    };
    edit(&app, &id, change).await
}

async fn edit(
    app: &Arc<App>,
    id: &str,
    change: impl FnOnce(&mut Vec<Document>) -> ApiResult<()>,
) -> ApiResult<Json<ContextInfo>> {
    let place = app.gate.enter()?;
    let entry = app.contexts.get(id)?;
    let mut documents = documents_of(&bring_soon(app, &entry).await?);
    change(&mut documents)?;
    let before = entry.begin_edit()?;
    let build = Build { documents, settings: entry.settings.clone() };
    let (worker, edited) = (Arc::clone(app), Arc::clone(&entry));
    // Goes on if the client goes away: others may wait for it.
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&worker, &edited, &build, &before);
        drop::<Place>(place);
        result
    });
    done.await.map_err(|error| ApiError::internal(error.to_string()))??;
    entry.context()?;
    Ok(Json(entry.info(true)))
}

fn work(app: &Arc<App>, entry: &Arc<Entry>, build: &Build, before: &Context) -> ApiResult<()> {
    let again = || edited(app, entry, build, before);
    match again() {
        Ok(prepared) => {
            let predicted = app.rate.seconds(prepared.plan(), &app.engine.model_size());
            entry.plan(&prepared, predicted, None);
            encode_entry(app, entry, prepared, again, Some(before))
        }
        Err(error) => {
            let error = ApiError::from(error);
            entry.finish(Err(error.clone()), Some(before));
            Err(error)
        }
    }
}

/// What is to be encoded instead of `before`: star's blocks that stay the same stay; other methods
/// have none.
fn edited(
    app: &App,
    entry: &Entry,
    build: &Build,
    before: &Context,
) -> Result<Prepared, EngineError> {
    if build.settings.spec.method.as_star().is_none() {
        return build.prepare(app, &entry.cancel);
    }
    let documents: Vec<(&str, &str)> =
        build.documents.iter().map(|d| (d.name.as_str(), d.text.as_str())).collect();
    before.prepare_edit(&documents, &entry.cancel)
}
