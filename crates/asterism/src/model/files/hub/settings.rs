//! The Hub's address, the cache and the access token.
//!
//! Receives the [`FetchOptions`]; fills what they leave open from the environment variables and
//! the files that all Hugging Face tools share, in the order in which the Python library looks.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::model::files::fetch::is_true;
use crate::model::{FetchOptions, ModelError};
use crate::tensor::user_cache;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Everything that a fetch needs to know beside what to fetch.
pub(super) struct HubSettings {
    /// The Hub's address as given, but for a slash at its end.
    pub(super) endpoint: String,
    /// The folder of all cached repositories.
    pub(super) cache: PathBuf,
    /// The access token, if there is one.
    pub(super) token: Option<String>,
}

impl HubSettings {
    /// Reads the environment where `options` leave something open.
    ///
    /// # Errors
    /// Nothing names a cache, and there is no home folder.
    pub(super) fn new(options: &FetchOptions) -> Result<Self, ModelError> {
        Self::from_variables(options, |name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(
        options: &FetchOptions,
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, ModelError> {
        // A variable that is set to nothing counts as unset.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let text = |name: &str| {
            let value = variable(name)?.into_string().ok()?.trim().to_owned();
            Some(value).filter(|value| !value.is_empty())
        };
        let hf_home = path("HF_HOME")
            .or_else(|| Some(user_cache::folder(variable, home)?.join("huggingface")));
        let cache = (options.cache_dir.clone())
            .or_else(|| path("HF_HUB_CACHE"))
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hf_home.as_ref()?.join("hub")))
            .ok_or(ModelError::NoCache)?;
        let stored = |file: PathBuf| {
            let token = fs::read_to_string(file).ok()?.trim().to_owned();
            Some(token).filter(|token| !token.is_empty())
        };
        let implicit = || {
            if text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
                return None;
            }
            text("HF_TOKEN")
                .or_else(|| stored(path("HF_TOKEN_PATH")?))
                .or_else(|| stored(hf_home.as_ref()?.join("token")))
        };
        let endpoint = (options.endpoint.clone())
            .or_else(|| text("HF_ENDPOINT"))
            .unwrap_or_else(|| DEFAULT_ENDPOINT.into());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: options.token.clone().or_else(implicit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &FetchOptions, variables: &[(&str, &str)]) -> HubSettings {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        HubSettings::from_variables(options, variable, Some("/home/me".into())).unwrap()
    }

    #[test]
    fn the_cache_is_found_in_the_order_of_the_python_library() {
        let none = FetchOptions::default();
        let all = [
            ("HF_HUB_CACHE", "/cache"),
            ("HUGGINGFACE_HUB_CACHE", "/old"),
            ("HF_HOME", "/hf"),
            ("XDG_CACHE_HOME", "/xdg"),
        ];
        let places = [
            "/cache",
            "/old",
            "/hf/hub",
            "/xdg/huggingface/hub",
            "/home/me/.cache/huggingface/hub",
        ];
        for (first, place) in places.into_iter().enumerate() {
            assert_eq!(settings(&none, &all[first..]).cache, PathBuf::from(place));
        }
        let given = FetchOptions { cache_dir: Some("/mine".into()), ..none.clone() };
        assert_eq!(settings(&given, &all).cache, PathBuf::from("/mine"));
        let homeless = HubSettings::from_variables(&none, |_| None, None);
        assert!(matches!(homeless, Err(ModelError::NoCache)));
    }

    #[test]
    fn an_empty_variable_counts_as_absent() {
        let empty = [("HF_ENDPOINT", ""), ("HF_HUB_CACHE", ""), ("HF_HOME", "/none")];
        let found = settings(&FetchOptions::default(), &empty);
        assert_eq!((found.endpoint.as_str(), found.token), (DEFAULT_ENDPOINT, None));
        assert_eq!(found.cache, PathBuf::from("/none/hub"));
        let mirror = [("HF_ENDPOINT", "http://mirror:8080/hf/")];
        assert_eq!(settings(&FetchOptions::default(), &mirror).endpoint, "http://mirror:8080/hf");
    }

    #[test]
    fn the_token_is_that_of_the_first_place_that_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let path = dir.path().join("elsewhere");
        fs::write(dir.path().join("token"), "of-home\n").unwrap();
        fs::write(&path, "of-path\n").unwrap();
        let all = [
            ("HF_TOKEN", "of-variable\n"),
            ("HF_TOKEN_PATH", path.to_str().unwrap()),
            ("HF_HOME", home),
        ];
        let none = FetchOptions::default();
        for (first, token) in ["of-variable", "of-path", "of-home"].into_iter().enumerate() {
            assert_eq!(settings(&none, &all[first..]).token.as_deref(), Some(token));
        }
        let quiet = [all.as_slice(), &[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]].concat();
        assert_eq!(settings(&none, &quiet).token, None);
        let given = FetchOptions { token: Some("given".into()), ..none };
        assert_eq!(settings(&given, &quiet).token.as_deref(), Some("given"));
    }
}
