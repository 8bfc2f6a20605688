//! Which NCCL library is loaded.

use super::{Library, NcclError};
use asterism_tensor::cuda::{Version, library_folders};
use std::path::PathBuf;

/// Names the file of the library, in place of those that are looked for.
const VARIABLE: &str = "ASTERISM_NCCL_LIBRARY";

const FILE: &str = "libnccl.so.2";

/// A library that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its version.
    pub version: Version,
    /// The file it was loaded from.
    pub path: PathBuf,
}

/// The library that would be used. Needs no GPU.
///
/// # Errors
/// [`NcclError::Missing`] or [`NcclError::NotLoaded`].
pub fn find() -> Result<Found, NcclError> {
    Library::load().map(|library| library.found().clone())
}

impl Library {
    /// Loads the library: the file that `ASTERISM_NCCL_LIBRARY` names; `libnccl.so.2`, where the
    /// system's loader finds it; or that file in one of the [folders](library_folders) where
    /// NVIDIA's libraries may lie, such as those of the active Python environment.
    ///
    /// # Errors
    /// [`NcclError::Missing`] or [`NcclError::NotLoaded`].
    pub fn load() -> Result<Self, NcclError> {
        if let Some(file) = std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
            return Self::open(&file);
        }
        let by_name = Self::open(FILE.as_ref());
        if by_name.is_ok() {
            return by_name;
        }
        let files = library_folders().into_iter().map(|folder| folder.join(FILE));
        match files.into_iter().find(|file| file.is_file()) {
            Some(file) => Self::open(file.as_os_str()),
            // One that is there and cannot be used is more worth knowing.
            None => by_name.map_err(|error| match error {
                NcclError::NotLoaded { ref why, .. } if !why.contains("No such file") => error,
                _ => NcclError::Missing {
                    tried: format!("{FILE} in the loader's path and the folders of pip packages"),
                },
            }),
        }
    }
}
