//! A model on the Hugging Face Hub.
//!
//! Receives `org/name` and a revision; gives the model's files, mapped from the local cache, into
//! which what was missing is downloaded. Only the files that [`ModelFiles`] holds are fetched:
//! many repositories carry the weights a second time in another format.
//!
//! The order of requests: the repository's commit and file list (which also tells a wrong name, a
//! missing revision, and an unreachable Hub apart), then every file at that commit, so that a push
//! in between cannot mix two versions. The cache learns which commit the revision is at when all
//! files are there, so that what it finds offline is whole.

mod client;
mod download;
mod meter;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;

use crate::files::read_regular;
use crate::model::files::directory::{self, CONFIG, OPTIONAL, SINGLE_WEIGHTS, TOKENIZER, Weights};
use crate::model::files::shard_index::{INDEX_FILE, ShardIndex};
use crate::model::{FetchOptions, FetchProgress, ModelError, ModelFiles};
use client::{Fault, HubClient};
use download::Store;
use settings::HubSettings;

const THE_LIST: &str = "the list of files";
const CACHE_SUFFICES: &str = "check the network, or go on without it: the local cache holds all \
                              that is needed (offline mode, HF_HUB_OFFLINE=1)";
const CACHE_LACKS: &str = "check the network; the local cache does not hold the model either";

/// One repository, at one revision.
pub(super) struct Hub<'a> {
    repo: &'a str,
    revision: Option<&'a str>,
    settings: HubSettings,
    store: Store,
    progress: Option<Arc<dyn FetchProgress>>,
    offline: bool,
    with_weights: bool,
}

impl<'a> Hub<'a> {
    /// Reads the settings; makes no request.
    ///
    /// # Errors
    /// No place for the cache.
    pub(super) fn new(
        repo: &'a str,
        revision: Option<&'a str>,
        options: &FetchOptions,
    ) -> Result<Self, ModelError> {
        let settings = HubSettings::new(options)?;
        let store = Store::new(&settings.cache, repo, revision);
        let (progress, offline) = (options.progress.clone(), options.offline);
        let with_weights = !options.without_weights;
        Ok(Self { repo, revision, settings, store, progress, offline, with_weights })
    }

    /// Gets the model's files; `name` is what the model will be called.
    ///
    /// # Errors
    /// See [`ModelSource::resolve`](crate::model::ModelSource::resolve).
    pub(super) fn fetch(&self, name: String) -> Result<ModelFiles, ModelError> {
        if self.offline {
            return self.cached(name);
        }
        directory::read(&self.download_all()?, name, self.with_weights)
    }

    /// Finds the revision's folder in the cache, and reads it like any folder.
    fn cached(&self, name: String) -> Result<ModelFiles, ModelError> {
        let not_cached = |file: &str| ModelError::NotInCache {
            repo: name.clone(),
            file: file.into(),
            cache: self.settings.cache.clone(),
        };
        let config = self.store.find(CONFIG, self.revision).ok_or_else(|| not_cached(CONFIG))?;
        let folder = config.parent().unwrap_or(&config);
        directory::read(folder, name.clone(), self.with_weights).map_err(|error| match error {
            ModelError::MissingFile { file, .. } => not_cached(&file),
            other => other,
        })
    }

    /// Downloads what the cache lacks; returns the folder of the commit in the cache.
    fn download_all(&self) -> Result<PathBuf, ModelError> {
        let client = HubClient::new(&self.settings.endpoint, self.settings.token.as_deref())?;
        let description = client
            .describe(self.repo, self.revision)
            .map_err(|fault| self.explain(THE_LIST, fault))?;
        let names = description.files();
        let listed = |file: &str| names.iter().any(|name| name == file);
        // All that is certain to fail should fail before gigabytes have been downloaded.
        for file in [CONFIG, TOKENIZER] {
            if !listed(file) {
                return Err(directory::missing(self.repo, file));
            }
        }
        let weights = Weights::among(self.repo, &names)?;

        let commit = description.sha.as_str();
        let download = |file: &str| {
            self.store.fetch(&client, (self.repo, commit, file), self.progress.as_deref()).map_err(
                |fault| match fault {
                    Fault::Moved(fetched) => ModelError::Moved {
                        repo: self.repo.into(),
                        listed: commit.into(),
                        file: file.into(),
                        fetched,
                    },
                    other => self.explain(file, other),
                },
            )
        };
        let folder = self.store.snapshot(commit);
        download(CONFIG)?;
        download(TOKENIZER)?;
        OPTIONAL.into_iter().filter(|file| listed(file)).try_for_each(download)?;
        if !self.with_weights {
            // The cache is not told of the commit: what it finds offline must be whole.
            return Ok(folder);
        }
        match weights {
            Weights::Single => download(SINGLE_WEIGHTS)?,
            Weights::Sharded => {
                download(INDEX_FILE)?;
                let path = folder.join(INDEX_FILE);
                let bytes = read_regular(&path, directory::MOST_OTHER)
                    .map_err(|source| ModelError::Io { path, source })?;
                let index = ShardIndex::parse(&bytes)?;
                if let Some(file) = index.files().into_iter().find(|file| !listed(file)) {
                    return Err(directory::missing(self.repo, file));
                }
                index.files().into_iter().try_for_each(download)?;
            }
        }
        if self.revision != Some(commit) {
            self.store.remember(commit).map_err(|fault| self.explain("refs", fault))?;
        }
        Ok(folder)
    }

    /// Turns a request's failure into an error that says what to do.
    fn explain(&self, file: &str, fault: Fault) -> ModelError {
        let repo = self.repo.to_owned();
        let endpoint = self.settings.endpoint.clone();
        let (status, unknown_repo) = match &fault {
            Fault::Status { status, code } => (*status, code.as_deref() == Some("RepoNotFound")),
            _ => (0, false),
        };
        match (fault, status, self.revision) {
            (Fault::Disk { path, source }, ..) => ModelError::NotWritten { path, source },
            (Fault::WrongLength { found, announced }, ..) => {
                ModelError::WrongLength { repo, file: file.into(), found, announced }
            }
            (fault, ..) if fault.is_unreachable() => {
                let suffices = self.cached(String::new()).is_ok();
                let hint = if suffices { CACHE_SUFFICES } else { CACHE_LACKS };
                ModelError::Unreachable { repo, endpoint, hint, source: fault.into() }
            }
            (_, 404, Some(revision)) if file == THE_LIST && !unknown_repo => {
                ModelError::RevisionNotFound { repo, revision: revision.into(), endpoint }
            }
            (_, 404, _) if file == THE_LIST => ModelError::RepoNotFound { repo, endpoint },
            (_, 404, _) => directory::missing(&repo, file),
            (fault, 401, _) => ModelError::AuthRequired { repo, source: fault.into() },
            (fault, 403, _) => ModelError::Forbidden { repo, endpoint, source: fault.into() },
            (fault, ..) => {
                ModelError::Hub { repo, file: file.into(), endpoint, source: fault.into() }
            }
        }
    }
}
