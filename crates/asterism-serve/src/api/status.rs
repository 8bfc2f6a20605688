//! How the server is: for people, for orchestrators, for dashboards.

use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::describe_revisit;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// The process runs.
#[utoipa::path(get, path = "/health/live", tag = "Health",
    responses((status = 200, description = "The process runs")))]
pub(crate) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Requests are taken.
#[utoipa::path(get, path = "/health/ready", tag = "Health",
    responses((status = 200, description = "Requests are taken"),
              (status = 503, description = "The server is about to stop")))]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> ApiResult<Json<Value>> {
    if app.gate.is_closed() { Err(ApiError::stopping()) } else { Ok(Json(json!({"status": "ok"}))) }
}

/// Model, settings, memory and load.
#[utoipa::path(get, path = "/v1/status", tag = "Health",
    responses((status = 200, description = "How the server is"),
              (status = "4XX", description = "Refused")))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> ApiResult<Json<Value>> {
    let (config, spec, memory) = (app.engine.config(), app.options.spec, app.engine.memory()?);
    let star = spec.method.as_star();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": {
            "id": app.model_id(),
            "max_positions": config.max_positions,
            "layers": config.layers,
            "vocab": config.vocab,
        },
        "device": app.engine.hardware(),
        "defaults": {
            "method": spec.method.name(),
            "block": star.map(|star| star.block),
            "anchor": star.map(|star| star.anchor),
            "revisit": star.map_or("none".into(), |star| describe_revisit(star.revisit)),
            "hosts": spec.hosts,
            "max_tokens": app.options.generation.max_tokens,
        },
        "memory": {
            "capacity_bytes": memory.free.map(|free| free.saturating_add(memory.reserved)),
            "reserved_bytes": memory.reserved,
            "cache_bytes": app.options.cache_bytes,
        },
        "running": app.gate.inside(),
        "places": app.options.queue,
        "uptime_seconds": app.began.elapsed().as_secs(),
    })))
}

/// Counters and times in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "Health",
    responses((status = 200, description = "Metrics"), (status = "4XX", description = "Refused")))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> ApiResult<Response> {
    app.metrics.contexts.set(app.contexts.all().len() as i64);
    app.metrics.kv_bytes.set(app.engine.memory()?.reserved as i64);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], app.metrics.text()).into_response())
}
