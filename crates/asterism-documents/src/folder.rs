//! The files of a folder that are to be read, and those that are not, with the reason.

use crate::ReadError;
use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which files of folders are read. Patterns are those of `.gitignore`.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only files that one of these patterns matches, if there are any.
    pub include: Vec<String>,
    /// No file or folder that one of these patterns matches.
    pub exclude: Vec<String>,
}

/// A file or folder that was met and is not read.
#[derive(Debug)]
pub struct Skipped {
    /// Its name; a folder's ends with a slash.
    pub name: String,
    /// Why.
    pub reason: Reason,
}

/// Why a file or folder is not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// Its name begins with a dot.
    Hidden,
    /// A `.gitignore` names it.
    Ignored,
    /// A pattern excludes it.
    Excluded,
    /// No pattern includes it.
    NotIncluded,
    /// It is a link: what it leads to may be anywhere.
    Link,
    /// It is a pipe, a socket or a device.
    Special,
    /// It was given before.
    Twice,
    /// It has nothing in it.
    Empty,
    /// It could not be read.
    Failed(ReadError),
}

impl Reason {
    /// A name for programs that never changes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Ignored => "ignored",
            Self::Excluded => "excluded",
            Self::NotIncluded => "not_included",
            Self::Link => "link",
            Self::Special => "special",
            Self::Twice => "twice",
            Self::Empty => "empty",
            Self::Failed(error) => error.code(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "hidden",
            Self::Ignored => "named by a .gitignore",
            Self::Excluded => "excluded",
            Self::NotIncluded => "not included",
            Self::Link => "a link",
            Self::Special => "a pipe, socket or device",
            Self::Twice => "given before",
            Self::Empty => "empty",
            Self::Failed(error) => return error.fmt(f),
        })
    }
}

/// What a folder has.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files to be read, by path.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Goes through `folder`, in the order of names. What a `.gitignore` names, in it or above it, is
/// left out, as are hidden files; links are not followed.
///
/// # Errors
/// If a pattern is none, or the folder cannot be listed.
pub(crate) fn walk(folder: &Path, selection: &Selection) -> Result<Found, ReadError> {
    // A folder that cannot be listed is an error; one within it is skipped.
    let failed = |error| ReadError::Io { name: shown(folder), error };
    folder.read_dir().map_err(failed)?;
    let matcher = |patterns: &[String]| patterns_of(folder, patterns).map(Arc::new);
    let (include, exclude) = (matcher(&selection.include)?, matcher(&selection.exclude)?);
    let mut walk = WalkBuilder::new(folder);
    walk.require_git(false).sort_by_file_name(Ord::cmp).follow_links(false);
    let pruned = Arc::clone(&exclude);
    walk.filter_entry(move |entry| {
        let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
        entry.depth() == 0 || !pruned.matched(entry.path(), is_dir).is_ignore()
    });
    let mut found = Found::default();
    let (mut folders, mut met) = (Vec::new(), HashSet::new());
    for entry in walk.build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.skipped.push(unreadable(folder, error));
                continue;
            }
        };
        let path = entry.path().to_owned();
        met.insert(path.clone());
        let Some(kind) = entry.file_type() else { continue };
        let skip = match () {
            () if kind.is_dir() => {
                folders.push(path);
                continue;
            }
            () if kind.is_symlink() => Some(Reason::Link),
            () if !kind.is_file() => Some(Reason::Special),
            () if !include.is_empty() && !includes(&include, &path) => Some(Reason::NotIncluded),
            () => None,
        };
        match skip {
            Some(reason) => found.skipped.push(Skipped { name: shown(&path), reason }),
            None => found.files.push(path),
        }
    }
    for folder in folders {
        found.skipped.extend(left_out(&folder, &met, &exclude));
    }
    found.skipped.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What is in `folder` and was not `met`: the walk says nothing of it.
