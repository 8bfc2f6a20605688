//! What of a model turns text into tokens and back, read from its files without its weights.

use super::EngineError;
use crate::model::{ModelConfig, ModelFiles};
use crate::text::{ChatTemplate, PromptFrame, Tokenizer, bos_text};
use std::sync::Arc;

/// A model's configuration, tokenizer and chat template. Everybody who makes prompts or counts
/// their tokens takes them from here, so that all agree.
#[derive(Debug)]
pub struct ModelText {
    config: ModelConfig,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    /// What prompts begin with, where there is no template.
    bos: Option<String>,
}

impl ModelText {
    /// Reads configuration, tokenizer and template of a model.
    ///
    /// # Errors
    /// [`EngineError::Model`] and [`EngineError::Text`], if a file is damaged or describes
    /// something unsupported.
    pub fn open(files: &ModelFiles) -> Result<Self, EngineError> {
        let config = ModelConfig::parse(&files.config, files.generation_config.as_deref())?;
        let tokenizer = Tokenizer::from_bytes(&files.tokenizer)?;
        let tokenizer_config = files.tokenizer_config.as_deref();
        let template = ChatTemplate::from_files(tokenizer_config, files.chat_template.as_deref())?;
        // With a template, it is the template that writes the token.
        let bos = match &template {
            Some(_) => None,
            None => bos_text(tokenizer_config, &tokenizer, config.bos)?,
        };
        Ok(Self { config, tokenizer: Arc::new(tokenizer), template, bos })
    }

    /// The model's sizes and special tokens.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The same tokenizer for those who decode for longer than they borrow this.
    pub(super) fn shared_tokenizer(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.tokenizer)
    }

    /// The model's chat template, if it has one.
    #[must_use]
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// What surrounds a document and a question in this model's prompt.
    ///
    /// # Errors
    /// If the model's chat template cannot be rendered, or there is a system message and no
    /// template.
    pub fn frame(&self, system: Option<&str>) -> Result<PromptFrame, EngineError> {
        Ok(PromptFrame::from_template(self.template.as_ref(), system, self.bos.as_deref())?)
    }

    /// The texts of the tokens that end an answer.
    #[must_use]
    pub fn ends(&self) -> Vec<String> {
        self.config.eos.iter().filter_map(|id| self.tokenizer.id_to_token(*id)).collect()
    }

    /// The number of ids that may be chosen: up to the highest id that the tokenizer has a token
    /// for. A model's head may have more rows, which fill it up to a round size.
    #[must_use]
    pub fn choices(&self) -> usize {
        let with_text = self.tokenizer.highest_id().map_or(0, |id| id as usize + 1);
        with_text.min(self.config.vocab)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FetchOptions, ModelSource};
    use serde_json::{Value, json};

    /// nano with `change` made to its `tokenizer.json` and the given `tokenizer_config.json`.
    fn nano(change: impl Fn(&mut Value), tokenizer_config: &Value) -> ModelText {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano");
        let mut files =
            folder.parse::<ModelSource>().unwrap().resolve(&FetchOptions::default()).unwrap();
        let mut tokenizer: Value = serde_json::from_slice(&files.tokenizer).unwrap();
        change(&mut tokenizer);
        files.tokenizer = tokenizer.to_string().into_bytes();
        files.tokenizer_config = Some(tokenizer_config.to_string().into_bytes());
        ModelText::open(&files).unwrap()
    }

    #[test]
    fn a_base_models_prompt_begins_as_its_tokenizer_config_says() {
        let head = |config: Value| nano(|_| (), &config).frame(None).unwrap().head().to_owned();
        assert_eq!(head(json!({})), "<|begin_of_text|>", "config.json names it");
        assert_eq!(head(json!({"add_bos_token": false})), "");
        assert_eq!(head(json!({"bos_token": null})), "");
        assert_eq!(head(json!({"bos_token": "<|eot_id|>"})), "<|eot_id|>");
    }

    #[test]
    fn with_a_template_the_prompt_begins_as_the_template_says() {
        let config = json!({"chat_template": "{{ messages[0].content }}", "bos_token": "<s>"});
        assert_eq!(nano(|_| (), &config).frame(None).unwrap().head(), "");
    }

    #[test]
    fn the_highest_id_can_be_chosen_where_ids_have_gaps() {
        let choices = |change: fn(&mut Value)| nano(change, &json!({})).choices();
        assert_eq!(choices(|_| ()), 4094);
        // The last merge and its token are gone, and the special tokens, from 4088 to 4093, stay
        // where they are: the vocabulary has one token fewer than its highest id says.
        let gap = |tokenizer: &mut Value| {
            let added = tokenizer["added_tokens"].clone();
            tokenizer["model"]["merges"].as_array_mut().unwrap().pop();
            let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
            vocab.retain(|_, id| id.as_u64() != Some(4087));
            for token in added.as_array().unwrap() {
                vocab.insert(token["content"].as_str().unwrap().to_owned(), token["id"].clone());
            }
        };
        assert_eq!(choices(gap), 4094);
    }
}
