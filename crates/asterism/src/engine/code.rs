//! Short names of errors that stay the same from version to version, for programs: a server's
//! answers and the exceptions of other languages are made from them.

use super::EngineError;
use crate::model::ModelError;
use crate::plan::PlanError;
use crate::saved::SavedError;
use crate::tensor::TensorError;
use crate::text::TextError;

impl EngineError {
    /// Every code there is.
    pub const CODES: &'static [&'static str] = &CODES;

    /// What went wrong, in one word that stays the same when the message changes.
    ///
    /// | code | what it means |
    /// |---|---|
    /// | `cancelled` | the caller asked to stop |
    /// | `too_long` | context, question and answer need more positions than the model has |
    /// | `out_of_memory` | the processor's memory does not hold what is asked for |
    /// | `empty_context` | there is nothing to encode |
    /// | `empty_question` | there is nothing to answer |
    /// | `no_frame` | the context was encoded from tokens, or not from documents |
    /// | `empty_stop` | a stop string is empty |
    /// | `bad_plan` | blocks, anchor and hosts do not go together |
    /// | `bad_sampling` | a sampling setting is out of its range |
    /// | `bad_messages` | the messages of a chat are malformed, or the template refuses them |
    /// | `special_in_text` | the text contains a special token that cannot be kept as text |
    /// | `not_tokenized` | the tokenizer failed on a text |
    /// | `not_decoded` | tokens could not be turned into text |
    /// | `unknown_token` | tokenizer and model do not match |
    /// | `constraint_failed` | no token may follow by the rules that the answer was given |
    /// | `not_finite` | the model computed NaN or infinity |
    /// | `model_name` | the name of the model says neither a folder nor a repository |
    /// | `model_not_built` | this build lacks the source that the model comes from |
    /// | `model_not_found` | there is no such folder, repository or revision |
    /// | `model_incomplete` | a file or tensor that the model needs is missing |
    /// | `model_damaged` | a file does not hold what its format says |
    /// | `model_unsupported` | the model needs something that this engine does not do |
    /// | `model_denied` | the Hub refuses access to the model |
    /// | `model_unreachable` | the Hub cannot be reached, or its answer cannot be used |
    /// | `model_io` | a file could not be read or written |
    /// | `saved_not_found` | the folder holds no saved context |
    /// | `saved_damaged` | a file of a saved context is not what was written |
    /// | `saved_elsewhere` | the context was saved by another model, or with other settings |
    /// | `saved_io` | a file of a saved context could not be read or written |
    /// | `device_unsupported` | the processor cannot do what the settings ask for |
    /// | `device_missing` | the processor, or a library for it, is not on this machine |
    /// | `device_failed` | the processor or its driver failed |
    /// | `hosts_failed` | hosts stopped or misunderstood each other |
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::TooLong { .. } => "too_long",
            Self::NoMemory { .. } | Self::NoRoom { .. } => "out_of_memory",
            Self::EmptyQuery => "empty_question",
            Self::NoFrame | Self::NoDocuments => "no_frame",
            Self::AnswerFailed { code, .. } => code,
            Self::UnknownToken { .. } => "unknown_token",
            Self::Constraint { .. } => "constraint_failed",
            Self::NotFinite { .. } => "not_finite",
            Self::HostPanicked(_) | Self::Comm(_) | Self::UnknownContext => "hosts_failed",
            Self::NoThread(_) | Self::Stopped | Self::World(_) => "hosts_failed",
            Self::NotLeading { .. } | Self::NotStartedTogether => "hosts_failed",
            Self::OtherHosts { .. } | Self::FloodsLink { .. } => "bad_plan",
            Self::OnlyGpus => "device_unsupported",
            Self::OnHost { code, .. } => code,
            Self::Shared(error) => error.code(),
            Self::Sampling(_) => "bad_sampling",
            Self::Plan(PlanError::EmptyContext) => "empty_context",
            Self::Plan(_) | Self::OtherPlan { .. } => "bad_plan",
            Self::Tensor(error) => of_tensor(error),
            Self::Model(error) => of_model(error),
            Self::Text(error) => of_text(error),
            Self::Saved(error) => of_saved(error),
        }
    }
}

/// Every code.
const CODES: [&str; 33] = [
    "cancelled",
    "too_long",
    "out_of_memory",
    "empty_context",
    "empty_question",
    "no_frame",
    "empty_stop",
    "bad_plan",
    "bad_sampling",
    "bad_messages",
    "special_in_text",
    "not_tokenized",
    "not_decoded",
    "unknown_token",
    "constraint_failed",
    "not_finite",
    "model_name",
    "model_not_built",
    "model_not_found",
    "model_incomplete",
    "model_damaged",
    "model_unsupported",
    "model_denied",
    "model_unreachable",
    "model_io",
    "saved_not_found",
    "saved_damaged",
    "saved_elsewhere",
    "saved_io",
    "device_unsupported",
    "device_missing",
    "device_failed",
    "hosts_failed",
];

