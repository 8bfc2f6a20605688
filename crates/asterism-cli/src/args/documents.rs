//! Which files are read, and how.

use asterism_documents::Wanted;
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Documents")]
pub(crate) struct DocumentArgs {
    /// Of folders read only files that a pattern names, as in a .gitignore: '*.rs', 'docs/'.
    #[arg(long, value_name = "PATTERN", env = "ASTERISM_INCLUDE")]
    pub(crate) include: Vec<String>,
    /// Of folders read no file or folder that a pattern names.
    #[arg(long, value_name = "PATTERN", env = "ASTERISM_EXCLUDE")]
    pub(crate) exclude: Vec<String>,
    /// Most of a file, in MiB; larger ones of a folder are skipped.
    #[arg(long, value_name = "MIB", default_value_t = 64, env = "ASTERISM_MAX_FILE",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_file: u32,
    /// Encoding of texts, such as windows-1252; guessed if a text is no UTF-8 and does not say.
    #[arg(long, value_name = "NAME", env = "ASTERISM_ENCODING")]
    pub(crate) encoding: Option<Wanted>,
    /// Seconds that reading one PDF, DOCX, EPUB or HTML file may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "ASTERISM_READ_SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub(crate) read_seconds: u32,
}
