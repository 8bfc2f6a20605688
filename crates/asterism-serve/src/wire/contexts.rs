//! Requests for contexts with a name.

use super::documents::check_documents;
use super::{Body, Content, DocumentFields, GivenDocument, MethodFields};
use crate::error::{ApiError, ApiResult};
use utoipa::ToSchema;

/// What requests for a context have beside how it is encoded.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct ContextFields {
    /// Its name among models; its id if there is none.
    pub(crate) name: Option<String>,
    /// Either this, or documents.
    text: Option<String>,
    documents: Option<Vec<DocumentFields>>,
    /// The encoding of files that are text, such as windows-1252; guessed if they are no UTF-8.
    pub(crate) encoding: Option<String>,
    /// Tokens of room that each block of star keeps for edits; a sixteenth of the block.
    pub(crate) slack: Option<usize>,
    /// A message of the system in front of the documents.
    pub(crate) system: Option<String>,
    /// Seconds after its last use when it goes.
    pub(crate) ttl_seconds: Option<u64>,
    /// Whether it stays when memory becomes short.
    pub(crate) pinned: Option<bool>,
    /// Answer when it is encoded, and not at once.
    pub(crate) wait: Option<bool>,
    /// Say what it would take, and encode nothing.
    pub(crate) dry_run: Option<bool>,
}

/// `POST /v1/contexts`.
#[derive(Debug, Clone)]
pub(crate) struct NewContext {
    pub(crate) fields: ContextFields,
    pub(crate) documents: Vec<GivenDocument>,
    pub(crate) method: MethodFields,
}

impl NewContext {
    /// Takes the fields of a request, to which the texts of `files` were attached.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn take(mut body: Body, files: Vec<GivenDocument>) -> ApiResult<Self> {
        let mut fields = ContextFields {
            name: body.take("name")?,
            text: body.take("text")?,
            documents: body.take("documents")?,
            encoding: body.take("encoding")?,
            slack: body.take("slack")?,
            system: body.take("system")?,
            ttl_seconds: body.take("ttl_seconds")?,
            pinned: body.take("pinned")?,
            wait: body.take("wait")?,
            dry_run: body.take("dry_run")?,
        };
        let method = MethodFields::take(&mut body)?;
        body.nothing_left()?;
        if let Some(name) = &fields.name {
            check_name(name)?;
        }
        let given = fields.documents.take().unwrap_or_default().into_iter();
        let mut documents = given.map(DocumentFields::document).collect::<ApiResult<Vec<_>>>()?;
        documents.extend(files);
        if let Some(text) = fields.text.take() {
            if !documents.is_empty() {
                let message = "give either text or documents";
                return Err(ApiError::param("text", message));
            }
            let name = fields.name.clone().unwrap_or_else(|| "text".to_owned());
            documents.push(GivenDocument { name, content: Content::Text(text) });
        }
        check_documents(&documents)?;
        Ok(Self { fields, documents, method })
    }
}

/// Names stand in addresses and among models.
fn check_name(name: &str) -> ApiResult<()> {
    let fits = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '?' | '#' | '%');
    if name.trim() != name || name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
        let message = "a name has 1 to 128 bytes, no white space at its ends, and none of / \\ ? # % \
                       or control characters";
        return Err(ApiError::param("name", message));
    }
    Ok(())
}

/// `PATCH /v1/contexts/{id}`: what is to change; a lifetime of null is none.
#[derive(Debug, Clone, ToSchema)]
pub(crate) struct ContextChange {
    pub(crate) name: Option<String>,
    #[schema(value_type = Option<u64>)]
    pub(crate) ttl_seconds: Option<Option<u64>>,
    pub(crate) pinned: Option<bool>,
}

impl ContextChange {
    pub(crate) fn take(mut body: Body) -> ApiResult<Self> {
        let has_ttl = body.has("ttl_seconds");
        let name: Option<String> = body.take("name")?;
        if let Some(name) = &name {
            check_name(name)?;
        }
        let ttl: Option<u64> = body.take("ttl_seconds")?;
        let pinned = body.take("pinned")?;
        body.nothing_left()?;
        Ok(Self { name, ttl_seconds: has_ttl.then_some(ttl), pinned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn new(body: Value) -> Result<NewContext, String> {
        let body = Body::read(body.to_string().as_bytes()).unwrap();
        NewContext::take(body, Vec::new()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_text_is_a_document_of_the_contexts_name() {
        let context = new(json!({"name": "walden", "text": "A pond."})).unwrap();
        let content = Content::Text("A pond.".into());
        let expected = GivenDocument { name: "walden".into(), content };
        assert_eq!(context.documents, [expected]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let two = json!([{"name": "a", "text": "x"}, {"name": "a", "text": "y"}]);
        for (body, words) in [
            (json!({}), "nothing to read"),
            (json!({"text": "x", "documents": [{"name": "a", "text": "x"}]}), "either"),
            (json!({"documents": two}), "two documents"),
            (json!({"documents": [{"name": "a", "txt": "x"}]}), "txt"),
            (json!({"documents": [{"name": "a", "data": "*"}]}), "data"),
            (json!({"documents": [{"name": "a", "data": "YQ==", "text": "a"}]}), "either text"),
            (json!({"documents": [{"name": "a"}]}), "either text"),
            (json!({"text": "x", "name": "a/b"}), "name"),
            (json!({"text": "x", "name": " a"}), "name"),
            (json!({"text": "x", "blok": 5}), "blok"),
        ] {
            let error = new(body.clone()).unwrap_err();
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn a_lifetime_of_null_is_none_and_none_is_no_change() {
        let ttl = |body: Value| {
            ContextChange::take(Body::read(body.to_string().as_bytes()).unwrap())
                .unwrap()
                .ttl_seconds
        };
        assert_eq!(ttl(json!({})), None);
        assert_eq!(ttl(json!({"ttl_seconds": null})), Some(None));
        assert_eq!(ttl(json!({"ttl_seconds": 5})), Some(Some(5)));
    }
}
