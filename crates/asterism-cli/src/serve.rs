//! `asterism serve`: the engine behind HTTP.

use crate::args::{LogFormat, ServeArgs};
use crate::error::CliError;
use crate::terminal::note;
use crate::{config, documents};
use anyhow::Context as _;
use asterism::engine::EngineOptions;
use asterism_documents::{Limits, Reader};
use asterism_serve::{ServeOptions, serve, told_to_stop};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) fn run(args: ServeArgs) -> Result<(), CliError> {
    let spec = config::plan_spec(&args.method)?;
    let (generation, _) = config::generation(&args.generation)?;
    if !args.generation.stop.is_empty() {
        let message = "--stop is not for serve: each request says where its answer ends";
        return Err(CliError::Usage(message.to_owned()));
    }
    let api_keys = keys(&args)?;
    log(args.log);
    let cache_bytes = u64::from(args.cache_memory) << 20;
    let options = EngineOptions { cache_bytes, ..config::engine_options(&args.model)? };
    let engine = config::load(config::model_files(&args.model)?, &options)?;
    let address = SocketAddr::new(args.bind, args.port);
    if api_keys.is_empty() && !args.bind.is_loopback() {
        note(format_args!(
            "warning: {} can be reached from other machines, and no --api-key is set: anybody there \
             may ask, read and delete",
            args.bind
        ));
    }
    let folder = engine.name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let model_id = args.model_id.clone().unwrap_or_else(|| folder.to_owned());
    let options = ServeOptions {
        address,
        model_id,
        api_keys,
        spec,
        generation,
        queue: usize::from(args.queue),
        body_bytes: (args.max_body as usize) << 20,
        timeout: Some(args.timeout).filter(|s| *s > 0).map(|s| Duration::from_secs(s.into())),
        drain: Duration::from_secs(args.drain.into()),
        cache_bytes,
        reader: reader(&args),
        cache_dir: args.cache_dir,
    };
    let name = options.model_id.clone();
    let hardware = engine.hardware();
    let ready = |address| {
        note(format_args!("{name} on {hardware}: http://{address}/ (page), /v1 (OpenAI's API)"));
    };
    serve(engine, options, ready, told_to_stop()).map_err(|error| CliError::Failed(error.into()))
}

/// How files are read that are sent: one may be as large as a request.
fn reader(args: &ServeArgs) -> Reader {
    let limits = Limits { seconds: args.read_seconds, ..Limits::default() };
    let most_bytes = u64::from(args.max_body) << 20;
    Reader { limits, most_bytes, ..Reader::new(documents::child()) }
}

/// The keys of the arguments and of the file, which must have some if it is given.
fn keys(args: &ServeArgs) -> Result<Vec<String>, CliError> {
    let mut keys = args.api_key.clone();
    if let Some(path) = &args.api_key_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let before = keys.len();
        keys.extend(text.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned));
        if keys.len() == before {
            let message = format!("{}: there is no key in it", path.display());
            return Err(CliError::Usage(message));
        }
    }
    if keys.iter().any(|key| key.trim().is_empty()) {
        return Err(CliError::Usage("--api-key is empty".to_owned()));
    }
    Ok(keys)
}

/// Logs to standard error, in the format asked for.
fn log(format: LogFormat) {
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => logs.compact().with_ansi(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Off => {}
    }
}
