//! Where a model comes from.
//!
//! Receives what the user calls the model; gives its files. Three sources have the same layout:
//! the model built into the binary, a folder, and a repository on the Hugging Face Hub (fetched
//! into the local cache that other tools share).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(feature = "hub")]
use super::hub;
#[cfg(feature = "nano")]
use super::nano;
use super::{FetchOptions, ModelFiles, NANO, directory};
use crate::model::ModelError;

/// Where to get a model. Parsed from a string:
/// - `nano`: the built-in model;
/// - an existing folder, or anything that starts with `./`, `../`, `/` or `~`: a folder;
/// - `org/name` or `org/name@revision`: a Hub repository at a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The model in the binary.
    Nano,
    /// A folder with the files of a Hub repository.
    Directory(PathBuf),
    /// A repository on the Hugging Face Hub.
    Hub {
        /// `org/name`.
        repo: String,
        /// Branch, tag or commit; the main branch where absent.
        revision: Option<String>,
    },
}

impl ModelSource {
    /// Gets the model's files, from the Hub if need be.
    ///
    /// # Errors
    /// Files that are missing or unreadable; for the Hub also refusals, an unreachable network,
    /// and in offline mode files that are not in the cache.
    pub fn resolve(&self, options: &FetchOptions) -> Result<ModelFiles, ModelError> {
        match self {
            Self::Nano => built_in(),
            Self::Directory(path) => {
                directory::read(path, self.to_string(), !options.without_weights)
            }
            Self::Hub { repo, revision } => {
                from_hub(repo, revision.as_deref(), self.to_string(), options)
            }
        }
    }
}

#[cfg(feature = "nano")]
fn built_in() -> Result<ModelFiles, ModelError> {
    Ok(nano::files())
}

#[cfg(not(feature = "nano"))]
fn built_in() -> Result<ModelFiles, ModelError> {
    Err(ModelError::NotBuilt { what: NANO.to_owned(), feature: "nano" })
}

#[cfg(feature = "hub")]
fn from_hub(
    repo: &str,
    revision: Option<&str>,
    name: String,
    options: &FetchOptions,
) -> Result<ModelFiles, ModelError> {
    hub::Hub::new(repo, revision, options)?.fetch(name)
}

#[cfg(not(feature = "hub"))]
fn from_hub(
    _: &str,
    _: Option<&str>,
    name: String,
    _: &FetchOptions,
) -> Result<ModelFiles, ModelError> {
    Err(ModelError::NotBuilt { what: name, feature: "hub" })
}

impl fmt::Display for ModelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nano => out.write_str(NANO),
            Self::Directory(path) => path.display().fmt(out),
            Self::Hub { repo, revision } => {
                out.write_str(repo)?;
                revision.iter().try_for_each(|name| write!(out, "@{name}"))
            }
        }
    }
}

impl FromStr for ModelSource {
    type Err = ModelError;

    fn from_str(given: &str) -> Result<Self, ModelError> {
        let bad =
            |reason: &str| ModelError::BadSource { given: given.into(), reason: reason.into() };
        if given == NANO {
            return Ok(Self::Nano);
        }
        if let Some(rest) = given.strip_prefix('~') {
            // The shell expands `~` only where it is not quoted.
            let below = match rest.strip_prefix('/') {
                Some(below) => below,
                None if rest.is_empty() => rest,
                None => return Err(bad("`~user` is not expanded here; give the full path")),
            };
            let home = std::env::home_dir().ok_or_else(|| bad("there is no home folder"))?;
            return Ok(Self::Directory(home.join(below)));
        }
        let is_path = ["./", "../", "/"].iter().any(|start| given.starts_with(start))
            || given == "."
            || given == "..";
        if is_path || Path::new(given).is_dir() {
            return Ok(Self::Directory(given.into()));
        }
        if Path::new(given).is_file() {
            return Err(bad("it is a file; give the folder that holds it"));
        }
        let (repo, revision) = match given.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (given, None),
        };
        let Some((org, name)) = repo.split_once('/') else {
            return Err(bad("there is no such folder, and a Hub id has the form org/name"));
        };
        if !is_repo_part(org) || !is_repo_part(name) {
            return Err(bad(
                "the parts of a Hub id are letters, digits, `-`, `_` and `.`, without `..`",
            ));
        }
        if !revision.is_none_or(is_revision) {
            return Err(bad("after `@`, give a branch, tag or commit"));
        }
        Ok(Self::Hub { repo: repo.into(), revision: revision.map(Into::into) })
    }
}

/// The Hub's own rule for user and repository names. They become folder names in the cache.
fn is_repo_part(part: &str) -> bool {
    (1..=96).contains(&part.len())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !part.contains("..")
        && !part.starts_with('.')
}

/// A Git reference. It becomes a path in the cache, which it must not leave.
fn is_revision(name: &str) -> bool {
    !name.is_empty()
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || "\\:?*[~^".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(repo: &str, revision: Option<&str>) -> ModelSource {
        ModelSource::Hub { repo: repo.into(), revision: revision.map(Into::into) }
    }

    #[test]
    fn every_spelling_means_one_kind_of_source() {
        let cases = [
            ("nano", ModelSource::Nano),
            ("./nano", ModelSource::Directory("./nano".into())),
            ("../x/y", ModelSource::Directory("../x/y".into())),
            ("/models/a@b", ModelSource::Directory("/models/a@b".into())),
            // An existing folder, relative to the package's root.
            ("src/model", ModelSource::Directory("src/model".into())),
            ("Qwen/Qwen3-8B", hub("Qwen/Qwen3-8B", None)),
            ("a/b.c@refs/pr/1", hub("a/b.c", Some("refs/pr/1"))),
        ];
        for (given, expected) in cases {
            assert_eq!(given.parse::<ModelSource>().unwrap(), expected);
            assert_eq!(expected.to_string(), given);
        }
    }

    #[test]
    fn a_quoted_tilde_is_the_home_folder() {
        let home = std::env::home_dir().unwrap();
        let parsed: ModelSource = "~/m".parse().unwrap();
        assert_eq!(parsed, ModelSource::Directory(home.join("m")));
        assert!("~root/m".parse::<ModelSource>().is_err());
    }

    #[test]
    fn no_repository_or_revision_leaves_the_cache_folder() {
        for given in ["../a", "a/..", "a/b/c", "a/.b", "a/b@", "a/b@../../x", "a/b@x//y", "a/b@x y"]
        {
            let parsed = given.parse::<ModelSource>();
            assert!(
                matches!(&parsed, Err(_) | Ok(ModelSource::Directory(_))),
                "{given}: {parsed:?}"
            );
        }
    }

    #[test]
    fn a_misspelt_source_is_explained() {
        let message = |given: &str| given.parse::<ModelSource>().unwrap_err().to_string();
        let text = message("nanno");
        assert!(text.contains("`nanno`") && text.contains("org/name@revision"), "{text}");
        assert!(message("Cargo.toml").contains("it is a file"));
        assert!(message("").contains("no such folder"));
    }
}
