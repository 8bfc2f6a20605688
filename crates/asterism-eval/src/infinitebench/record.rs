//! What a sample is made of, read from a file or generated.

/// A record with its labels made one list of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) context: String,
    pub(super) input: String,
    pub(super) answers: Vec<String>,
    pub(super) options: Vec<String>,
}
