//! The page for people: files that are a part of the program.

use crate::error::ApiError;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "page/"]
struct Files;

/// Scripts, styles and pictures come from here alone; nothing is asked of other places, and no
/// other page may show this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
                      form-action 'none'";

/// The page.
pub(crate) async fn index() -> Result<Response, ApiError> {
    response("index.html")
}

/// A part of it.
pub(crate) async fn file(Path(path): Path<String>) -> Result<Response, ApiError> {
    response(&path)
}

fn response(path: &str) -> Result<Response, ApiError> {
    let file = Files::get(path).ok_or_else(|| {
        ApiError::not_found("not_found", format!("the page has no file {path:?}"))
    })?;
    let kind = HeaderValue::from_str(file.metadata.mimetype());
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Another version of the program has other files under the same names.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, file.data.into_owned()).into_response())
}
