//! One file of a repository, from the Hub into the cache.
//!
//! Receives a file's name and a commit; leaves the file in the cache, in the layout that all
//! Hugging Face tools share: contents in `blobs`, under the names that the Hub gives them, and a
//! folder of links to them per commit in `snapshots`. Contents appear under their name only when
//! they are whole. What a broken transfer leaves behind is continued by the next.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::client::{Fault, HubClient, Located, retry, text};
use super::meter::Meter;
use crate::model::FetchProgress;

/// Bytes between two writes, and between two reports of progress.
const CHUNK: usize = 256 << 10;

/// The place of one repository in the cache.
pub(super) struct Store {
    cache: PathBuf,
    folder: String,
    repo: CacheRepo,
}

impl Store {
    /// The place of `repo`; `revision` is what its reference is asked for and set for.
    pub(super) fn new(cache: &Path, repo: &str, revision: Option<&str>) -> Self {
        let revision = revision.unwrap_or("main").to_owned();
        let repo = Repo::with_revision(repo.into(), RepoType::Model, revision);
        Self {
            cache: cache.into(),
            folder: repo.folder_name(),
            repo: Cache::new(cache.into()).repo(repo),
        }
    }

    /// `file` at the revision, if the cache holds it. (Only names that were fetched by name have
    /// a reference; a commit is its own.)
    pub(super) fn find(&self, file: &str, revision: Option<&str>) -> Option<PathBuf> {
        let at_commit = || revision.map(|commit| self.snapshot(commit).join(file));
        self.repo.get(file).or_else(|| at_commit().filter(|path| path.exists()))
    }

    /// The folder of one commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// Remembers that the revision is at `commit`.
    pub(super) fn remember(&self, commit: &str) -> Result<(), Fault> {
        let failed = |source| Fault::Disk { path: self.cache.join(&self.folder), source };
        self.repo.create_ref(commit).map_err(failed)
    }

    /// Makes sure that the cache holds `file` of `repo` at `commit`.
    pub(super) fn fetch(
        &self,
        client: &HubClient,
        (repo, commit, file): (&str, &str, &str),
        listener: Option<&dyn FetchProgress>,
    ) -> Result<(), Fault> {
        let link = self.snapshot(commit).join(file);
        if link.exists() {
            return Ok(());
        }
        let found = client.locate(repo, commit, file)?;
        if found.commit != commit {
            return Err(Fault::Moved(found.commit));
        }
        let blob = self.cache.join(&self.folder).join("blobs").join(&found.etag);
        let _lock = self.lock(&found)?;
        if !is_whole(&blob, &found) {
            let part = blob.with_file_name(format!("{}.incomplete", found.etag));
            make_parent(&part)?;
            let url = client.file_url(repo, commit, file);
            let mut meter = Meter::new(file, found.size, listener);
            retry(|| transfer(client, &url, &part, found.size, &mut meter))?;
            meter.finish();
            fs::rename(&part, &blob).map_err(disk(&part))?;
        }
        make_parent(&link)?;
        // A link that leads nowhere is in the way.
        if link.is_symlink() {
            fs::remove_file(&link).map_err(disk(&link))?;
        }
        place(&blob, &found.etag, &link).map_err(disk(&link))
    }

    /// Waits until no other process fetches the same content. The Python library takes the same
    /// lock.
    fn lock(&self, found: &Located) -> Result<File, Fault> {
        let path =
            self.cache.join(".locks").join(&self.folder).join(format!("{}.lock", found.etag));
        make_parent(&path)?;
        let file = File::create(&path).map_err(disk(&path))?;
        match file.lock() {
            // Some network drives have no locks: two fetches at a time are rare.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(disk(&path)(error)),
            _ => Ok(file),
        }
    }
}

/// Whether the content is there, from another commit or another tool.
fn is_whole(blob: &Path, found: &Located) -> bool {
    fs::metadata(blob).is_ok_and(|file| found.size.is_none_or(|size| size == file.len()))
}

/// Brings what `part` lacks of `size` bytes. After a failure `part` holds a true beginning.
fn transfer(
    client: &HubClient,
    url: &str,
    part: &Path,
    size: Option<u64>,
    meter: &mut Meter<'_>,
) -> Result<(), Fault> {
    let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(disk(part))?;
    let mut start = file.metadata().map_err(disk(part))?.len();
    if size.is_none_or(|size| start > size) {
        start = 0;
    }
    if size == Some(start) {
        meter.start(start);
        return Ok(());
    }
    let empty = |file: &File| file.set_len(0).map_err(disk(part));
    let answer = client.download(url, start);
    if matches!(answer, Err(Fault::Status { status: 416, .. })) {
        empty(&file)?;
    }
    let answer = answer?;
    let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
    let announced = announced(&answer, start);
    if !partial || start == 0 {
        start = 0;
        empty(&file)?;
    } else if announced.is_none() {
        empty(&file)?;
        return Err(Fault::Malformed("Content-Range"));
    }
    if let (Some(announced), Some(found)) = (size, announced)
        && announced != found
    {
        empty(&file)?;
        return Err(Fault::WrongLength { found, announced });
    }
    meter.start(start);
    let outcome = copy(answer.into_body().into_reader(), &mut file, part, meter);
    // Without a length, it may have been an error page that broke off.
    if outcome.is_err() && announced.is_none() {
        empty(&file)?;
    }
    let found = start + outcome?;
    match size.filter(|size| *size != found) {
        None => Ok(()),
        Some(announced) => {
            empty(&file)?;
            Err(Fault::WrongLength { found, announced })
        }
    }
}

/// The length of the whole file, according to the answer that brings it from `start` on.
fn announced(answer: &Response<Body>, start: u64) -> Option<u64> {
    if answer.status() == StatusCode::PARTIAL_CONTENT {
        let range = text(answer, "Content-Range")?.strip_prefix("bytes ")?;
        let (range, total) = range.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        return total.parse().ok().filter(|_| first.parse() == Ok(start));
    }
    text(answer, "Content-Length")?.parse().ok()
}

fn copy(
    mut from: impl Read,
    to: &mut File,
    path: &Path,
    meter: &mut Meter<'_>,
) -> Result<u64, Fault> {
    let mut buffer = vec![0; CHUNK];
    let mut sum = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(sum),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(ureq::Error::from(error).into()),
        };
        to.write_all(&buffer[..count]).map_err(disk(path))?;
        sum += count as u64;
        meter.advance(count as u64);
    }
}

/// Links the file of a commit to its content.
#[cfg(unix)]
fn place(_blob: &Path, etag: &str, link: &Path) -> std::io::Result<()> {
    // Relative, so that the cache can be moved.
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), link)
}

/// Links the file of a commit to its content. Symbolic links need privileges on some systems.
#[cfg(not(unix))]
fn place(blob: &Path, _etag: &str, link: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, link)
}

fn make_parent(path: &Path) -> Result<(), Fault> {
    path.parent().map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(disk(folder)))
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> Fault {
    move |source| Fault::Disk { path: path.into(), source }
}
