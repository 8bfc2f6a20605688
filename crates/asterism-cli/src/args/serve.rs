//! The arguments of `asterism serve`.

use super::common::{GenerationArgs, MethodArgs, ModelArgs};
use clap::{Args, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; others than this machine reach it only if that is not the loopback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", env = "ASTERISM_BIND")]
    pub(crate) bind: IpAddr,
    /// Port to listen on; 0 for any that is free.
    #[arg(short, long, value_name = "N", default_value_t = 8080, env = "ASTERISM_PORT")]
    pub(crate) port: u16,
    /// A key that clients must send; may be given several times.
    #[arg(long, value_name = "KEY", env = "ASTERISM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Vec<String>,
    /// A file of keys, one a line.
    #[arg(long, value_name = "FILE", env = "ASTERISM_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// The model's name for clients; that of the model, or of its folder, if not given.
    #[arg(long, value_name = "NAME", env = "ASTERISM_MODEL_ID")]
    pub(crate) model_id: Option<String>,
    /// Requests that are answered or wait at a time; more are told to come back later.
    #[arg(long, value_name = "N", default_value_t = 128, env = "ASTERISM_QUEUE",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) queue: u16,
    /// Most of a request's body, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, env = "ASTERISM_MAX_BODY",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_body: u32,
    /// Seconds that reading one PDF, DOCX, EPUB or HTML file may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "ASTERISM_READ_SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub(crate) read_seconds: u32,
    /// Memory for encoded blocks that no context holds, in MiB: what requests have in common is
    /// encoded once.
    #[arg(long, value_name = "MIB", default_value_t = 1024, env = "ASTERISM_CACHE_MEMORY")]
    pub(crate) cache_memory: u32,
    /// Folder where contexts with a name are kept over restarts; they are loaded, or encoded again
    /// where that is faster, when they are asked.
    #[arg(long, value_name = "FOLDER", env = "ASTERISM_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Seconds that a request may take; 0 for any.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, env = "ASTERISM_TIMEOUT")]
    pub(crate) timeout: u32,
    /// Seconds that requests may go on when the server is told to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, env = "ASTERISM_DRAIN")]
    pub(crate) drain: u32,
    /// What is logged of each request: never a prompt.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "ASTERISM_LOG")]
    pub(crate) log: LogFormat,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) method: MethodArgs,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text.
    Text,
    /// A line of JSON.
    Json,
    /// Nothing.
    Off,
}
