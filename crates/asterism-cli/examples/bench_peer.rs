//! asterism as a resident process, for `benches/peers/compare.py`: it loads a model once, then
//! answers each request, a line of JSON on standard input, with a line of JSON on standard output.
//!
//! ```sh
//! cargo build --release --example bench_peer
//! echo '{"op":"attention","tokens":8192,"heads":8,"head_dim":64}' |
//!     target/release/examples/bench_peer --threads 2
//! ```

use anyhow::{Result, anyhow, bail};
use asterism::cancel::Cancel;
use asterism::engine::{Context, DeviceChoice, Engine, EngineOptions, Generation, Room};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::{Method, PlanSpec, Star};
use asterism::tensor::{
    Activations, Cpu, Elements, HeadShape, KvSegment, KvSequence, Pass, Precision, RowPositions,
};
use clap::Parser;
use half::bf16;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    /// A folder in Hugging Face layout, or nano; only `generate` needs it.
    #[arg(long)]
    model: Option<ModelSource>,
    /// Compute threads.
    #[arg(long)]
    threads: usize,
    /// What computes `generate`: cpu, or cuda:N. The kernels are always the CPU's.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Precision of weights and cached keys: bf16 or f32.
    #[arg(long, default_value = "bf16", value_parser = precision)]
    dtype: Precision,
}

fn precision(name: &str) -> Result<Precision> {
    match name {
        "bf16" => Ok(Precision::Bf16),
        "f32" => Ok(Precision::F32),
        other => bail!("{other} is not a dtype: use bf16 or f32"),
    }
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Request {
    /// Encode `length` tokens, then decode `decode` more.
    Generate {
        length: usize,
        decode: usize,
        seed: u64,
        method: String,
        block: usize,
        anchor: usize,
    },
    /// `[rows, inputs] x [inputs, outputs]`.
    Linear { rows: usize, inputs: usize, outputs: usize, dtype: String },
    /// Causal attention of `tokens` over themselves, keys and values in bf16.
    Attention { tokens: usize, heads: usize, head_dim: usize },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let options = EngineOptions {
        threads: args.threads,
        precision: args.dtype,
        device: args.device,
        cache_bytes: 0,
        ..EngineOptions::default()
    };
    let engine = match args.model {
        Some(source) => {
            Some(Arc::new(Engine::load(source.resolve(&FetchOptions::default())?, &options)?))
        }
        None => None,
    };
    // Without a model, a backend of our own for the kernels.
    let cpu = Cpu::new(args.threads, None)?;
    let hardware = engine.as_ref().map_or(cpu.isa().to_string(), |engine| engine.hardware());
    let version = format!("{}, {hardware}", env!("CARGO_PKG_VERSION"));
    say(&json!({ "ready": true, "version": version }))?;
    for line in std::io::stdin().lock().lines() {
        let answer = serde_json::from_str(&line?).map_err(Into::into).and_then(|r| match r {
            Request::Generate { length, decode, seed, method, block, anchor } => {
                let engine = engine.as_ref().ok_or_else(|| anyhow!("generate needs --model"))?;
                let star = Star::new(block).anchor(anchor);
                let method = [Method::Star(star), Method::Ring, Method::Zigzag, Method::Dense]
                    .into_iter()
                    .find(|m| m.name() == method)
                    .ok_or_else(|| anyhow!("unknown method {method}"))?;
                generate(engine, length, decode, seed, method.into())
            }
            Request::Linear { rows, inputs, outputs, dtype } => {
                Ok(linear(&cpu, rows, inputs, outputs, precision(&dtype)?))
            }
            Request::Attention { tokens, heads, head_dim } => {
                Ok(attention(&cpu, tokens, HeadShape { heads, kv_heads: heads, head_dim }))
            }
        });
        say(
            &answer.unwrap_or_else(|error: anyhow::Error| json!({ "error": format!("{error:#}") }))
        )?;
    }
    Ok(())
}

fn say(answer: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

fn generate(
    engine: &Arc<Engine>,
    length: usize,
    decode: usize,
    seed: u64,
    spec: PlanSpec,
) -> Result<Value> {
    // The last token is the question: like the peers, we have then encoded `length` tokens and
    // computed the logits of the last one.
    let mut context = token_ids(length, engine.config().vocab, seed);
    let query = context.pop().ok_or_else(|| anyhow!("length is 0"))?;
    let cancel = Cancel::new();
    engine.take_peak_memory()?;
    let room = Room { question: 1, answer: decode + 1 };
    let context = Context::encode(Arc::clone(engine), context, spec, room, &|_| (), &cancel)?;
    // The first token costs no step, so `decode` steps give one more.
    let settings = Generation { max_tokens: decode + 1, ignore_eos: true, ..Generation::default() };
    let mut on_token = |_| ControlFlow::Continue(());
    let answer = context.generate(&[query], &settings, &mut on_token, &cancel)?;
    let phase1 = context.phase1().time.as_secs_f64();
    Ok(json!({
        "length": length,
        "prefill_s": phase1 + answer.query_time.as_secs_f64(),
        "phase1_s": phase1,
        "decode_tokens_per_s": (decode > 0).then(|| answer.tokens_per_second()),
        "tokens": answer.tokens,
        "device_bytes": engine.take_peak_memory()?,
    }))
}

/// The same ids as `protocol.py` makes.
fn token_ids(length: usize, vocab: usize, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab as u64) as u32
    };
    (0..length).map(|_| next()).collect()
}

