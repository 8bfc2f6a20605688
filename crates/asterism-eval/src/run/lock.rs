//! One run at a time in a folder, or in a file.

use super::RunError;
use crate::EvalError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// The name of the locked file. It stays: removing it would race with the next run that opens it.
const FILE: &str = "run.lock";

/// Keeps other runs out of a folder until it is dropped, or its process ends in any way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks `dir`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// [`RunError::Busy`] while another run has it, [`RunError::NoLock`] where files cannot be
    /// locked, and the errors of the file system.
    pub fn take(dir: &Path) -> Result<Self, RunError> {
        std::fs::create_dir_all(dir).map_err(EvalError::io(dir))?;
        let path = dir.join(FILE);
        let file = File::create(&path).map_err(EvalError::io(&path))?;
        lock(&file, dir)?;
        Ok(Self { _file: file })
    }
}

/// Locks an open file against other runs until it is closed; `path` is what errors call it.
///
/// # Errors
///
/// [`RunError::Busy`] while another run has it, and [`RunError::NoLock`] where files cannot be
/// locked.
pub fn lock(file: &File, path: &Path) -> Result<(), RunError> {
    let path = path.to_owned();
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(RunError::Busy { path }),
        Err(TryLockError::Error(error)) => Err(RunError::NoLock { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("new/folder");
        let first = Lock::take(&out).unwrap();
        let message = Lock::take(&out).unwrap_err().to_string();
        assert!(message.contains("new/folder") && message.contains("another run"), "{message}");
        drop(first);
        Lock::take(&out).unwrap();
    }
}
