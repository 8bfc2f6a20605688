//! Compiled kernels, kept between runs of the program: compiling them takes longer than all else
//! that happens before the first token.
//!
//! A file per source, architecture and compiler, named by the hash of all that decides its content.
//! It holds the SHA-256 of the code, then the code: a file that was cut short is compiled again.

use crate::user_cache;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Of a file of code.
const EXTENSION: &str = "cubin";

/// Bytes of a SHA-256.
const HASH: usize = 32;

/// A folder of compiled kernels. Whatever goes wrong with it costs time, and nothing else.
#[derive(Debug, Clone)]
pub struct KernelCache {
    /// None if there is no place for it.
    folder: Option<PathBuf>,
}

impl KernelCache {
    /// The user's: `asterism/kernels` in `XDG_CACHE_HOME`, or in `.cache` of the home folder.
    #[must_use]
    pub fn of_user() -> Self {
        Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let folder =
            user_cache::folder(variable, home).map(|caches| caches.join("asterism/kernels"));
        Self { folder }
    }

    /// Where the kernels are, or would be.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// How many kernels are kept, and their bytes together.
    #[must_use]
    pub fn kept(&self) -> (usize, u64) {
        let files = self.folder.iter().flat_map(fs::read_dir).flatten().flatten();
        let kernels = files.filter(|file| file.path().extension().is_some_and(|e| e == EXTENSION));
        let sizes = kernels.filter_map(|file| Some(file.metadata().ok()?.len()));
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    /// The code that `compile` gives for `key`: all that decides it.
    ///
    /// # Errors
    /// Those of `compile`.
    pub(super) fn get<E>(
        &self,
        key: &[&str],
        compile: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let Some(file) = self.file(key) else { return compile() };
        if let Some(code) = fs::read(&file).ok().and_then(checked) {
            return Ok(code);
        }
        let code = compile()?;
        let _ = self.keep(&file, &code);
        Ok(code)
    }

    fn file(&self, key: &[&str]) -> Option<PathBuf> {
        let mut hash = Sha256::new();
        for part in key {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.folder.as_ref()?.join(name).with_extension(EXTENSION))
    }

    /// Writes a file that is there whole, or not at all.
    fn keep(&self, file: &PathBuf, code: &[u8]) -> std::io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        fs::create_dir_all(folder)?;
        let unfinished = file.with_extension(std::process::id().to_string());
        let content = [&Sha256::digest(code)[..], code].concat();
        fs::write(&unfinished, content)
            .and_then(|()| fs::rename(&unfinished, file))
            .inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }
}

/// The code in a file's content, if it is whole.
fn checked(content: Vec<u8>) -> Option<Vec<u8>> {
    let (hash, code) = content.split_at_checked(HASH)?;
    (hash == &Sha256::digest(code)[..]).then(|| code.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn get(cache: &KernelCache, key: &[&str], code: &[u8]) -> (Vec<u8>, bool) {
        let mut compiled = false;
        let code = cache.get(key, || {
            compiled = true;
            Ok::<_, Infallible>(code.to_vec())
        });
        (code.unwrap(), compiled)
    }

    #[test]
    fn code_is_compiled_once_for_each_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = KernelCache { folder: Some(folder.path().join("new/folder")) };
        assert_eq!(get(&cache, &["a", "bc"], b"first"), (b"first".to_vec(), true));
        assert_eq!(get(&cache, &["a", "bc"], b"other"), (b"first".to_vec(), false));
        assert_eq!(get(&cache, &["ab", "c"], b"second"), (b"second".to_vec(), true));
        assert_eq!(fs::read_dir(folder.path().join("new/folder")).unwrap().count(), 2);
        fs::write(folder.path().join("new/folder/notes.txt"), "mine").unwrap();
        assert_eq!(cache.kept(), (2, 2 * HASH as u64 + 11));
    }

    #[test]
    fn a_damaged_file_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = KernelCache { folder: Some(folder.path().into()) };
        get(&cache, &["a"], b"code");
        let file = cache.file(&["a"]).unwrap();
        for len in [0, 5, 35] {
            fs::write(&file, &fs::read(&file).unwrap()[..len]).unwrap();
            assert_eq!(get(&cache, &["a"], b"code"), (b"code".to_vec(), true), "{len}");
        }
        assert!(!get(&cache, &["a"], b"code").1);
    }

    #[test]
    fn without_a_place_all_is_compiled() {
        let nowhere = KernelCache { folder: Some("/dev/null/kernels".into()) };
        for cache in [KernelCache { folder: None }, nowhere] {
            assert!(get(&cache, &["a"], b"code").1 && get(&cache, &["a"], b"code").1);
            assert_eq!(cache.kept(), (0, 0));
        }
    }

    #[test]
    fn the_folder_is_the_users() {
        let folder = |xdg: Option<&str>, home: Option<&str>| {
            let variable = |name: &str| (name == "XDG_CACHE_HOME").then_some(xdg?.into());
            KernelCache::from_variables(variable, home.map(PathBuf::from)).folder
        };
        assert_eq!(folder(Some("/c"), Some("/h")), Some("/c/asterism/kernels".into()));
        assert_eq!(folder(Some(""), Some("/h")), Some("/h/.cache/asterism/kernels".into()));
        assert_eq!(folder(None, None), None);
    }
}
