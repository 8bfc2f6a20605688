//! HTTP requests to a Hub.
//!
//! Receives repositories, commits and file names; gives the Hub's answers, or a [`Fault`] that
//! tells them apart. The client of hf-hub 0.5 is not used: it sets no timeout, and it asks for
//! lengths in a way that the Hub does not answer where the response may be compressed
//! (<https://github.com/huggingface/hf-hub/issues/141>). Its cache layout is used, in
//! [`download`](super::download).

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use crate::model::ModelError;
use crate::model::files::shard_index::is_plain;

/// A connection, its TLS included, that is not there by then will not be there soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A Hub that says nothing for so long has stalled. A download may take as long as it moves.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pauses before a request that failed for a passing reason is repeated.
const RETRY_AFTER: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];
const MAX_REDIRECTS: u32 = 10;
/// Large repositories have descriptions of a few megabytes.
const MAX_DESCRIPTION: u64 = 64 << 20;

/// Why the Hub gave nothing that can be used, or what it gave could not be stored.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// The Hub answered, and not with what was asked for.
    #[error("HTTP status {status}")]
    Status {
        status: u16,
        /// The Hub's own name for the reason.
        code: Option<String>,
    },
    /// There was no answer, or it broke off.
    #[error(transparent)]
    Transport(#[from] ureq::Error),
    /// The answer lacks what every answer of a Hub has.
    #[error("the answer has no usable {0}; is this a Hub?")]
    Malformed(&'static str),
    /// The list of files is not one.
    #[error("the answer does not describe a repository; is this a Hub?")]
    Description(#[source] serde_json::Error),
    /// The file is of another commit than the one asked for.
    #[error("the file comes from commit {0}")]
    Moved(String),
    /// The file is longer or shorter than it should be.
    #[error("{found} bytes instead of {announced}")]
    WrongLength { found: u64, announced: u64 },
    /// The cache cannot be written.
    #[error("{path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
}

impl Fault {
    /// Whether no answer came from the Hub, as opposed to an answer that does not help.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            // What TLS and HTTP object to has this kind, and comes from a server that is there.
            Self::Transport(ureq::Error::Io(error)) => error.kind() != io::ErrorKind::InvalidData,
            Self::Transport(error) => matches!(
                error,
                ureq::Error::Timeout(_)
                    | ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::ConnectProxyFailed(_)
            ),
            _ => false,
        }
    }

    /// Whether the same request may succeed in a second.
    fn passes(&self) -> bool {
        match self {
            // Who waited that long, or has no network at all, should not wait again.
            Self::Transport(ureq::Error::Timeout(_) | ureq::Error::HostNotFound) => false,
            // 416: the rest of a file was asked for; the next attempt asks for all of it.
            Self::Status { status, .. } => {
                matches!(status, 408 | 416 | 429 | 500 | 502 | 503 | 504)
            }
            _ => self.is_unreachable(),
        }
    }
}

/// A repository at one commit.
#[derive(Deserialize)]
pub(super) struct Description {
    /// The commit.
    pub(super) sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Description {
    /// The names of the repository's files.
    pub(super) fn files(&self) -> Vec<String> {
        self.siblings.iter().map(|file| file.rfilename.clone()).collect()
    }
}

/// What the Hub knows of a file.
pub(super) struct Located {
    /// The commit that the file comes from.
    pub(super) commit: String,
    /// Names the content, in the cache too.
    pub(super) etag: String,
    /// Bytes.
    pub(super) size: Option<u64>,
}

/// Makes requests to one Hub, all with the same token.
pub(super) struct HubClient {
    agent: Agent,
    endpoint: String,
    /// The endpoint without its path.
    origin: String,
    authorization: Option<String>,
}

impl HubClient {
    /// Prepares the client; makes no request.
    ///
    /// # Errors
    /// An endpoint that is not an `http` or `https` address.
    pub(super) fn new(endpoint: &str, token: Option<&str>) -> Result<Self, ModelError> {
        let uri: Option<Uri> = endpoint.parse().ok();
        let origin = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
        let Some((scheme @ ("http" | "https"), authority)) = origin else {
            return Err(ModelError::HubClient { endpoint: endpoint.into() });
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("asterism/", env!("CARGO_PKG_VERSION")))
            // A compressed answer would not tell the file's length.
            .accept_encoding("identity")
            .max_redirects(MAX_REDIRECTS)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .build();
        Ok(Self {
            agent: config.into(),
            endpoint: endpoint.into(),
            origin: format!("{scheme}://{authority}"),
            authorization: token.map(|token| format!("Bearer {token}")),
        })
    }