fn left_out(folder: &Path, met: &HashSet<PathBuf>, exclude: &Gitignore) -> Vec<Skipped> {
    // That it can be listed was seen by the walk.
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let paths = entries.flatten().filter(|entry| !met.contains(&entry.path()));
    paths
        .map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let path = entry.path();
            let reason = match () {
                () if exclude.matched(&path, is_dir).is_ignore() => Reason::Excluded,
                () if entry.file_name().as_encoded_bytes().starts_with(b".") => Reason::Hidden,
                () => Reason::Ignored,
            };
            Skipped { name: shown(&path) + if is_dir { "/" } else { "" }, reason }
        })
        .collect()
}

/// Whether a pattern names the file, or a folder that it is in.
fn includes(patterns: &Gitignore, path: &Path) -> bool {
    patterns.matched_path_or_any_parents(path, false).is_ignore()
}

fn patterns_of(folder: &Path, patterns: &[String]) -> Result<Gitignore, ReadError> {
    let mut builder = GitignoreBuilder::new(folder);
    let refused = |pattern: &str, error: ignore::Error| {
        let message = format!("the pattern {pattern:?}: {error}");
        let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, message);
        ReadError::Io { name: folder.display().to_string(), error }
    };
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| refused(pattern, error))?;
    }
    builder.build().map_err(|error| refused("all together", error))
}

/// A part of `folder` that the walk could not enter.
fn unreadable(folder: &Path, error: ignore::Error) -> Skipped {
    let inner = match &error {
        ignore::Error::WithDepth { err, .. } => err,
        error => error,
    };
    let name = match inner {
        ignore::Error::WithPath { path, .. } => shown(path),
        _ => shown(folder),
    };
    let said = error.to_string();
    let error = error.into_io_error().unwrap_or_else(|| std::io::Error::other(said));
    Skipped { name: name.clone(), reason: Reason::Failed(ReadError::Io { name, error }) }
}

/// A path as it is named: without `./` in front.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix("./").unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.rs", "fn b() {}"),
            ("a.md", "# A"),
            ("src/z.rs", "z"),
            ("src/deep/y.rs", "y"),
            ("src/deep/data.log", "log"),
            ("target/debug/x.rs", "x"),
            (".gitignore", "target/\n*.log\n!keep.log\n"),
            ("keep.log", "kept"),
            (".hidden/h.rs", "h"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn found(dir: &Path, include: &[&str], exclude: &[&str]) -> (Vec<String>, Vec<String>) {
        let owned = |patterns: &[&str]| patterns.iter().map(|s| (*s).to_owned()).collect();
        let selection = Selection { include: owned(include), exclude: owned(exclude) };
        let Found { files, skipped } = walk(dir, &selection).unwrap();
        let start = dir.display().to_string().len() + 1;
        let files = files.iter().map(|path| shown(path)[start..].to_owned()).collect();
        let skipped = skipped.iter().map(|s| format!("{} {}", &s.name[start..], s.reason.code()));
        (files, skipped.collect())
    }

    #[test]
    fn files_come_in_order_and_what_is_left_out_is_listed() {
        let dir = tree();
        std::os::unix::fs::symlink("b.rs", dir.path().join("c.rs")).unwrap();
        let (files, skipped) = found(dir.path(), &[], &[]);
        assert_eq!(files, ["a.md", "b.rs", "keep.log", "src/deep/y.rs", "src/z.rs"]);
        assert_eq!(
            skipped,
            [
                ".gitignore hidden",
                ".hidden/ hidden",
                "c.rs link",
                "src/deep/data.log ignored",
                "target/ ignored"
            ]
        );
    }

    #[test]
    fn patterns_choose_files() {
        let dir = tree();
        let (files, skipped) = found(dir.path(), &["*.rs"], &["deep/"]);
        assert_eq!(files, ["b.rs", "src/z.rs"]);
        assert!(skipped.contains(&"a.md not_included".to_owned()), "{skipped:?}");
        assert!(skipped.contains(&"src/deep/ excluded".to_owned()), "{skipped:?}");
        let (files, _) = found(dir.path(), &["src/"], &["/src/z.rs"]);
        assert_eq!(files, ["src/deep/y.rs"]);
        let selection = Selection { include: vec!["{".into()], exclude: Vec::new() };
        assert!(walk(dir.path(), &selection).unwrap_err().to_string().contains("pattern"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let error = walk(Path::new("/no/such/folder"), &Selection::default()).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
