//! Answers in JSON: which tokens may come next by a schema, as an engine's constraint.

use crate::error::{ApiError, ApiResult};
use asterism::engine::{Constraint, Engine, Follower};
use asterism::text::TokenBytes;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// Makes constraints for the tokens of one model.
pub(crate) struct Grammars {
    engine: Arc<Engine>,
    /// Made when it is first needed: it goes through the whole vocabulary.
    factory: OnceLock<Result<Arc<ParserFactory>, String>>,
}

impl Grammars {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::clone(engine), factory: OnceLock::new() }
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// If the model's tokens cannot spell one.
    pub(crate) fn json_object(&self) -> ApiResult<Arc<dyn Constraint>> {
        self.json_schema(&json!({"type": "object"}))
    }

    /// JSON that fits `schema`.
    ///
    /// # Errors
    /// If the schema is malformed, or asks for something that cannot be decided token by token.
    pub(crate) fn json_schema(&self, schema: &Value) -> ApiResult<Arc<dyn Constraint>> {
        let bad = |reason: String| {
            let message = format!("the schema cannot be followed: {reason}");
            ApiError::param("response_format.json_schema.schema", message)
        };
        let factory = self.factory.get_or_init(|| factory(&self.engine)).clone().map_err(bad)?;
        Ok(Arc::new(Schema(matcher(&factory, schema).map_err(bad)?)))
    }
}

/// What follows `schema`, before the first token.
fn matcher(factory: &ParserFactory, schema: &Value) -> Result<Matcher, String> {
    let mut schema = schema.clone();
    if let Value::Object(fields) = &mut schema {
        // One space at most, so that no answer is spent on white space.
        let spaces = json!({
            "whitespace_flexible": false,
            "item_separator": ", ?",
            "key_separator": ": ?",
        });
        fields.entry("x-guidance").or_insert(spaces);
    }
    let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema));
    let mut matcher = Matcher::new(parser);
    // What is wrong with a grammar shows when it is first looked at.
    matcher.compute_mask().map_err(|error| error.to_string())?;
    Ok(matcher)
}

/// Follows `schema` for up to `tokens` tokens, each a byte: the first that may come next.
pub(crate) fn follow(schema: &Value, tokens: usize) -> Result<(), String> {
    let env = ApproximateTokEnv::single_byte_env();
    let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
    factory.quiet();
    let mut following = Following(matcher(&factory, schema)?);
    for _ in 0..tokens {
        let mut logits = vec![0.0; env.tok_trie().vocab_size()];
        following.forbid(&mut logits)?;
        let Some(token) = logits.iter().position(|logit| *logit == 0.0) else { break };
        following.take(token as u32)?;
    }
    Ok(())
}

/// What knows the model's tokens.
fn factory(engine: &Engine) -> Result<Arc<ParserFactory>, String> {
    let (tokenizer, vocab) = (engine.tokenizer(), engine.text().choices());
    let eos = &engine.config().eos;
    let last = *eos.first().ok_or("the model has no token that ends an answer")?;
    let word = |id: u32| match tokenizer.token_bytes(id) {
        Some(TokenBytes::Text(bytes)) => bytes,
        Some(TokenBytes::Special(name)) => {
            [&[TokTrie::SPECIAL_TOKEN_MARKER][..], name.as_bytes()].concat()
        }
        None => Vec::new(),
    };
    let words: Vec<Vec<u8>> = (0..vocab as u32).map(word).collect();
    let trie = TokTrie::from(&TokRxInfo::new(vocab as u32, last), &words).with_eos_tokens(eos);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
    factory.quiet();
    Ok(Arc::new(factory))
}

/// A schema before the first token.
struct Schema(Matcher);

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schema")
    }
}

impl Constraint for Schema {
    fn begin(&self) -> Box<dyn Follower> {
        Box::new(Following(self.0.deep_clone()))
    }
}

/// An answer under way.
struct Following(Matcher);

impl Follower for Following {
    fn forbid(&mut self, logits: &mut [f32]) -> Result<(), String> {
        let mask: SimpleVob = self.0.compute_mask_or_eos().map_err(|error| error.to_string())?;
        for (token, logit) in (0..).zip(logits) {
            if !mask.is_allowed(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn take(&mut self, token: u32) -> Result<(), String> {
        // What ends an answer is no part of it: behind the last token the matcher has stopped.
        if self.0.is_stopped() {
            return Ok(());
        }
        self.0.consume_token(token).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano");

    fn grammars() -> Grammars {
        Grammars::new(&Engine::open(NANO).unwrap())
    }

    /// Whether an answer may be `text`, and end there.
    fn accepts(grammars: &Grammars, constraint: &Arc<dyn Constraint>, text: &str) -> bool {
        let engine = &grammars.engine;
        let mut follower = constraint.begin();
        let mut tokens = engine.tokenizer().encode(text, asterism::text::Special::AsText).unwrap();
        tokens.push(engine.config().eos[0]);
        tokens.into_iter().all(|token| {
            let mut logits = vec![0.0; engine.text().choices()];
            follower.forbid(&mut logits).unwrap();
            logits[token as usize] == 0.0 && follower.take(token).is_ok()
        })
    }

    #[test]
    fn answers_follow_a_schema_token_by_token() {
        let grammars = grammars();
        let schema = json!({
            "type": "object",
            "properties": {"city": {"type": "string"}, "code": {"$ref": "#/$defs/code"}},
            "required": ["city", "code"],
            "additionalProperties": false,
            "$defs": {"code": {"type": "integer"}},
        });
        let constraint = grammars.json_schema(&schema).unwrap();
        assert!(accepts(&grammars, &constraint, r#"{"city": "Lisbon", "code": 48213}"#));
        for wrong in [
            r#"{"city": "Lisbon"}"#,
            r#"{"city": 3, "code": 48213}"#,
            r#"{"city": "Lisbon", "code": 48213"#,
            "{\n\n\"city\": \"Lisbon\", \"code\": 48213}",
            "The code is 48213.",
        ] {
            assert!(!accepts(&grammars, &constraint, wrong), "{wrong}");
        }
    }

    #[test]
    fn any_object_is_an_object() {
        let grammars = grammars();
        let constraint = grammars.json_object().unwrap();
        assert!(accepts(&grammars, &constraint, r#"{"a": [1, {"b": null}]}"#));
        assert!(!accepts(&grammars, &constraint, "[1]"));
    }

    #[test]
    fn a_schema_that_cannot_be_followed_is_refused() {
        for schema in [json!({"type": "no such type"}), json!("text"), json!({"$ref": "#/nowhere"})]
        {
            let error = grammars().json_schema(&schema).unwrap_err();
            assert_eq!(error.code(), "invalid_value", "{schema}");
        }
    }
}
