//! A model on the Hugging Face Hub.
//!
//! Receives `org/name` and a revision; gives the model's files, mapped from the local cache, into
//! which what was missing is downloaded. Only the files that [`ModelFiles`] holds are fetched:
//! many repositories carry the weights a second time in another format.
//!
//! The order of requests: the repository's commit and file list (which also tells a wrong name, a
//! missing revision, and an unreachable Hub apart), `config.json` at the revision asked for, so
//! that the cache remembers the revision, and then everything else at that commit, so that a push
//! in between cannot mix two versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hf_hub::repository::RepoTypeModel;
use hf_hub::{HFClient, HFError, HFRepositorySync};

use super::directory::{self, CONFIG, OPTIONAL, SINGLE_WEIGHTS, TOKENIZER, Weights};
use super::meter::Meter;
use super::shard_index::{INDEX_FILE, ShardIndex};
use super::{FetchOptions, FetchProgress, ModelError, ModelFiles};

/// Requests that fail for passing reasons are repeated this often, after 0.2, 0.4 and 0.8 seconds.
const RETRIES: usize = 3;

/// One repository, at one revision.
pub(super) struct Hub<'a> {
    handle: HFRepositorySync<RepoTypeModel>,
    repo: &'a str,
    revision: Option<&'a str>,
    endpoint: String,
    cache: PathBuf,
    progress: Option<Arc<dyn FetchProgress>>,
}

impl<'a> Hub<'a> {
    /// Prepares the HTTP client; makes no request.
    ///
    /// # Errors
    /// An endpoint that is not a URL.
    pub(super) fn new(
        repo: &'a str,
        revision: Option<&'a str>,
        options: &FetchOptions,
    ) -> Result<Self, ModelError> {
        let mut builder = HFClient::builder()
            .user_agent(concat!("asterism/", env!("CARGO_PKG_VERSION")))
            .retry_max_attempts(RETRIES);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(dir) = &options.cache_dir {
            builder = builder.cache_dir(dir);
        }
        if let Some(token) = &options.token {
            builder = builder.token(token);
        }
        let failed = |source| ModelError::HubClient {
            endpoint: options
                .endpoint
                .clone()
                .unwrap_or_else(|| "HF_ENDPOINT, or the default".into()),
            source: Box::new(source),
        };
        let client = builder.build().map_err(failed)?;
        let (endpoint, cache) = (client.endpoint().to_owned(), client.cache_dir().to_owned());
        let blocking = hf_hub::HFClientSync::from_inner(client).map_err(failed)?;
        let (org, name) = hf_hub::split_id(repo);
        Ok(Self {
            handle: blocking.model(org, name),
            repo,
            revision,
            endpoint,
            cache,
            progress: options.progress.clone(),
        })
    }

    /// Gets the model's files; `name` is what the model will be called.
    ///
    /// # Errors
    /// See [`ModelSource::resolve`](super::ModelSource::resolve).
    pub(super) fn fetch(&self, name: String, offline: bool) -> Result<ModelFiles, ModelError> {
        if offline {
            return self.cached(name);
        }
        directory::read(&self.download_all()?, name)
    }

    /// Finds the revision's folder in the cache, and reads it like any folder.
    fn cached(&self, name: String) -> Result<ModelFiles, ModelError> {
        let not_cached = |file: &str| ModelError::NotInCache {
            repo: name.clone(),
            file: file.into(),
            cache: self.cache.clone(),
        };
        let config = self
            .handle
            .download_file()
            .filename(CONFIG)
            .maybe_revision(self.revision)
            .local_files_only(true)
            .send()
            .map_err(|error| match error {
                HFError::LocalEntryNotFound { .. } | HFError::EntryNotFound { .. } => {
                    not_cached(CONFIG)
                }
                other => self.explain(CONFIG, other),
            })?;
        directory::read(folder(&config), name.clone()).map_err(|error| match error {
            ModelError::MissingFile { file, .. } => not_cached(&file),
            other => other,
        })
    }