/// Numbers in -1..1; their values do not matter for speed, but zeros or denormals might.
fn numbers(count: usize) -> Vec<f32> {
    token_ids(count, 1 << 16, 1).into_iter().map(|id| id as f32 / 32768.0 - 1.0).collect()
}

fn linear(cpu: &Cpu, rows: usize, inputs: usize, outputs: usize, dtype: Precision) -> Value {
    let (x, w) = (numbers(rows * inputs), numbers(outputs * inputs));
    let w = match dtype {
        Precision::F32 => cpu.pack_f32(&[&w], inputs),
        Precision::Bf16 => {
            let w: Vec<bf16> = w.into_iter().map(bf16::from_f32).collect();
            cpu.pack_bf16(&[&w], inputs)
        }
    };
    let mut input = Activations::new(dtype, Pass::Prefill);
    let mut y = vec![0.0; rows * outputs];
    speed(2.0 * (rows * inputs * outputs) as f64, || {
        // Rounding the input is part of the work, as inside a model.
        cpu.take_rows(&x, inputs, &mut input);
        cpu.linear(&input, &w, None, &mut y);
    })
}

fn attention(cpu: &Cpu, tokens: usize, shape: HeadShape) -> Value {
    let width = shape.q_width();
    let q = numbers(tokens * width);
    let kv = Elements::from_f32(Precision::Bf16, &q);
    let view = kv.view(0..tokens * width).into();
    let segment =
        KvSegment { keys: view, values: view, tokens, start: 0, hidden: None, head: None };
    let segments = [segment];
    let all =
        [KvSequence { rows: 0..tokens, positions: RowPositions::From(0), segments: &segments }];
    let (mut out, mut lse) = (vec![0.0; tokens * width], vec![0.0; tokens * shape.heads]);
    // Two products; a query sees half of the keys on average.
    let flop = 2.0 * 2.0 * (tokens * (tokens + 1) / 2 * width) as f64;
    speed(flop, || cpu.attend(&q, shape, &all, &mut out, &mut lse))
}

/// Median of several repetitions after a first one that warms up; as `protocol.py` does it.
fn speed(flop: f64, mut run: impl FnMut()) -> Value {
    let (mut times, start) = (Vec::new(), Instant::now());
    run();
    while times.len() < 3 || (start.elapsed() < Duration::from_millis(500) && times.len() < 99) {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    json!({ "gflops": flop / times[times.len() / 2] / 1e9 })
}
