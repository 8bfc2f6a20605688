//! Everything that can be wrong with a model's files, and what to do about it.
//!
//! Each message names the file, then the field or tensor, then what was found, what was expected
//! and the change that would help. The causes that libraries report (a JSON position, an I/O
//! error, an HTTP status) are kept as [`source`](std::error::Error::source): print the whole chain.

use std::path::PathBuf;

use crate::tensor::TensorError;
use thiserror::Error;

/// Why a model could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The checkpoint.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The backend.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Why a model could not be found, fetched or understood.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The model argument is neither `nano`, a folder nor a Hub id.
    #[error(
        "`{given}` names no model: {reason}; expected `nano` (built in), a folder (`./llama-8b`) \
         or a Hugging Face id (`org/name`, `org/name@revision`)"
    )]
    BadSource {
        /// The argument as given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The source of this model was left out of this build.
    #[error(
        "{what}: this build has no such source; build asterism with its feature `{feature}`, or \
         give a folder"
    )]
    NotBuilt {
        /// The model asked for.
        what: String,
        /// The Cargo feature that brings its source.
        feature: &'static str,
    },

    /// A local file could not be read or mapped.
    #[error("{path}: cannot be read")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// The path given as a model folder does not exist.
    #[error("{path}: no such folder; to fetch a model from the Hub, give `org/name`")]
    NoSuchDirectory {
        /// The path.
        path: PathBuf,
    },

    /// The path given as a model folder is a file.
    #[error("{path}: is a file; give the folder that holds config.json and the weights")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },

    /// A file that every model needs is not there.
    #[error("{origin}: no {file}; {hint}")]
    MissingFile {
        /// Folder or Hub repository.
        origin: String,
        /// The file's name.
        file: String,
        /// Where such a file comes from.
        hint: &'static str,
    },

    /// There are weights, but only as Python pickles.
    #[error(
        "{origin}: the weights are Python pickles ({found}), which run code when they are read; \
         convert them to model.safetensors (save_pretrained(..., safe_serialization=True))"
    )]
    PickleOnly {
        /// Folder or Hub repository.
        origin: String,
        /// The first such file.
        found: String,
    },

    /// A text file is not UTF-8.
    #[error("{file}: is not UTF-8 text")]
    NotUtf8 {
        /// The file.
        file: String,
    },

    /// A JSON file is not JSON.
    #[error("{file}: is not valid JSON; fetch or write the file again")]
    Json {
        /// The file.
        file: String,
        /// Where the reader stopped, and why.
        source: serde_json::Error,
    },

    /// A required field is absent or null.
    #[error("{file}: field `{field}` is missing; expected {expected}")]
    MissingField {
        /// The file.
        file: String,
        /// Field, with its parents (`rope_scaling.factor`).
        field: String,
        /// What the field should hold.
        expected: String,
    },

    /// A field holds a value that no model of this kind can have.
    #[error("{file}: field `{field}` is {found}; expected {expected}")]
    BadField {
        /// The file.
        file: String,
        /// Field, with its parents.
        field: String,
        /// Its value, shortened.
        found: String,
        /// What it should hold.
        expected: String,
    },

    /// The model is of a kind that this engine does not compute.
    #[error("{file}: architecture `{found}` is not supported; supported are {supported}")]
    UnknownArchitecture {
        /// The file.
        file: String,
        /// The architecture found.
        found: String,
        /// Those supported.
        supported: String,
    },

    /// A field asks for a computation that this engine does not do.
    #[error("{file}: `{field}` = {found} is not supported; {advice}")]
    Unsupported {
        /// The file.
        file: String,
        /// Field, with its parents.
        field: String,
        /// Its value, shortened.
        found: String,
        /// What is supported, or what to change.
        advice: String,
    },

    /// A weight file ends before its header or its tensors do.
    #[error(
        "{file}: cut short: {found} bytes, but {expected} are needed for {part}; \
         the download or copy was probably interrupted: delete the file and fetch it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// Bytes present.
        found: u64,
        /// Bytes needed.
        expected: u64,
        /// What they are needed for.
        part: &'static str,
    },

    /// A weight file is not in the safetensors format.
    #[error("{file}: not a safetensors file: {reason}")]
    NotSafetensors {
        /// The file.
        file: String,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// A safetensors header does not describe its file.
    #[error("{file}: the safetensors header is corrupt{tensor}; fetch the file again")]
    CorruptHeader {
        /// The file.
        file: String,
        /// Where, if one tensor's entry is at fault.
        tensor: String,
        /// What the reader objected to.
        source: serde_json::Error,
    },

    /// The model has no weight files at all.
    #[error("the model has no weight files; expected at least one safetensors file")]
    NoWeights,

    /// Two weight files hold a tensor of the same name.
    #[error("tensor `{tensor}` is both in {first} and in {second}; remove the stray file")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// The file that has it first.
        first: String,
        /// The file that has it again.
        second: String,
    },

    /// The index names a weight file that was not given.
    #[error("{index}: names {file} (for tensor `{tensor}`), which is missing; fetch that file too")]
    MissingShard {
        /// The index file.
        index: String,
        /// The missing weight file.
        file: String,
        /// A tensor that should be in it.
        tensor: String,
    },

    /// The index places a tensor in a file that does not hold it.
    #[error("{index}: places tensor `{tensor}` in {file}, which does not hold it ({instead})")]
    NotInShard {
        /// The index file.
        index: String,
        /// The tensor.
        tensor: String,
        /// The file that should hold it.
        file: String,
        /// Where it is instead.
        instead: String,
    },

    /// No weight file holds the tensor.
    #[error(
        "tensor `{tensor}` is in none of the weight files ({files}); \
         does config.json belong to these weights?"
    )]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The weight files.
        files: String,
    },

    /// The weight files hold more than the configuration asks for.
    #[error(
        "{file}: tensor `{tensor}` (one of {count}) has no place in the model that config.json \
         describes: does config.json belong to these weights?"
    )]
    UnusedTensor {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// How many there are.
        count: usize,
    },

    /// A matrix holds one value everywhere: the file was never filled, or overwritten.
    #[error(
        "tensor `{tensor}` holds {value} in every place: the weight files are damaged; fetch them \
         again"
    )]
    ConstantTensor {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
    },

    /// A tensor has another shape than the configuration implies.
    #[error(
        "{file}: tensor `{tensor}` has shape {found:?}, but config.json implies {expected:?}; \
         does config.json belong to these weights?"
    )]
    WrongShape {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape asked for.
        expected: Vec<usize>,
    },

    /// A tensor's elements are of a type that is not read.
    #[error(
        "{file}: tensor `{tensor}` has element type {found}; supported are BF16, F16 and F32 \
         (use an unquantized checkpoint)"
    )]
    UnsupportedDType {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its element type, as safetensors writes it.
        found: String,
    },

    /// The Hub's address is not one.
    #[error(
        "the Hub client cannot use the address {endpoint}; set HF_ENDPOINT to a URL such as \
         https://huggingface.co, or unset it"
    )]
    HubClient {
        /// The Hub's address.
        endpoint: String,
    },

    /// A download could not be stored.
    #[error("{path}: cannot be written; HF_HUB_CACHE can name another folder for downloads")]
    NotWritten {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// There is no place for downloads.
    #[error("there is no home folder to keep downloads in; set HF_HOME to a folder")]
    NoCache,

    /// The Hub has no such repository (or hides it).
    #[error("{repo}: no such model repository at {endpoint}; check the spelling of `org/name`")]
    RepoNotFound {
        /// Repository, with its revision where one was given.
        repo: String,
        /// The Hub's address.
        endpoint: String,
    },

    /// The repository has no such branch, tag or commit.
    #[error("{repo}: no branch, tag or commit named `{revision}` at {endpoint}/{repo}")]
    RevisionNotFound {
        /// Repository.
        repo: String,
        /// The revision asked for.
        revision: String,
        /// The Hub's address.
        endpoint: String,
    },

    /// The Hub wants to know who asks (HTTP 401).
    #[error(
        "{repo}: the Hub refused access (401): the model is gated, private or does not exist; \
         set HF_TOKEN to a token of an account that may read it"
    )]
    AuthRequired {
        /// Repository.
        repo: String,
        /// The Hub's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The Hub knows who asks, and says no (HTTP 403).
    #[error(
        "{repo}: the Hub refused access (403): open {endpoint}/{repo} and accept its conditions, \
         then set HF_TOKEN to a token of that account"
    )]
    Forbidden {
        /// Repository.
        repo: String,
        /// The Hub's address.
        endpoint: String,
        /// The Hub's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The Hub could not be reached.
    #[error("{repo}: cannot reach {endpoint}: {hint}")]
    Unreachable {
        /// Repository.
        repo: String,
        /// The Hub's address.
        endpoint: String,
        /// What to do, which depends on what the cache holds.
        hint: &'static str,
        /// What the HTTP client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Any other failure of a request to the Hub.
    #[error("{repo}: fetching {file} from {endpoint} failed")]
    Hub {
        /// Repository.
        repo: String,
        /// The file, or what else was asked for.
        file: String,
        /// The Hub's address.
        endpoint: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A download is longer or shorter than the Hub said it would be; it has been deleted.
    #[error(
        "{repo}: {file} arrived with {found} bytes instead of {announced}, and was deleted; \
         run again to fetch it anew"
    )]
    WrongLength {
        /// Repository.
        repo: String,
        /// The file.
        file: String,
        /// Bytes that arrived.
        found: u64,
        /// Bytes announced.
        announced: u64,
    },

    /// The list of files and the files are of different commits.
    #[error(
        "{repo}: the Hub lists commit {listed}, but serves {file} from {fetched}: the repository \
         changed, or a mirror is out of step; run again"
    )]
    Moved {
        /// The repository.
        repo: String,
        /// The commit that the Hub listed.
        listed: String,
        /// The file.
        file: String,
        /// The commit that it came from.
        fetched: String,
    },

    /// Offline, and the cache does not hold the file.
    #[error(
        "{repo}: {file} is not in the local cache {cache}, and offline mode is on; \
         leave offline mode once (also HF_HUB_OFFLINE) to fetch it"
    )]
    NotInCache {
        /// Repository, with its revision where one was given.
        repo: String,
        /// The missing file.
        file: String,
        /// The cache folder.
        cache: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_takes_at_most_128_bytes() {
        assert!(size_of::<ModelError>() <= 128, "{}", size_of::<ModelError>());
    }
}
