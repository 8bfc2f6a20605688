//! What `--context` names: files, folders and standard input, as documents.

use super::args::{DocumentArgs, READ_DOCUMENT};
use super::error::CliError;
use super::inputs::Limit;
use super::report::count;
use crate::terminal::note;
use anyhow::{Context as _, anyhow};
use asterism::text::TextError;
use asterism_documents::{
    Child, Document, Limits, Listing, ReadError, Reader, Reason, Selection, Skipped, Source, list,
};
use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

/// Names of what was skipped that are said for each reason.
const NAMED: usize = 5;

/// Where documents come from, and how they are read.
pub(crate) struct Inputs {
    paths: Vec<PathBuf>,
    selection: Selection,
    reader: Reader,
}

/// Documents that were read.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) documents: Vec<Document>,
    pub(crate) skipped: Vec<Skipped>,
    /// What each document was read from; `None` for standard input.
    sources: Vec<Option<Source>>,
    /// Files of folders that could not be read: when one changes it may be read.
    failed: Vec<Source>,
}

/// The reader of the command line.
pub(crate) fn reader(args: &DocumentArgs) -> Reader {
    let limits = Limits { seconds: args.read_seconds, ..Limits::default() };
    let most_bytes = u64::from(args.max_file) << 20;
    let reader = Reader::new(child());
    Reader { limits, encoding: args.encoding, most_bytes, ..reader }
}

/// How this program is started to read a file for us.
pub(crate) fn child() -> Child {
    Child::this_program([READ_DOCUMENT])
}

impl Inputs {
    /// Refuses paths that are not there, before anything takes long.
    pub(crate) fn new(paths: Vec<PathBuf>, args: &DocumentArgs) -> Result<Self, CliError> {
        let stdin = paths.iter().filter(|path| path.as_os_str() == "-").count();
        if stdin > 1 {
            let message = "--context - is given twice: standard input can be read once";
            return Err(CliError::Usage(message.to_owned()));
        }
        for path in paths.iter().filter(|path| path.as_os_str() != "-") {
            path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        }
        let (include, exclude) = (args.include.clone(), args.exclude.clone());
        let selection = Selection { include, exclude };
        Ok(Self { paths, selection, reader: reader(args) })
    }

    /// Whether standard input is one of them.
    pub(crate) fn read_stdin(&self) -> bool {
        self.paths.iter().any(|path| path.as_os_str() == "-")
    }

    /// Reads everything, as far as it is no longer than `limit`.
    pub(crate) fn read(&self, limit: Limit) -> Result<Reading, CliError> {
        self.read_after(&Reading::default(), limit)
    }

    /// Whether files have changed since `before` was read.
    pub(crate) fn have_changed(&self, before: &Reading) -> Result<bool, CliError> {
        let in_order = |mut sources: Vec<Source>| {
            sources.sort_by(|a, b| (a.given, &a.path).cmp(&(b.given, &b.path)));
            sources
        };
        let then = before.sources.iter().flatten().chain(&before.failed).cloned().collect();
        Ok(in_order(self.list()?.sources) != in_order(then))
    }

    /// Reads everything anew but what `before` has of files that stayed the same.
    pub(crate) fn read_after(&self, before: &Reading, limit: Limit) -> Result<Reading, CliError> {
        let Listing { sources, skipped } = self.list()?;
        let mut reading = Reading { skipped, ..Reading::default() };
        let mut bytes = 0;
        let mut sources = sources.into_iter().peekable();
        for (given, path) in self.paths.iter().enumerate() {
            if path.as_os_str() == "-" {
                let document = self.stdin(limit)?;
                reading.take(document, None, &mut bytes, limit)?;
            }
            while let Some(source) = sources.next_if(|source| source.given == given) {
                let document = match before.of(&source) {
                    Some(document) => Ok(document.clone()),
                    None => self.reader.file(&source),
                };
                match document {
                    Ok(document) if source.in_folder && document.is_blank() => {
                        reading.skip(source, Reason::Empty);
                    }
                    Ok(document) => reading.take(document, Some(source), &mut bytes, limit)?,
                    Err(error) if source.in_folder => reading.skip(source, Reason::Failed(error)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if reading.documents.is_empty() {
            reading.tell();
            let paths: Vec<String> =
                self.paths.iter().map(|path| path.display().to_string()).collect();
            return Err(anyhow!("there is nothing to read in {}", paths.join(", ")).into());
        }
        Ok(reading)
    }

    fn list(&self) -> Result<Listing, CliError> {
        Ok(list(&self.paths, &self.selection)?)
    }

    fn stdin(&self, limit: Limit) -> Result<Document, CliError> {
        let name = "standard input";
        let mut bytes = Vec::new();
        let most = self.reader.most_bytes.saturating_add(1);
        let read = std::io::stdin().lock().take(most).read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {name}"))?;
        let document = self.reader.document(name.to_owned(), bytes)?;
        limit.check(name, document.text.len())?;
        Ok(document)
    }
}

impl Reading {
    /// Adds a document; `bytes` are those of all so far.
    fn take(
        &mut self,
        document: Document,
        source: Option<Source>,
        bytes: &mut usize,
        limit: Limit,
    ) -> Result<(), CliError> {
        if document.is_blank() {
            return Err(TextError::EmptyDocument { name: document.name }.into());
        }
        limit.check(&document.name, document.text.len())?;
        *bytes += document.text.len();
        limit.check("the documents together", *bytes)?;
        self.documents.push(document);
        self.sources.push(source);
        Ok(())
    }

    fn skip(&mut self, source: Source, reason: Reason) {
        let name = source.name();
        self.skipped.push(Skipped { name, reason });
        self.failed.push(source);
    }

    /// The document that was read from exactly this file.
    fn of(&self, source: &Source) -> Option<&Document> {
        let at = self.sources.iter().position(|other| other.as_ref() == Some(source))?;
        Some(&self.documents[at])
    }

    /// Names and texts, as the engine takes them.
    pub(crate) fn texts(&self) -> Vec<(&str, &str)> {
        self.documents.iter().map(|d| (d.name.as_str(), d.text.as_str())).collect()
    }

    /// Tells what a reader should know: what was guessed, what is missing, what was skipped.
    pub(crate) fn tell(&self) {
        for document in &self.documents {
            for about in &document.notes {
                note(format_args!("{}: {about}", document.name));
            }
        }
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        let mut at: HashMap<&str, usize> = HashMap::new();
        for Skipped { name, reason } in &self.skipped {
            // Each of these says something of its own.
            if let Reason::Failed(error) = reason {
                note(format_args!("skipped: {error}"));
                continue;
            }
            let index = *at.entry(reason.code()).or_insert_with(|| {
                reasons.push((reason.to_string(), Vec::new()));
                reasons.len() - 1
            });
            reasons[index].1.push(name);
        }
        for (reason, names) in reasons {
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {} more", count(more)),
            };
            let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            note(format_args!("skipped, {reason}: {named}{more}"));
        }
    }
}

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        let option = match &error {
            ReadError::TooLarge { .. } => Some("--max-file"),
            ReadError::Encoding { .. } => Some("--encoding"),
            ReadError::Time { .. } => Some("--read-seconds"),
            _ => None,
        };
        match option {
            Some(option) => Self::Failed(anyhow!("{error} ({option})")),
            None => Self::Failed(error.into()),
        }
    }
}
