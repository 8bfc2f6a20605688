//! How the server is: for people, for orchestrators, for dashboards.

use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::MethodInfo;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
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

/// What holds where a request does not say.
#[derive(Serialize)]
struct Defaults {
    #[serde(flatten)]
    how: MethodInfo,
    max_tokens: usize,
}

/// Model, settings, memory and load.
#[utoipa::path(get, path = "/v1/status", tag = "Health",
    responses((status = 200, description = "How the server is"),
              (status = "4XX", description = "Refused")))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> ApiResult<Json<Value>> {
    let (config, memory) = (app.engine.config(), app.engine.memory()?);
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": {
            "id": app.model_id(),
            "max_positions": config.max_positions,
            "layers": config.layers,
            "vocab": config.vocab,
        },
        "device": app.engine.hardware(),
        "defaults": Defaults {
            how: app.options.spec.into(),
            max_tokens: app.options.generation.max_tokens,
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
