//! The GPUs of this machine, as `doctor` and `plan` show them.

use super::args::common::ModelArgs;
use super::machine::Fact;
use super::report;
use asterism::engine::MemoryNeed;
use asterism::model::ModelConfig;
use asterism::plan::Plan;
use asterism::tensor::cuda::{Device, KernelCache, Libraries};
use asterism::tensor::{KvPrecision, Precision};
use asterism::world::find_nccl;
use serde_json::Value;

/// Tokens of question and answer that memory is counted for.
const ROOM: usize = 1024;

/// The GPUs, and the libraries that computing on them takes.
pub(crate) fn facts() -> Vec<Fact> {
    let libraries = Libraries::find();
    let mut facts = Vec::new();
    match Device::count() {
        Ok(count) => facts.extend((0..count).map(|ordinal| {
            let gpu = match Device::open(ordinal) {
                Ok(device) => {
                    let properties = device.properties();
                    let (major, minor) = properties.capability;
                    let (name, sms) = (&properties.name, properties.multiprocessors);
                    let memory = report::bytes(properties.memory as u64);
                    format!(
                        "cuda:{ordinal}: {name}, {memory}, {sms} SMs, capability {major}.{minor}"
                    )
                }
                Err(error) => format!("cuda:{ordinal} cannot be used: {error}"),
            };
            ("gpu", gpu)
        })),
        Err(error) => facts.push(("gpu", format!("none: {error}"))),
    }
    for (name, found) in [
        ("CUDA driver", &libraries.driver),
        ("NVRTC", &libraries.nvrtc),
        ("cuBLASLt", &libraries.cublaslt),
        ("cuDNN", &libraries.cudnn),
    ] {
        facts.push(match found {
            Ok(found) => (name, format!("{} ({})", found.version, found.path.display())),
            Err(missing) => (name, missing.to_string()),
        });
    }
    facts.push(match find_nccl() {
        Ok(found) => ("NCCL", format!("{} ({})", found.version, found.path.display())),
        Err(error) => ("NCCL", error.to_string()),
    });
    let cache = KernelCache::of_user();
    let kept = cache.folder().map(|folder| {
        let (count, bytes) = cache.kept();
        format!("{}: {count} compiled, {}", folder.display(), report::bytes(bytes))
    });
    let nowhere = || "compiled at every start: no XDG_CACHE_HOME and no home folder".to_owned();
    facts.push(("GPU kernels", kept.unwrap_or_else(nowhere)));
    facts
}

/// What the chosen method takes of a GPU's memory, and what the GPUs here have; nothing if no GPU
/// keeps such keys.
pub(crate) fn memory(model: &ModelConfig, args: &ModelArgs, plan: &Plan) -> Option<String> {
    if args.kv_precision() == KvPrecision::Int8 {
        return None;
    }
    let precision = Precision::from(args.dtype);
    let need = MemoryNeed::of(model, args.kv_precision(), plan, ROOM);
    let weights = model.parameters() * precision.bytes() as u64;
    let mut line = format!(
        "on one GPU: {} weights + {} keys + {} activations = {}",
        report::bytes(weights),
        report::bytes(need.keys),
        report::bytes(need.activations),
        report::bytes(weights + need.total()),
    );
    for ordinal in 0..Device::count().unwrap_or(0) {
        match Device::open(ordinal).and_then(|gpu| gpu.memory().map(|memory| (gpu, memory))) {
            Ok((gpu, (free, _))) => {
                let (name, free) = (&gpu.properties().name, report::bytes(free as u64));
                line += &format!("; cuda:{ordinal} ({name}) has {free} free");
            }
            Err(error) => line += &format!("; cuda:{ordinal}: {error}"),
        }
    }
    Some(line)
}

/// Adds what `plan` takes of a GPU's memory to its JSON, if a GPU keeps such keys.
pub(crate) fn add_memory(value: &mut Value, model: &ModelConfig, args: &ModelArgs, plan: &Plan) {
    if args.kv_precision() == KvPrecision::Int8 {
        return;
    }
    let need = MemoryNeed::of(model, args.kv_precision(), plan, ROOM);
    value["gpu_key_bytes"] = need.keys.into();
    value["gpu_activation_bytes"] = need.activations.into();
}
