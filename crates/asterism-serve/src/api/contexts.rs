//! `/v1/contexts`: texts encoded once, under a name.

use crate::contexts::{Entry, Settings, block_text, cells, document_infos, span_of};
use crate::error::{ApiError, ApiResult};
use crate::gate::Place;
use crate::state::{App, new_id};
use crate::wire::{
    Body, Content, ContextChange, ContextInfo, GivenDocument, NewContext, NewContextSchema,
    PlanInfo,
};
use crate::work::{Build, bring_soon, encode_entry, prepare, put_label, read_documents};
use asterism::engine::Prepared;
use asterism::plan::Cost;
use axum::Json;
use axum::body::{Body as HttpBody, to_bytes};
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Encodes a text, documents or files under a name; or says what that would take.
#[utoipa::path(post, path = "/v1/contexts", tag = "Contexts", request_body = NewContextSchema,
    responses((status = 200, description = "What it would take", body = PlanInfo),
              (status = 201, description = "Encoded", body = ContextInfo),
              (status = 202, description = "Being encoded", body = ContextInfo),
              (status = "4XX", description = "What is wrong with the request"),
              (status = "5XX", description = "The server failed, is busy, or is about to stop")))]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let mut new = read(&app, request).await?;
    let place = app.gate.enter()?;
    let settings = settings(&app, &new)?;
    let given = std::mem::take(&mut new.documents);
    let read = read_documents(&app, given, new.fields.encoding.as_deref()).await?;
    let build = || Build { documents: read.documents.clone(), settings: settings.clone() };
    let prepared = prepare(&app, build()).await?;
    let predicted = app.rate.seconds(prepared.plan(), &app.engine.model_size());
    if new.fields.dry_run.unwrap_or(false) {
        let plan = plan_info(&app, &prepared, &settings, predicted)?;
        return Ok(Json(read.with_notes(&plan)?).into_response());
    }
    let id = new_id("ctx_");
    let name = new.fields.name.clone().unwrap_or_else(|| id.clone());
    let keep = (new.fields.pinned.unwrap_or(false), new.fields.ttl_seconds);
    let entry =
        Entry::new(id, name, settings.clone(), keep, app.stop.child(), &prepared, predicted);
    app.contexts.add(Arc::clone(&entry), app.model_id())?;
    let done = encode(&app, &entry, prepared, build(), place);
    if !new.fields.wait.unwrap_or(false) {
        let info = read.with_notes(&entry.info(true))?;
        return Ok((StatusCode::ACCEPTED, Json(info)).into_response());
    }
    done.await.map_err(|error| ApiError::internal(error.to_string()))?;
    entry.context()?;
    let info = read.with_notes(&entry.info(true))?;
    Ok((StatusCode::CREATED, Json(info)).into_response())
}

/// Encodes `prepared` for `entry` in the background.
fn encode(
    app: &Arc<App>,
    entry: &Arc<Entry>,
    prepared: Prepared,
    build: Build,
    place: Place,
) -> tokio::task::JoinHandle<()> {
    let (app, entry) = (Arc::clone(app), Arc::clone(entry));
    tokio::task::spawn_blocking(move || {
        let again = || build.prepare(&app, &entry.cancel);
        // The entry knows what came of it.
        let _ = encode_entry(&app, &entry, prepared, again, None);
        drop(place);
    })
}

/// How the request wants it encoded.
fn settings(app: &App, new: &NewContext) -> ApiResult<Settings> {
    let spec = new.method.spec(app.options.spec)?;
    let star = spec.method.as_star();
    let slack = match (new.fields.slack, star) {
        (Some(slack), Some(star)) if slack >= star.block => {
            let message =
                format!("slack is {slack}: it must be less than the block, {}", star.block);
            return Err(ApiError::param("slack", message));
        }
        (Some(slack), Some(_)) => slack,
        (None, Some(star)) => star.block / 16,
        (Some(_), None) => {
            return Err(ApiError::param("slack", "slack is a setting of star"));
        }
        (None, None) => 0,
    };
    Ok(Settings { spec, slack, system: new.fields.system.clone() })
}

/// The request, in JSON or as a form with files.
async fn read(app: &Arc<App>, request: Request) -> ApiResult<NewContext> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let body = body_of(request.into_body(), app.options.body_bytes).await?;
        return NewContext::take(Body::read(&body)?, Vec::new());
    }
    let malformed =
        |error: &dyn std::fmt::Display| ApiError::bad("invalid_form", format!("the form: {error}"));
    let mut form =
        Multipart::from_request(request, &()).await.map_err(|error| malformed(&error))?;
    let (mut fields, mut files) = (Vec::new(), Vec::new());
    while let Some(part) = form.next_field().await.map_err(|error| malformed(&error))? {
        let (name, file) = (part.name().map(str::to_owned), part.file_name().map(str::to_owned));
        let bytes = part.bytes().await.map_err(|error| malformed(&error))?;
        match (file, name) {
            (Some(file), _) => {
                let content = Content::File(bytes.to_vec());
                files.push(GivenDocument { name: file, content });
            }
            (None, Some(name)) => {
                let value = String::from_utf8(bytes.to_vec()).map_err(|error| {
                    let at = error.utf8_error().valid_up_to();
                    let message = format!(
                        "field {name:?} is no text in UTF-8: byte {at} is not of any \
                                 character"
                    );
                    ApiError::param(&name, message)
                })?;
                fields.push((name, value));
            }
            (None, None) => return Err(ApiError::bad("invalid_form", "a part without a name")),
        }
    }
    NewContext::take(Body::of_form(fields), files)
}

