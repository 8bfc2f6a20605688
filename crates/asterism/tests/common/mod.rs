//! What several integration tests share: models, sessions, comparisons.

#![allow(dead_code, unreachable_pub)] // each test binary uses its own part
#![allow(clippy::unwrap_used)]

pub mod naive;

use asterism::cancel::Cancel;
use asterism::engine::{
    Context, DeviceChoice, Engine, EngineOptions, Generation, Phase1, Progress, Room,
};
use asterism::model::{FetchOptions, ModelFiles, ModelSource};
use asterism::plan::{AnchorKv, Cost, Method, PlanSpec, Star};
use asterism::tensor::Precision;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// `tests/golden/NAME`.
pub fn golden_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The families with a tiny random checkpoint.
pub const FAMILIES: [&str; 6] = ["llama2", "llama3", "llama_linear", "mistral", "qwen2", "qwen3"];

/// The CPU and, where there is one, the first GPU. Otherwise says which test is skipped there.
pub fn devices(test: &str) -> Vec<DeviceChoice> {
    match gpu() {
        Ok(gpu) => vec![DeviceChoice::Cpu, gpu],
        Err(error) => {
            eprintln!("{test}: skipped on a GPU: {error}");
            vec![DeviceChoice::Cpu]
        }
    }
}

#[cfg(feature = "cuda")]
fn gpu() -> Result<DeviceChoice, asterism::tensor::CudaError> {
    asterism::tensor::cuda::Device::count().map(|_| DeviceChoice::Cuda(0))
}

#[cfg(not(feature = "cuda"))]
fn gpu() -> Result<DeviceChoice, &'static str> {
    Err("built without the feature `cuda`")
}

/// Loads a model directory, or nano, on the CPU.
pub fn engine(source: &ModelSource, precision: Precision) -> Arc<Engine> {
    engine_on(source, DeviceChoice::Cpu, precision)
}

/// Loads a model directory, or nano.
pub fn engine_on(source: &ModelSource, device: DeviceChoice, precision: Precision) -> Arc<Engine> {
    let files = source.resolve(&FetchOptions::default()).expect("model files");
    let options = EngineOptions { precision, device, ..EngineOptions::default() };
    Arc::new(Engine::load(files, &options).expect("model"))
}

/// A tiny checkpoint in f32, on the CPU.
pub fn tiny(family: &str) -> Arc<Engine> {
    tiny_on(family, DeviceChoice::Cpu, Precision::F32)
}

/// A tiny checkpoint.
pub fn tiny_on(family: &str, device: DeviceChoice, precision: Precision) -> Arc<Engine> {
    let options = EngineOptions { precision, device, ..EngineOptions::default() };
    Arc::new(Engine::load(tiny_files(family), &options).expect("model"))
}

/// The files of a tiny checkpoint. It has no tokenizer of its own; nano's stands in, unused.
pub fn tiny_files(family: &str) -> ModelFiles {
    let dir = tempfile::tempdir().expect("temporary directory");
    for entry in std::fs::read_dir(golden_dir(family)).expect("golden directory") {
        let path = entry.expect("entry").path();
        std::fs::copy(&path, dir.path().join(path.file_name().expect("name"))).expect("copy");
    }
    std::fs::remove_file(dir.path().join("golden.safetensors")).expect("golden values");
    let tokenizer =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/nano/tokenizer.json");
    std::fs::copy(tokenizer, dir.path().join("tokenizer.json")).expect("tokenizer");
    let source = ModelSource::Directory(dir.path().to_owned());
    source.resolve(&FetchOptions::default()).expect("model files")
}

/// Numbers of hosts to try: one, several, and more than a short context has blocks.
pub const HOSTS: [usize; 5] = [1, 2, 3, 4, 8];

/// Every method, star with the settings `star`.
pub fn methods(star: Star) -> [Method; 4] {
    [Method::Star(star), Method::Ring, Method::Zigzag, Method::Dense]
}

