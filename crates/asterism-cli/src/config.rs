//! Raw arguments, checked and turned into what the engine takes.

use super::args::common::{DecodeWeightsName, Dtype, GenerationArgs, MethodArgs, ModelArgs};
use super::error::CliError;
use super::{processes, progress};
use crate::terminal::note;
use asterism::engine::{DecodeWeights, Engine, EngineOptions, Generation, ModelText, TextOptions};
use asterism::model::{FetchOptions, ModelFiles, ModelSource};
use asterism::plan::words::MethodName;
use asterism::plan::{Plan, PlanSpec, Press, Revisit, Star};
use asterism::tensor::Sampling;
use asterism::tensor::{Isa, Precision};
use std::fmt::Display;
use std::sync::Arc;

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bf16 => Self::Bf16,
            Dtype::F32 => Self::F32,
        }
    }
}

impl From<DecodeWeightsName> for DecodeWeights {
    fn from(name: DecodeWeightsName) -> Self {
        match name {
            DecodeWeightsName::Auto => Self::Auto,
            DecodeWeightsName::One => Self::One,
            DecodeWeightsName::Replicated => Self::Replicated,
            DecodeWeightsName::Sliced => Self::Sliced,
        }
    }
}

/// How the context is to be encoded; refuses impossible blocks and anchors before anything loads.
pub(crate) fn plan_spec(args: &MethodArgs) -> Result<PlanSpec, CliError> {
    if args.method != MethodName::Star && args.revisit != Revisit::None {
        let message = format!(
            "--revisit is for star, whose blocks do not see each other: {} is exact as it is",
            args.method
        );
        return Err(CliError::Usage(message));
    }
    if args.method != MethodName::Star
        && let Some(sparse) = args.sparse
    {
        let message = format!("--sparse is for star's blocks: give --method {sparse} alone");
        return Err(CliError::Usage(message));
    }
    let spec = PlanSpec::from(args.method.with(star(args))).hosts(usize::from(args.hosts));
    let spec = spec.press(press(args)?);
    Plan::new(spec, 1)?;
    Ok(spec)
}

/// What the context's keys are pressed to, if not all are kept.
pub(crate) fn press(args: &MethodArgs) -> Result<Option<Press>, CliError> {
    let press = Press::new(args.keep).by(args.press).heads(args.press_heads);
    let chosen = press != Press::new(args.keep);
    if args.keep == Press::ALL && chosen {
        let message = "--press and --press-heads say which keys are kept, and all are: say how \
                       many with --keep, such as --keep 50%";
        return Err(CliError::Usage(message.to_owned()));
    }
    Ok((args.keep < Press::ALL).then_some(press))
}

/// The settings of star, which other methods leave unused.
pub(crate) fn star(args: &MethodArgs) -> Star {
    let star = Star::new(args.block).anchor(args.anchor.of(args.block)).anchor_kv(args.anchor_kv);
    star.revisit(args.revisit).sparse(args.sparse)
}

/// How answers are generated and shown.
pub(crate) fn generation(args: &GenerationArgs) -> Result<(Generation, TextOptions), CliError> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
    };
    sampling.check().map_err(|error| CliError::Usage(error.to_string()))?;
    let filtered = args.top_k > 0 || args.top_p < 1.0 || args.min_p > 0.0;
    if args.temperature == 0.0 && filtered {
        let message = "--top-k, --top-p and --min-p need a --temperature above 0: without one the \
                       likeliest token is always taken";
        return Err(CliError::Usage(message.to_owned()));
    }
    if args.max_tokens == 0 {
        return Err(CliError::Usage("--max-tokens is 0: use at least 1".to_owned()));
    }
    if args.stop.iter().any(String::is_empty) {
        return Err(CliError::Usage("--stop is empty: give the text to stop before".to_owned()));
    }
    let generation = Generation { max_tokens: args.max_tokens, sampling, ..Generation::default() };
    Ok((generation, TextOptions { stop: args.stop.clone(), show_special: false }))
}

/// The model's files, downloaded if need be.
pub(crate) fn model_files(args: &ModelArgs) -> Result<ModelFiles, CliError> {
    fetch(args, FetchOptions::from_env())
}

/// The model's files but for its weights, which nobody needs who only plans.
pub(crate) fn model_without_weights(args: &ModelArgs) -> Result<ModelFiles, CliError> {
    fetch(args, FetchOptions { without_weights: true, ..FetchOptions::from_env() })
}

fn fetch(args: &ModelArgs, mut options: FetchOptions) -> Result<ModelFiles, CliError> {
    let source: ModelSource = args.model.parse()?;
    options.offline |= args.offline;
    let bars = progress::Downloads::new();
    options.progress = Some(bars.callback());
    let files = source.resolve(&options);
    bars.finish();
    Ok(files?)
}

/// How the engine computes.
pub(crate) fn engine_options(args: &ModelArgs) -> Result<EngineOptions, CliError> {
    let isa = match args.cpu.as_str() {
        "auto" => None,
        name => Some(name.parse::<Isa>()?),
    };
    Ok(EngineOptions {
        threads: args.threads.map_or_else(processes::threads, usize::from),
        precision: args.dtype.into(),
        kv_precision: args.kv_dtype,
        isa,
        device: args.device,
        time_stages: false,
        // Most commands encode a context once, or want to know what encoding takes.
        cache_bytes: 0,
        decode_weights: args.decode_weights.into(),
        processes: processes::world().cloned(),
    })
}

/// Loads a model, with a bar where that takes a while.
pub(crate) fn load(files: ModelFiles, options: &EngineOptions) -> Result<Arc<Engine>, CliError> {
    let text = Arc::new(ModelText::open(&files)?);
    load_read(files, text, options)
}

/// As [`load`], where `text` has been read from `files` already.
pub(crate) fn load_read(
    files: ModelFiles,
    text: Arc<ModelText>,
    options: &EngineOptions,
) -> Result<Arc<Engine>, CliError> {
    let bar = progress::Loading::new(&files.name);
    let engine = Engine::load_read(files, text, options, &|done, all| bar.report(done, all));
    bar.finish();
    let engine = engine?;
    for warning in engine.warnings() {
        note(format_args!("warning: {warning}"));
    }
    Ok(Arc::new(engine))
}

/// The model, ready to compute.
pub(crate) fn engine(args: &ModelArgs) -> Result<Arc<Engine>, CliError> {
    let options = engine_options(args)?;
    load(model_files(args)?, &options)
}

/// Refuses a value that is given twice: it would be measured or answered twice.
pub(crate) fn distinct<T: Display>(option: &str, values: &[T]) -> Result<(), CliError> {
    // What means the same is shown alike.
    let shown: Vec<String> = values.iter().map(ToString::to_string).collect();
    for (i, value) in shown.iter().enumerate() {
        if shown[..i].contains(value) {
            return Err(CliError::Usage(format!("{option}: {value} is given twice")));
        }
    }
    Ok(())
}
