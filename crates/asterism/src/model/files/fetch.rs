//! How to reach the Hub, and how to follow its downloads.
//!
//! Receives what the caller wants set; whatever is left out comes from the environment variables
//! that all Hugging Face tools share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Told how downloads go. Called between two reads of a download: it must not block for long.
pub trait FetchProgress: Send + Sync {
    /// `done` of `total` bytes of `file` have arrived; `total` is 0 while unknown. The last call
    /// for a file has `done == total`; files that are in the cache may cause no call.
    fn progress(&self, file: &str, done: u64, total: u64);
}

impl<F: Fn(&str, u64, u64) + Send + Sync> FetchProgress for F {
    fn progress(&self, file: &str, done: u64, total: u64) {
        self(file, done, total);
    }
}

/// How to reach the Hub. What is said here matters to no other
/// source, but for the weights.
#[derive(Clone, Default)]
pub struct FetchOptions {
    /// Use only what the local cache holds; make no request.
    pub offline: bool,
    /// The Hub's address; where absent, `HF_ENDPOINT`, else <https://huggingface.co>.
    pub endpoint: Option<String>,
    /// The cache; where absent, `HF_HUB_CACHE`, else `$HF_HOME/hub`, else
    /// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
    pub cache_dir: Option<PathBuf>,
    /// The access token; where absent, `HF_TOKEN`, else the file that `hf auth login` writes.
    pub token: Option<String>,
    /// Leave the weights where they are: the model can then be planned for, and not loaded. This
    /// one matters to folders, too.
    pub without_weights: bool,
    /// Called as downloads go on.
    pub progress: Option<Arc<dyn FetchProgress>>,
}

/// Without the token, which must not end up in a log.
impl fmt::Debug for FetchOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FetchOptions")
            .field("offline", &self.offline)
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("without_weights", &self.without_weights)
            .field("token", &self.token.as_ref().map(|_| "(set)"))
            .finish_non_exhaustive()
    }
}

impl FetchOptions {
    /// Offline if `HF_HUB_OFFLINE` is `1`, `true`, `yes` or `on` (as in the Python library); the
    /// other fields are absent, and so come from the variables named there.
    #[must_use]
    pub fn from_env() -> Self {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value));
        Self { offline, ..Self::default() }
    }
}

/// How the Python library reads a variable that is on or off.
pub(super) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hf_hub_offline_is_read_as_the_python_library_reads_it() {
        assert!(["1", "true", "YES", "On"].into_iter().all(is_true));
        assert!(!["0", "", "false", "no"].into_iter().any(is_true));
    }

    #[test]
    fn a_token_is_never_printed() {
        let options = FetchOptions { token: Some("hf_secret".into()), ..FetchOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