/// Encodes `context` by every method on every number of hosts and compares what was sent and
/// reported with what the plan says.
pub fn assert_as_planned(engine: &Arc<Engine>, context: &[u32]) {
    let star = Star::new(16);
    let recomputed = star.anchor_kv(AnchorKv::Recompute);
    let others = [star.anchor(0), recomputed.anchor(8), recomputed.anchor(0)].map(Method::Star);
    for method in methods(star.anchor(8)).into_iter().chain(others) {
        for hosts in HOSTS {
            assert_one_as_planned(engine, context, PlanSpec::from(method).hosts(hosts));
        }
    }
}

fn assert_one_as_planned(engine: &Arc<Engine>, context: &[u32], spec: PlanSpec) {
    let size = engine.model_size();
    let work = AtomicU64::new(0);
    let progress = |step: Progress| {
        work.fetch_add(step.work, Ordering::Relaxed);
    };
    let (engine, cancel) = (Arc::clone(engine), Cancel::new());
    let session =
        Context::encode(engine, context.to_vec(), spec, Room::default(), &progress, &cancel)
            .expect("phase 1");
    let (plan, phase1) = (session.plan(), session.phase1());
    assert_eq!(work.into_inner(), Phase1::work(plan, size.layers), "{spec:?}");
    let sent: u64 = Cost::of(plan, &size).hosts.iter().map(|host| host.sent_bytes).sum();
    assert_eq!(phase1.bytes_sent, sent, "{spec:?}");
}

/// All logits after `query`, and the greedy continuation of `steps` tokens.
pub fn run(
    engine: &Arc<Engine>,
    context: &[u32],
    query: &[u32],
    spec: impl Into<PlanSpec>,
    steps: usize,
) -> (Vec<f32>, Vec<u32>) {
    let cancel = Cancel::new();
    let (engine, context) = (Arc::clone(engine), context.to_vec());
    let session =
        Context::encode(engine, context, spec, Room::default(), &|_| (), &cancel).expect("phase 1");
    let settings = Generation {
        max_tokens: steps,
        ignore_eos: true,
        top_logits: usize::MAX,
        ..Generation::default()
    };
    let mut on_token = |_| ControlFlow::Continue(());
    let answer = session.generate(query, &settings, &mut on_token, &cancel).expect("phase 2");
    let mut logits = vec![f32::NAN; session.engine().config().vocab];
    for (token, logit) in answer.top_logits {
        logits[token as usize] = logit;
    }
    (logits, answer.tokens)
}

/// ‖a - b‖ / ‖b‖; not a number fails every comparison.
pub fn relative_error(a: &[f32], b: &[f32]) -> f32 {
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| v * v).sum::<f32>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// Largest absolute difference; NaN counts as infinite.
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (x, y)| {
        let d = (x - y).abs();
        if d.is_nan() { f32::INFINITY } else { d.max(m) }
    })
}

/// A tensor of a safetensors file, as little-endian numbers.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn open(name: &str) -> Self {
        Self(std::fs::read(golden_dir(name).join("golden.safetensors")).expect("golden values"))
    }

    fn data(&self, name: &str) -> Vec<u8> {
        let tensors = safetensors::SafeTensors::deserialize(&self.0).expect("safetensors");
        tensors.tensor(name).expect("tensor").data().to_vec()
    }

    pub fn ints(&self, name: &str) -> Vec<u32> {
        let read = |b: &[u8]| i64::from_le_bytes(b.try_into().expect("8 bytes"));
        self.data(name).chunks(8).map(|b| u32::try_from(read(b)).expect("token")).collect()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        let read = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("4 bytes"));
        self.data(name).chunks(4).map(read).collect()
    }
}

/// `len` tokens below 128, the same for the same `seed`.
pub fn tokens(len: usize, seed: u64) -> Vec<u32> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as u32 % 128
        })
        .collect()
}
