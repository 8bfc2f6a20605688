//! `GET /v1/models`: the model, and every context as a model of its own.

use crate::contexts::Entry;
use crate::error::ApiResult;
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use std::sync::Arc;

fn model(app: &App) -> Value {
    json!({
        "id": app.model_id(),
        "object": "model",
        "created": app.created,
        "owned_by": "asterism",
        "asterism": {"kind": "model", "max_positions": app.engine.config().max_positions},
    })
}

fn context(entry: &Entry) -> Value {
    let info = entry.info(false);
    json!({
        "id": info.name,
        "object": "model",
        "created": entry.created(),
        "owned_by": "asterism",
        "asterism": {"kind": "context", "context": info.id, "tokens": info.tokens},
    })
}

/// Lists the model, and the contexts that can be asked.
#[utoipa::path(get, path = "/v1/models", tag = "OpenAI",
    responses((status = 200, description = "Models"), (status = "4XX", description = "Refused")))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let contexts = app.contexts.all();
    let contexts = contexts.iter().filter(|entry| entry.can_be_asked()).map(|e| context(e));
    let data: Vec<Value> = [model(&app)].into_iter().chain(contexts).collect();
    Json(json!({"object": "list", "data": data}))
}

/// One of them.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "OpenAI", params(("id" = String, Path,)),
    responses((status = 200, description = "A model"), (status = "4XX", description = "Refused")))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    if app.is_model(&id) {
        return Ok(Json(model(&app)));
    }
    let entry = app.contexts.find(&id).ok_or_else(|| app.no_model(&id))?;
    Ok(Json(context(&entry)))
}
