//! What a request that cannot be served gets back: OpenAI's envelope, a status, and whether trying
//! again can help.

use asterism::engine::EngineError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// Why a request is not served.
#[derive(Debug, Clone)]
pub(crate) struct ApiError(Box<Refusal>);

#[derive(Debug, Clone)]
struct Refusal {
    status: StatusCode,
    /// OpenAI's name for the kind of error.
    kind: &'static str,
    code: &'static str,
    message: String,
    /// The field of the request that is wrong.
    param: Option<String>,
    /// Further fields of the error.
    more: Map<String, Value>,
    /// Seconds after which it may be tried again.
    retry_after: Option<u64>,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: String) -> Self {
        let (param, more, retry_after) = (None, Map::new(), None);
        Self(Box::new(Refusal { status, kind, code, message, param, more, retry_after }))
    }

    /// The request is wrong.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message.into())
    }

    /// Field `param` of the request is wrong.
    pub(crate) fn param(param: &str, message: impl Into<String>) -> Self {
        Self::bad("invalid_value", message).about(param)
    }

    /// The same, because of field `param`.
    pub(crate) fn about(mut self, param: &str) -> Self {
        self.0.param = Some(param.to_owned());
        self
    }

    /// The same, with a time after which it may be tried again.
    fn later(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// There is nothing of this name.
    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", code, message.into())
    }

    /// Something is in the way of what is asked for.
    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "invalid_request_error", code, message.into())
    }

    /// The caller is nobody who may.
    pub(crate) fn unauthorized() -> Self {
        let message = "an API key is needed: send it as \"Authorization: Bearer KEY\" or \
                       \"X-Api-Key: KEY\"";
        let status = StatusCode::UNAUTHORIZED;
        Self::new(status, "authentication_error", "invalid_api_key", message.to_owned())
    }

    /// There are `waiting` requests already.
    pub(crate) fn busy(waiting: usize, retry_after: u64) -> Self {
        let message = format!(
            "{waiting} requests are being answered or wait: try again in {retry_after} seconds"
        );
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "overloaded_error", "queue_full", message).later(retry_after)
    }

    /// The server is about to stop.
    pub(crate) fn stopping() -> Self {
        let message = "the server is about to stop and takes no new work".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "stopping", message).later(5)
    }

    /// The time that a request may take is over.
    pub(crate) fn timeout(seconds: u64) -> Self {
        let message = format!("the request took longer than the {seconds} seconds it may take");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", "timeout", message)
    }

    /// A bug.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "server_error", "internal_error", message.into())
    }

    /// An answer of another status, made by a layer around the routes.
    pub(crate) fn of_status(status: StatusCode, code: &'static str, message: String) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }

    /// As it stands in a response, or in a stream.
    pub(crate) fn body(&self) -> Value {
        let mut error = Map::new();
        error.insert("message".into(), json!(self.0.message));
        error.insert("type".into(), json!(self.0.kind));
        error.insert("param".into(), json!(self.0.param));
        error.insert("code".into(), json!(self.0.code));
        error.extend(self.0.more.clone());
        json!({ "error": error })
    }

    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let code = error.code();
        let message = error.to_string();
        let bad = || Self::bad(code, message.clone());
        match code {
            "too_long" => too_long(&error),
            "bad_messages" | "empty_question" => bad().about("messages"),
            "empty_context" => bad().about("documents"),
            "empty_stop" => bad().about("stop"),
            "constraint_failed" => bad().about("response_format"),
            "bad_plan" | "bad_sampling" | "special_in_text" | "not_tokenized" | "no_frame"
            | "device_unsupported" => bad(),
            // What others hold may be free later.
            "out_of_memory" => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", code, message).later(10)
            }
            // The client has gone, or asked for it: 499, as proxies call it, is in no registry.
            "cancelled" => Self::new(StatusCode::CONFLICT, "server_error", code, message),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", code, message),
        }
    }
}

/// Agents look for these words, and for the two numbers, to shorten what they send.
fn too_long(error: &EngineError) -> ApiError {
    let EngineError::TooLong { context, query, answer, max_positions } = error else {
        return ApiError::bad("context_length_exceeded", error.to_string());
    };
    let tokens = context + query + answer;
    let message = format!(
        "request ({tokens} tokens) exceeds the available context size ({max_positions} tokens): \
         {context} of context, {query} of question and {answer} of answer"
    );
    let mut refused = ApiError::bad("context_length_exceeded", message);
    refused.0.kind = "exceed_context_size_error";
    refused.0.more.insert("n_prompt_tokens".into(), json!(context + query));
    refused.0.more.insert("n_ctx".into(), json!(max_positions));
    refused
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        } else {
            // Clients retry by themselves what could cost another prefill and cannot succeed.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}
