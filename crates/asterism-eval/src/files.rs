//! Data files that the user supplies.

use std::path::Path;

use asterism::files::{read_regular, without_mark};

use super::EvalError;

/// Bytes of a file that is read whole; the largest published one has about 600 MB.
const MOST: u64 = 2 << 30;

/// The bytes of a regular file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, EvalError> {
    read_regular(path, MOST).map_err(EvalError::io(path))
}

/// The text of a regular file, without a byte order mark.
pub(crate) fn read_text(path: &Path) -> Result<String, EvalError> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(without_mark(&bytes)).map_err(|error| EvalError::BadFile {
        path: path.into(),
        reason: format!("it is not UTF-8 text: byte {} starts no character", error.valid_up_to()),
    })?;
    Ok(text.to_owned())
}
