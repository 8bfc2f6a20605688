//! The one error type of `text`: each variant names the value at fault and what to change.

/// Why text could not become tokens, or tokens text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    // === Tokenizer ===
    /// `tokenizer.json` is not JSON, or not a tokenizer this build of `tokenizers` can read.
    #[error(
        "tokenizer.json cannot be used: {reason}; fetch the file again from the model's repository"
    )]
    BadTokenizer {
        /// What the parser said.
        reason: String,
    },
    /// An added token has another id in the vocabulary than the one its file declares.
    #[error(
        "tokenizer.json declares added token {token:?} as id {declared}, but its vocabulary gives it {actual}; \
         fetch the file again from the model's repository"
    )]
    AddedTokenId {
        /// The token's text.
        token: String,
        /// The id in the `added_tokens` section.
        declared: u32,
        /// The id that encoding would produce.
        actual: u32,
    },
    /// The tokenizer failed on a text.
    #[error(
        "a text of {bytes} bytes cannot be tokenized: {reason}; check that tokenizer.json belongs to this model"
    )]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// The user asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Text that must stay text came out as a special token.
    #[error(
        "the text contains {token:?}, which this tokenizer cannot encode as ordinary text: \
         it would read as a special token; remove it or put a space inside it"
    )]
    SpecialInText {
        /// The special token's text.
        token: String,
    },
    /// An id without a token.
    #[error(
        "token id {id} is not in the tokenizer, which has {vocab_size} tokens; \
         use the tokenizer.json that came with the model, and mask the padding rows of its output"
    )]
    UnknownId {
        /// The id.
        id: u32,
        /// Number of tokens, added ones included.
        vocab_size: usize,
    },
    /// The tokenizer's decoder failed on tokens.
    #[error("tokens cannot be decoded: {reason}; check the decoder section of tokenizer.json")]
    Decode {
        /// What the decoder said.
        reason: String,
    },

    // === Stop strings ===
    /// An empty stop string would stop every answer before it begins.
    #[error("stop string {index} is empty; leave it out or give it at least one character")]
    EmptyStop {
        /// Its place in the list, from 0.
        index: usize,
    },

    // === Chat template ===
    /// `tokenizer_config.json` is not JSON or has a field of the wrong type.
    #[error(
        "tokenizer_config.json cannot be used: {reason}; fetch the file again from the model's repository"
    )]
    BadTokenizerConfig {
        /// What is wrong, and where.
        reason: String,
    },
    /// A list of templates without one named `default`.
    #[error(
        "tokenizer_config.json has chat templates named [{names}] but none named \"default\"; \
         put the one to use into chat_template.jinja"
    )]
    NoDefaultTemplate {
        /// The names there are, joined by commas.
        names: String,
    },
    /// The template is not valid Jinja.
    #[error(
        "the chat template cannot be parsed: {reason}; correct chat_template.jinja or the chat_template of tokenizer_config.json"
    )]
    BadTemplate {
        /// What the parser said, with the line.
        reason: String,
    },
    /// The template refused these messages, or failed on them.
    #[error(
        "the chat template cannot render these messages: {reason}; change the messages, or the template if it is at fault"
    )]
    Render {
        /// What the template or the engine said.
        reason: String,
    },
    /// Messages given as JSON that are not a list of objects.
    #[error("messages must be a list of objects with a role and a content, not {found}")]
    BadMessages {
        /// The type that was given.
        found: &'static str,
    },

    // === Prompt ===
    /// The template dropped, repeated or changed the place of the document.
    #[error(
        "the chat template puts the user's message out {count} times instead of once, so the context cannot be cut out; \
         use a template that renders it once, or none"
    )]
    DocumentPlace {
        /// How often the placeholder came out.
        count: usize,
    },
    /// The template dropped or repeated a message of a conversation.
    #[error(
        "the chat template puts the content of message {index} out {count} times instead of once; \
         leave the message out, or use a template that renders it"
    )]
    MessagePlace {
        /// Its place in the conversation, from 0.
        index: usize,
        /// How often the placeholder came out.
        count: usize,
    },
    /// A base model can be asked one question, but has no turns.
    #[error(
        "this model has no chat template, so it can only be asked one question at a time: send one \
         message of the user, and no others"
    )]
    ChatWithoutTemplate,
    /// A conversation in which nobody speaks.
    #[error("the conversation is empty: add a message with role \"user\"")]
    NoMessage,
    /// A base model has no place for a system message.
    #[error(
        "this model has no chat template, so a system message has no place; leave it out, or put it into the document"
    )]
    SystemWithoutTemplate,
    /// There is nothing to read.
    #[error(
        "the context is empty; give a document with at least one character that is not white space"
    )]
    EmptyContext,
    /// One of several documents is blank.
    #[error("document {name:?} is empty; leave it out, or check that it was read correctly")]
    EmptyDocument {
        /// The name it was given under.
        name: String,
    },
    /// The places of a document's tokens are kept as numbers of 32 bits.
    #[error("document {name:?} has {bytes} bytes, and one has at most {}: divide it", u32::MAX)]
    LongDocument {
        /// The name it was given under.
        name: String,
        /// Length of its text.
        bytes: usize,
    },
    /// There is nothing to answer.
    #[error("the question is empty; ask something about the context")]
    EmptyQuestion,
}
