//! Who may ask.

use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// The keys of those who may ask. Digests are compared, so that neither a key's length nor its
/// first characters can be told from how long that takes.
#[derive(Clone)]
pub(crate) struct Keys(Arc<[[u8; 32]]>);

impl Keys {
    pub(crate) fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| Sha256::digest(key).into()).collect())
    }

    /// Whether somebody with this key may ask; everybody may if there are no keys.
    fn admit(&self, key: Option<&str>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(key) = key else { return false };
        let digest: [u8; 32] = Sha256::digest(key).into();
        // All are looked at, whichever fits.
        let fits = self.0.iter().fold(Choice::from(0), |fits, own| fits | own.ct_eq(&digest));
        fits.into()
    }
}

/// The key that a request brings.
fn key(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = |value: &'_ str| {
        let (scheme, _) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(scheme.len() + 1)
    };
    let authorization = text(header::AUTHORIZATION.as_str());
    match authorization.and_then(|value| Some(value[bearer(value)?..].trim())) {
        Some(key) => Some(key),
        None => text("x-api-key").map(str::trim),
    }
}

/// Turns away requests without a key that is known.
pub(crate) async fn check(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    if keys.admit(key(request.headers())) {
        next.run(request).await
    } else {
        ApiError::unauthorized().into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn admits(keys: &[&str], name: &'static str, value: &str) -> bool {
        let keys = Keys::new(&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        keys.admit(key(&headers))
    }

    #[test]
    fn one_of_the_keys_is_needed_if_there_are_any() {
        assert!(admits(&[], "x-other", "x"));
        let keys = ["sk-one", "sk-two"];
        assert!(!admits(&keys, "x-other", "sk-one"));
        for key in keys {
            assert!(admits(&keys, "authorization", &format!("Bearer {key}")));
            assert!(admits(&keys, "authorization", &format!("bearer  {key} ")));
            assert!(admits(&keys, "x-api-key", key));
        }
        for wrong in ["", "Bearer", "Bearer ", "Bearer sk-on", "Bearer sk-onee", "Basic sk-one"] {
            assert!(!admits(&keys, "authorization", wrong), "{wrong:?}");
        }
    }
}
