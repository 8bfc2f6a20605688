//! What stands before and after a prompt so that a chat model takes it as a question.

use super::EvalError;

/// The chat markers around a task's text, written out; a tokenizer reads them as special tokens.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChatFrame {
    /// Name, for reports.
    pub name: String,
    /// What opens the conversation and the user's turn.
    pub head: String,
    /// What closes the user's turn and opens the answer.
    pub tail: String,
    /// Texts at which a generation is cut.
    pub stop_words: Vec<String>,
}

impl ChatFrame {
    /// The names of [`named`](Self::named).
    pub const NAMES: [&str; 3] = ["base", "llama3", "qwen"];

    /// A frame of any model: `head` up to the user's text and `tail` after it.
    pub fn new(name: &str, head: &str, tail: &str, stop_words: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            head: head.to_owned(),
            tail: tail.to_owned(),
            stop_words: stop_words.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// No chat: the text as it is, as base models are asked. There is no beginning-of-text token
    /// either.
    pub fn base() -> Self {
        Self::new("base", "", "", &["<|end_of_text|>"])
    }

    /// Llama 3's chat with a system prompt, as Star Attention's evaluation writes it.
    pub fn llama3() -> Self {
        Self::new(
            "llama3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant.\
             <|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            &["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        )
    }

    /// Llama 3's chat without a system prompt, as RULER itself writes it.
    pub fn llama3_without_system() -> Self {
        let frame = Self::llama3();
        let head = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n".to_owned();
        Self { head, ..frame }
    }

    /// Qwen 2.5's chat.
    pub fn qwen() -> Self {
        Self::new(
            "qwen",
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\
             <|im_end|>\n<|im_start|>user\n",
            "<|im_end|>\n<|im_start|>assistant\n",
            &["<|im_end|>", "<|endoftext|>"],
        )
    }

    /// The frame called `name`: `base`, `llama3` or `qwen`. The model's own one, `auto`, is made
    /// with [`new`](Self::new) from its chat template.
    ///
    /// # Errors
    ///
    /// [`EvalError::Unknown`] naming those that exist.
    pub fn named(name: &str) -> Result<Self, EvalError> {
        match name {
            "base" => Ok(Self::base()),
            "llama3" => Ok(Self::llama3()),
            "qwen" => Ok(Self::qwen()),
            _ => Err(EvalError::unknown("template", name, Self::NAMES.into_iter().chain(["auto"]))),
        }
    }
}