async fn body_of(body: HttpBody, most: usize) -> ApiResult<Vec<u8>> {
    let bytes = to_bytes(body, most).await.map_err(|_| {
        let message = format!("the body could not be read, or has more than {most} bytes");
        ApiError::of_status(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    })?;
    Ok(bytes.to_vec())
}

fn plan_info(
    app: &App,
    prepared: &Prepared,
    settings: &Settings,
    seconds: Option<f64>,
) -> ApiResult<PlanInfo> {
    let (plan, need, memory) = (prepared.plan(), prepared.memory_need(), app.engine.memory()?);
    let cost = Cost::of(plan, &app.engine.model_size());
    let reason = memory.free.filter(|free| need.total() > *free).map(|free| {
        format!("it needs {} MiB, and {} MiB are free", need.total() >> 20, free >> 20)
    });
    Ok(PlanInfo {
        object: "plan",
        tokens: plan.tokens,
        how: settings.spec.into(),
        blocks: cells(plan, prepared.documents()),
        kv_bytes: need.keys,
        work_flops: cost.total_flops(),
        seconds,
        fits: reason.is_none(),
        reason,
        documents: document_infos(prepared.documents()),
    })
}

/// All contexts.
#[utoipa::path(get, path = "/v1/contexts", tag = "Contexts",
    responses((status = 200, description = "Contexts"), (status = "4XX", description = "Refused")))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    app.expire();
    let contexts: Vec<ContextInfo> =
        app.contexts.all().iter().map(|entry| entry.info(false)).collect();
    Json(json!({"object": "list", "data": contexts}))
}

/// One context, by its id or name.
#[utoipa::path(get, path = "/v1/contexts/{id}", tag = "Contexts", params(("id" = String, Path,)),
    responses((status = 200, description = "The context", body = ContextInfo),
              (status = "4XX", description = "Refused")))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<ContextInfo>> {
    Ok(Json(app.contexts.get(&id)?.info(true)))
}

/// Gives a context another name, another lifetime, or a pin.
#[utoipa::path(patch, path = "/v1/contexts/{id}", tag = "Contexts", params(("id" = String, Path,)),
    request_body = ContextChange,
    responses((status = 200, description = "The context", body = ContextInfo),
              (status = "4XX", description = "Refused")))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: axum::body::Bytes,
) -> ApiResult<Json<ContextInfo>> {
    let change = ContextChange::take(Body::read(&body)?)?;
    let entry = app.contexts.get(&id)?;
    if let Some(name) = &change.name {
        app.contexts.rename(&entry, name, app.model_id())?;
    }
    entry.change(None, change.ttl_seconds, change.pinned);
    if let Some(disk) = &app.disk {
        put_label(disk, &entry);
    }
    Ok(Json(entry.info(true)))
}

/// Forgets a context; stops its encoding.
#[utoipa::path(delete, path = "/v1/contexts/{id}", tag = "Contexts", params(("id" = String, Path,)),
    responses((status = 200, description = "It is gone"), (status = "4XX", description = "Refused")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let entry = app.contexts.remove(&id)?;
    app.forget(&entry);
    Ok(Json(json!({"id": entry.id, "object": "context", "deleted": true})))
}

/// A block's text, and where it stands.
#[utoipa::path(get, path = "/v1/contexts/{id}/blocks/{index}", tag = "Contexts",
    params(("id" = String, Path,), ("index" = usize, Path,)),
    responses((status = 200, description = "The block"), (status = "4XX", description = "Refused")))]
pub(crate) async fn block(
    State(app): State<Arc<App>>,
    Path((id, index)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let context = bring_soon(&app, &app.contexts.get(&id)?).await?;
    let span = index.parse().ok().and_then(|index| span_of(context.plan(), index));
    let span = span.ok_or_else(|| {
        let blocks = context.plan().hosts.iter().flatten().count();
        let message = format!("there is no block {index:?}: the context has {blocks}");
        ApiError::not_found("block_not_found", message)
    })?;
    let (text, places) = block_text(&context, span)?;
    Ok(Json(json!({
        "index": index.parse::<usize>().unwrap_or_default(),
        "start": span.start,
        "tokens": span.len,
        "text": text,
        "places": places,
    })))
}

/// What happens to a context, as it happens: from its last plan on, or from behind the event that
/// `Last-Event-ID` names.
#[utoipa::path(get, path = "/v1/contexts/{id}/events", tag = "Contexts",
    params(("id" = String, Path,)),
    responses((status = 200, description = "A stream of events"),
              (status = "4XX", description = "Refused")))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let entry = app.contexts.get(&id)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let news = entry.log.watch();
    let watching = (entry, news, last.unwrap_or(0), VecDeque::new(), false);
    let lines =
        unfold(watching, |(entry, mut news, mut last, mut ready, mut is_over)| async move {
            loop {
                if let Some(line) = ready.pop_front() {
                    return Some((Ok::<_, Infallible>(line), (entry, news, last, ready, is_over)));
                }
                // A context that was deleted has no more news.
                if is_over || entry.cancel.is_raised() {
                    return None;
                }
                news.borrow_and_update();
                for record in entry.log.after(last) {
                    last = record.id;
                    is_over = record.is_last();
                    let line = Line::default().id(record.id.to_string()).event(record.kind);
                    ready.push_back(line.data(record.data.to_string()));
                }
                if ready.is_empty() {
                    let _ = tokio::time::timeout(Duration::from_secs(1), news.changed()).await;
                }
            }
        });
    let alive = KeepAlive::new().interval(Duration::from_secs(10)).text("ping");
    Ok(Sse::new(lines).keep_alive(alive).into_response())
}
