//! What the server answers to, one file for each kind of request.

mod answering;
mod ask;
mod chat;
mod completions;
mod contexts;
mod documents;
mod edits;
mod models;
mod openapi;
mod reply;
mod status;
mod stream;
mod tokens;

use crate::auth;
use crate::error::ApiError;
use crate::page;
use crate::state::App;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Everything that the server answers to.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/chat/completions/input_tokens", post(tokens::input_tokens))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
        .route("/v1/status", get(status::status))
        .route("/v1/contexts", get(contexts::list).post(contexts::create))
        .route(
            "/v1/contexts/{id}",
            get(contexts::get).patch(contexts::change).delete(contexts::delete),
        )
        .route("/v1/contexts/{id}/events", get(contexts::events))
        .route("/v1/contexts/{id}/ask", post(ask::ask))
        .route("/v1/contexts/{id}/blocks/{index}", get(contexts::block))
        .route(
            "/v1/contexts/{id}/documents/{name}",
            put(edits::put).get(edits::get).delete(edits::delete),
        )
        .route("/v1/documents", post(documents::read))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/metrics", get(status::metrics))
        .layer(from_fn_with_state(app.keys.clone(), auth::check));
    let open = Router::new()
        .route("/", get(page::index))
        .route("/page/{*path}", get(page::file))
        .route("/health/live", get(status::live))
        .route("/health/ready", get(status::ready))
        .route("/health", get(status::ready))
        .route("/openapi.json", get(openapi::openapi))
        .route("/llms.txt", get(openapi::llms));
    guarded
        .merge(open)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(app.options.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(identified))
        .with_state(Arc::clone(app))
}

async fn not_found(request: Request) -> ApiError {
    let message = format!("there is nothing at {}: see /openapi.json", request.uri().path());
    ApiError::not_found("not_found", message)
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} does not answer to {}", request.uri().path(), request.method());
    ApiError::of_status(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("the server failed on this request; please report this").into_response()
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives every request a name, the client's or one of ours, which its answer bears, and logs what
/// came of it: never a prompt.
async fn identified(request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = match given {
        Some(id) if !id.is_empty() && id.len() <= 128 => id.to_owned(),
        _ => crate::state::new_id("req_"),
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = std::time::Instant::now();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let ms = began.elapsed().as_secs_f64() * 1e3;
    tracing::info!(request_id = id, %method, path, status, ms, "answered");
    // What came in as a header can go out as one.
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}