    /// The commit and the files of `repo` at `revision`.
    pub(super) fn describe(
        &self,
        repo: &str,
        revision: Option<&str>,
    ) -> Result<Description, Fault> {
        let at = revision.map(|name| format!("/revision/{}", escape(name))).unwrap_or_default();
        let url = format!("{}/api/models/{repo}{at}", self.endpoint);
        let json = retry(|| {
            let answer = accept(self.authorized(self.agent.get(&url)).call()?)?;
            Ok(answer.into_body().into_with_config().limit(MAX_DESCRIPTION).read_to_vec()?)
        })?;
        let description: Description = serde_json::from_slice(&json).map_err(Fault::Description)?;
        // It becomes a folder's name.
        if is_plain(&description.sha) { Ok(description) } else { Err(Fault::Malformed("`sha`")) }
    }

    /// Where `file` of `repo` at `commit` comes from, and its length.
    pub(super) fn locate(&self, repo: &str, commit: &str, file: &str) -> Result<Located, Fault> {
        let mut url = self.file_url(repo, commit, file);
        for _ in 0..=MAX_REDIRECTS {
            let answer = retry(|| {
                let request = self.agent.head(&url).config().max_redirects(0).build();
                accept(self.authorized(request).call()?)
            })?;
            // Within the Hub a redirect leads to the answer (renamed repositories, small files);
            // one to other hosts is the answer: they know nothing of repositories.
            match text(&answer, "Location").filter(|place| place.starts_with('/')) {
                Some(place) => url = format!("{}{place}", self.origin),
                None => return Located::read(&answer),
            }
        }
        Err(ureq::Error::TooManyRedirects.into())
    }

    /// Begins the download of a file, leaving out its first `start` bytes. Redirects are followed,
    /// without the token where they lead to other hosts.
    pub(super) fn download(&self, url: &str, start: u64) -> Result<Response<Body>, Fault> {
        let mut request = self.authorized(self.agent.get(url));
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        accept(request.call()?)
    }

    /// The address of a file.
    pub(super) fn file_url(&self, repo: &str, commit: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{commit}/{}", self.endpoint, escape(file))
    }

    fn authorized(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }
}

impl Located {
    fn read(answer: &Response<Body>) -> Result<Self, Fault> {
        let commit = text(answer, "X-Repo-Commit").ok_or(Fault::Malformed("X-Repo-Commit"))?;
        let etag = text(answer, "X-Linked-Etag")
            .or_else(|| text(answer, "ETag"))
            .map(|tag| tag.trim_start_matches("W/").trim_matches('"'))
            .filter(|tag| is_plain(tag))
            .ok_or(Fault::Malformed("ETag"))?;
        // A redirect's own length is not the file's.
        let own = || text(answer, "Content-Length").filter(|_| answer.status() == StatusCode::OK);
        let size = text(answer, "X-Linked-Size").or_else(own).and_then(|size| size.parse().ok());
        Ok(Self { commit: commit.into(), etag: etag.into(), size })
    }
}

/// Repeats an attempt while it fails for passing reasons.
pub(super) fn retry<T>(mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    for pause in RETRY_AFTER {
        match attempt() {
            Err(fault) if fault.passes() => thread::sleep(pause),
            outcome => return outcome,
        }
    }
    attempt()
}

/// A header, if it is there and is text.
pub(super) fn text<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

fn accept(answer: Response<Body>) -> Result<Response<Body>, Fault> {
    let status = answer.status();
    if status.is_client_error() || status.is_server_error() {
        let code = text(&answer, "X-Error-Code").map(str::to_owned);
        return Err(Fault::Status { status: status.as_u16(), code });
    }
    Ok(answer)
}

/// Makes one segment of a path of any name; a branch's `/` is part of its name.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