    /// Downloads what the cache lacks; returns the folder of the commit in the cache.
    fn download_all(&self) -> Result<PathBuf, ModelError> {
        let info = self
            .handle
            .info()
            .maybe_revision(self.revision)
            // Two fields, so that changes elsewhere in the answer cannot break its parsing.
            .expand(vec!["sha".into(), "siblings".into()])
            .send()
            .map_err(|error| self.explain("the list of files", error))?;
        let siblings = info.siblings.ok_or_else(|| {
            let absent = HFError::malformed_response("`siblings`, the list of files");
            self.explain("the list of files", absent)
        })?;
        let names: Vec<String> = siblings.into_iter().map(|file| file.rfilename).collect();
        let listed = |file: &str| names.iter().any(|name| name == file);
        // All that is certain to fail should fail before gigabytes have been downloaded.
        for file in [CONFIG, TOKENIZER] {
            if !listed(file) {
                return Err(directory::missing(self.repo, file));
            }
        }
        let weights = Weights::among(self.repo, &names)?;

        let config = self.download(CONFIG, self.revision)?;
        let folder = folder(&config).to_owned();
        let fetched = folder.file_name().unwrap_or_default().to_string_lossy();
        if let Some(listed) = info.sha
            && listed != fetched
        {
            return Err(ModelError::Moved {
                repo: self.repo.into(),
                listed,
                fetched: fetched.into_owned(),
            });
        }
        let commit = Some(&*fetched);
        self.download(TOKENIZER, commit)?;
        for file in OPTIONAL.into_iter().filter(|file| listed(file)) {
            self.download(file, commit)?;
        }
        match weights {
            Weights::Single => {
                self.download(SINGLE_WEIGHTS, commit)?;
            }
            Weights::Sharded => {
                let path = self.download(INDEX_FILE, commit)?;
                let bytes = fs::read(&path).map_err(|source| ModelError::Io { path, source })?;
                let index = ShardIndex::parse(&bytes)?;
                if let Some(file) = index.files().into_iter().find(|file| !listed(file)) {
                    return Err(directory::missing(self.repo, file));
                }
                for file in index.files() {
                    self.download(file, commit)?;
                }
            }
        }
        Ok(folder)
    }

    fn download(&self, file: &str, revision: Option<&str>) -> Result<PathBuf, ModelError> {
        let meter = Arc::new(Meter::new(file, self.progress.clone()));
        let path = self
            .handle
            .download_file()
            .filename(file)
            .maybe_revision(revision)
            .progress(Arc::clone(&meter))
            .send()
            .map_err(|error| self.explain(file, error))?;
        self.check_length(file, &path, meter.announced())?;
        Ok(path)
    }

    /// hf-hub 1.0.0 stores whatever body the download answers with, an error page included, and
    /// would find it in the cache from then on. The length announced before the download tells.
    fn check_length(&self, file: &str, path: &Path, announced: u64) -> Result<(), ModelError> {
        let failed = |source| ModelError::Io { path: path.into(), source };
        let found = fs::metadata(path).map_err(failed)?.len();
        if announced == 0 || announced == found {
            return Ok(());
        }
        let content = fs::canonicalize(path).map_err(failed)?;
        fs::remove_file(path).map_err(failed)?;
        if content != path {
            fs::remove_file(content).map_err(failed)?;
        }
        Err(ModelError::WrongLength { repo: self.repo.into(), file: file.into(), found, announced })
    }

    /// Turns the client's error into one that says what to do.
    fn explain(&self, file: &str, error: HFError) -> ModelError {
        let repo = self.repo.to_owned();
        let endpoint = self.endpoint.clone();
        let source = |error| Box::new(error);
        let code = match &error {
            HFError::RepoNotFound { context, .. } | HFError::RevisionNotFound { context, .. } => {
                context.as_ref().and_then(|context| context.error_code.as_deref())
            }
            _ => None,
        };
        match (&error, self.revision) {
            // Asked for a revision, the client calls every 404 a missing revision.
            (HFError::RevisionNotFound { .. }, Some(revision)) if code != Some("RepoNotFound") => {
                ModelError::RevisionNotFound { repo, revision: revision.into(), endpoint }
            }
            (HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. }, _) => {
                ModelError::RepoNotFound { repo, endpoint }
            }
            (HFError::EntryNotFound { .. }, _) => directory::missing(&repo, file),
            (HFError::AuthRequired { .. }, _) => {
                ModelError::AuthRequired { repo, source: source(error) }
            }
            (HFError::Forbidden { .. }, _) => {
                ModelError::Forbidden { repo, endpoint, source: source(error) }
            }
            (HFError::Request { source: cause, .. }, _)
                if cause.is_connect() || cause.is_timeout() =>
            {
                ModelError::Unreachable { repo, endpoint, source: source(error) }
            }
            _ => ModelError::Hub { repo, file: file.into(), endpoint, source: source(error) },
        }
    }
}

/// The folder of a file in the cache; its name is the commit.
fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(file)
}
