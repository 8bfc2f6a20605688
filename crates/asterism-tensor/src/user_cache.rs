//! Where a user's caches are.

use std::ffi::OsString;
use std::path::PathBuf;

/// The folder of all programs' caches: `XDG_CACHE_HOME`, or else `.cache` in the folder `home`. A
/// variable that is set to nothing counts as unset.
#[must_use]
pub fn folder(
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    variable("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(home?.join(".cache")))
}