/// The code of this name, for errors of other processes.
pub(super) fn known(name: &str) -> &'static str {
    CODES.into_iter().find(|code| *code == name).unwrap_or("hosts_failed")
}

fn of_tensor(error: &TensorError) -> &'static str {
    match error {
        TensorError::OutOfMemory { .. } => "out_of_memory",
        TensorError::Unsupported { .. } => "device_unsupported",
        TensorError::Missing { .. } => "device_missing",
        // The enum may grow: what has no meaning of its own yet is a failure.
        _ => "device_failed",
    }
}

fn of_saved(error: &SavedError) -> &'static str {
    match error {
        SavedError::Io { .. } => "saved_io",
        SavedError::Nothing(_) => "saved_not_found",
        SavedError::Damaged { .. } | SavedError::Plan { .. } => "saved_damaged",
        SavedError::Other { .. } => "saved_elsewhere",
        SavedError::OnlyTokens => "no_frame",
    }
}

fn of_model(error: &ModelError) -> &'static str {
    use ModelError as E;
    match error {
        E::BadSource { .. } => "model_name",
        E::NotBuilt { .. } => "model_not_built",
        E::NoSuchDirectory { .. }
        | E::NotADirectory { .. }
        | E::RepoNotFound { .. }
        | E::RevisionNotFound { .. }
        | E::NotInCache { .. } => "model_not_found",
        E::MissingFile { .. }
        | E::PickleOnly { .. }
        | E::NoWeights
        | E::MissingShard { .. }
        | E::NotInShard { .. }
        | E::MissingTensor { .. } => "model_incomplete",
        E::NotUtf8 { .. }
        | E::Json { .. }
        | E::MissingField { .. }
        | E::BadField { .. }
        | E::Truncated { .. }
        | E::NotSafetensors { .. }
        | E::CorruptHeader { .. }
        | E::DuplicateTensor { .. }
        | E::UnusedTensor { .. }
        | E::ConstantTensor { .. }
        | E::WrongShape { .. } => "model_damaged",
        E::UnknownArchitecture { .. } | E::Unsupported { .. } | E::UnsupportedDType { .. } => {
            "model_unsupported"
        }
        E::AuthRequired { .. } | E::Forbidden { .. } => "model_denied",
        E::HubClient { .. }
        | E::Unreachable { .. }
        | E::Hub { .. }
        | E::WrongLength { .. }
        | E::Moved { .. } => "model_unreachable",
        E::Io { .. } | E::NotWritten { .. } | E::NoCache => "model_io",
    }
}

fn of_text(error: &TextError) -> &'static str {
    use TextError as E;
    match error {
        E::BadTokenizer { .. }
        | E::AddedTokenId { .. }
        | E::BadTokenizerConfig { .. }
        | E::NoDefaultTemplate { .. }
        | E::BadTemplate { .. }
        | E::DocumentPlace { .. } => "model_damaged",
        E::Encode { .. } | E::LongDocument { .. } => "not_tokenized",
        E::SpecialInText { .. } => "special_in_text",
        E::UnknownId { .. } | E::Decode { .. } => "not_decoded",
        E::EmptyStop { .. } => "empty_stop",
        E::Render { .. }
        | E::BadMessages { .. }
        | E::MessagePlace { .. }
        | E::ChatWithoutTemplate
        | E::NoMessage
        | E::SystemWithoutTemplate => "bad_messages",
        E::EmptyContext | E::EmptyDocument { .. } => "empty_context",
        E::EmptyQuestion => "empty_question",
        E::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_lists_every_code_and_no_other() {
        let source = include_str!("code.rs");
        let source = source.split("#[cfg(test)]").next().unwrap();
        let listed: BTreeSet<&str> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// | `")?.split('`').next())
            .collect();
        // Every literal of the code is a code.
        let code = source.lines().filter(|line| !line.trim().starts_with("//"));
        let used: BTreeSet<&str> = code.filter_map(|line| line.split('"').nth(1)).collect();
        assert_eq!(used, listed);
        assert_eq!(CODES.into_iter().collect::<BTreeSet<_>>(), listed);
    }

    #[test]
    fn the_same_remedy_has_the_same_code_wherever_it_is_noticed() {
        let from = |error: EngineError| error.code();
        assert_eq!(from(TextError::EmptyQuestion.into()), from(EngineError::EmptyQuery));
        assert_eq!(from(TextError::EmptyContext.into()), from(PlanError::EmptyContext.into()));
        let full = TensorError::OutOfMemory { bytes: 2, free: 1, total: 1 };
        let refused =
            EngineError::NoMemory { tokens: 2, needed: 2, free: 1, fits: 1, is_gpu: true };
        assert_eq!(from(full.into()), from(refused));
    }
}
