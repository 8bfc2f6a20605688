//! Checkpoints of random weights: as fast as real ones, wherever there is no network.
//!
//! Receives a [`Shape`] and a seed; gives the [`ModelFiles`] of a checkpoint, with the tokenizer of
//! the built-in model. The same seed gives the same bytes on every machine.

use super::{Family, FetchOptions, ModelError, ModelFiles, ModelSource, Shape};
use crate::tensor::Bytes;
use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde_json::{Map, json};
use std::f64::consts::TAU;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Standard deviation of the weights: what Transformers initialises with.
const DEVIATION: f64 = 0.02;
/// Radii and angles of the table of normal values; their product is 2^16, the values of a u16.
const GRID: usize = 256;
/// Bytes drawn from one seed of the generator: the unit of work of a thread.
const PIECE: usize = 1 << 20;
const BF16_BYTES: usize = 2;

/// How a tensor is filled.
#[derive(Clone, Copy)]
enum Fill {
    Normal,
    Ones,
}

/// A tensor of the checkpoint.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    fill: Fill,
}

impl Tensor {
    fn bytes(&self) -> usize {
        BF16_BYTES * self.shape.iter().product::<usize>()
    }
}

/// A bf16 checkpoint of `shape`: matrices and biases normal with deviation 0.02 (cut off at 3.5
/// deviations), norms one. It is made in memory, [`Shape::checkpoint_bytes`] of it, by all cores.
///
/// # Errors
/// As [`Shape::config`].
pub fn random_model(shape: &Shape, seed: u64) -> Result<ModelFiles, ModelError> {
    shape.config()?;
    let nano = ModelSource::Nano.resolve(&FetchOptions::default())?;
    let weights = Bytes::from(safetensors(&tensors(shape), seed));
    Ok(ModelFiles {
        name: format!("{}, {} layers, random weights (seed {seed})", shape.name, shape.layers),
        config: shape.config_json(),
        generation_config: None,
        weights: vec![("model.safetensors".to_owned(), weights)],
        weight_index: None,
        ..nano
    })
}

impl ModelFiles {
    /// Writes the files into the folder `dir`, made if need be, as other programs expect them.
    ///
    /// # Errors
    /// Whatever the file system says; `AlreadyExists` rather than replace a file.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let optional = [
            ("generation_config.json", self.generation_config.as_deref()),
            ("tokenizer_config.json", self.tokenizer_config.as_deref()),
            ("chat_template.jinja", self.chat_template.as_deref().map(str::as_bytes)),
            ("model.safetensors.index.json", self.weight_index.as_deref()),
        ];
        let present = optional.into_iter().filter_map(|(name, bytes)| Some((name, bytes?)));
        let weights = self.weights.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]));
        let required = [("config.json", &self.config[..]), ("tokenizer.json", &self.tokenizer)];
        for (name, bytes) in required.into_iter().chain(present).chain(weights) {
            fs::File::create_new(dir.join(name))?.write_all(bytes)?;
        }
        Ok(())
    }
}

/// Names and shapes as Hugging Face checkpoints have them.
fn tensors(s: &Shape) -> Vec<Tensor> {
    let (q, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize], fill| {
        all.push(Tensor { name, shape: shape.to_vec(), fill })
    };
    add("model.embed_tokens.weight".into(), &[s.vocab, s.hidden], Fill::Normal);
    for layer in 0..s.layers {
        let name = |suffix: &str| format!("model.layers.{layer}.{suffix}");
        add(name("input_layernorm.weight"), &[s.hidden], Fill::Ones);
        for (part, width) in [("q", q), ("k", kv), ("v", kv)] {
            let name = name(&format!("self_attn.{part}_proj"));
            add(format!("{name}.weight"), &[width, s.hidden], Fill::Normal);
            if s.family == Family::Qwen2 {
                add(format!("{name}.bias"), &[width], Fill::Normal);
            }
        }
        add(name("self_attn.o_proj.weight"), &[s.hidden, q], Fill::Normal);
        add(name("post_attention_layernorm.weight"), &[s.hidden], Fill::Ones);
        add(name("mlp.gate_proj.weight"), &[s.intermediate, s.hidden], Fill::Normal);
        add(name("mlp.up_proj.weight"), &[s.intermediate, s.hidden], Fill::Normal);
        add(name("mlp.down_proj.weight"), &[s.hidden, s.intermediate], Fill::Normal);
    }
    add("model.norm.weight".into(), &[s.hidden], Fill::Ones);
    if !s.tied {
        add("lm_head.weight".into(), &[s.vocab, s.hidden], Fill::Normal);
    }
    all
}

/// A safetensors file: the header's length, the header, the data.
fn safetensors(tensors: &[Tensor], seed: u64) -> Vec<u8> {
    let mut header = Map::new();
    // Transformers refuses files that do not say which framework's layout they have.
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes();
        let entry = json!({ "dtype": "BF16", "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // The data starts at a multiple of 8, as the format asks for.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let start = 8 + text.len();
    let mut file = vec![0; start + end];
    file[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
    file[8..start].copy_from_slice(text.as_bytes());
    fill(&mut file[start..], tensors, seed);
    file
}

/// Fills the tensors' data, piece by piece on all cores. Every piece has a generator of its own, so
/// that the result does not depend on who fills it.
fn fill(mut data: &mut [u8], tensors: &[Tensor], seed: u64) {
    let mut pieces = Vec::new();
    for tensor in tensors {
        let (own, rest) = data.split_at_mut(tensor.bytes());
        pieces.extend(own.chunks_mut(PIECE).map(|piece| (tensor.fill, piece)));
        data = rest;
    }
    let table = normal_values();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new((0u64..).zip(pieces));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, (fill, piece))) = next() {
                    match fill {
                        Fill::Ones => fill_with(piece, || [bf16::ONE.to_le_bytes(); 4]),
                        Fill::Normal => {
                            let mut random =
                                Xoshiro256PlusPlus::seed_from_u64(seed.rotate_left(32) ^ number);
                            fill_with(piece, || {
                                let bits = random.next_u64();
                                [0, 16, 32, 48].map(|shift| table[(bits >> shift) as u16 as usize])
                            });
                        }
                    }
                }
            });
        }
    });
}

/// Fills `piece` with values that `next` makes four at a time.
fn fill_with(piece: &mut [u8], mut next: impl FnMut() -> [[u8; BF16_BYTES]; 4]) {
    for four in piece.chunks_mut(4 * BF16_BYTES) {
        for (out, value) in four.chunks_exact_mut(BF16_BYTES).zip(next()) {
            out.copy_from_slice(&value);
        }
    }
}

/// 65,536 values of the normal distribution, as bytes of bf16, all equally likely: the Box-Muller
/// transform of a grid. A lookup is several times faster than the transform.
fn normal_values() -> Vec<[u8; BF16_BYTES]> {
    let middle = |i: usize| (i as f64 + 0.5) / GRID as f64;
    (0..GRID * GRID)
        .map(|i| {
            let radius = (-2.0 * middle(i / GRID).ln()).sqrt();
            let normal = radius * (TAU * middle(i % GRID)).cos();
            bf16::from_f64(DEVIATION * normal).to_le_bytes()
        })
        .collect()
}

#[cfg(test)]
#[cfg(feature = "nano")]
mod tests {
    use super::*;
    use crate::attention::{Attention, AttentionError};
    use crate::cancel::Cancel;
    use crate::model::{Checkpoint, Decoder, Precisions};
    use crate::tensor::{Aligned, Cpu, KvPrecision, Part, PartMut, Precision};
    use std::sync::Arc;

    fn shape(name: &str, layers: usize) -> Shape {
        name.parse::<Shape>().unwrap().with_layers(layers)
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_gives_others() {
        let bytes = |seed| random_model(&shape("small", 1), seed).unwrap().weights.remove(0).1;
        let first = bytes(1);
        assert!(first[..] == bytes(1)[..]);
        assert!(first[..] != bytes(2)[..]);
    }

    #[test]
    fn values_are_normal() {
        let table = normal_values();
        let values: Vec<f64> = table.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect();
        let moment =
            |power| values.iter().map(|v| (v / DEVIATION).powi(power)).sum::<f64>() / 65536.0;
        assert!(moment(1).abs() < 1e-6, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.01, "{}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.1, "{}", moment(4));
        assert!(values.iter().all(|v| v.abs() < 3.6 * DEVIATION));
    }

    /// Stands in for attention: what comes out is what was asked. Notes the layers.
    #[derive(Default)]
    struct Itself {
        attended: Vec<usize>,
        kept: Vec<usize>,
    }

    impl Attention<Cpu> for Itself {
        fn keep(
            &mut self,
            layer: usize,
            _k: Part<'_, Aligned<f32>>,
            _v: Part<'_, Aligned<f32>>,
        ) -> Result<(), AttentionError> {
            self.kept.push(layer);
            Ok(())
        }

        fn attend(
            &mut self,
            layer: usize,
            q: Part<'_, Aligned<f32>>,
            out: PartMut<'_, Aligned<f32>>,
        ) -> Result<(), AttentionError> {
            self.attended.push(layer);
            let range = out.range();
            out.of[range].copy_from_slice(&q.of[q.range()]);
            Ok(())
        }
    }

    #[test]
    fn a_random_model_loads_and_its_logits_are_finite() {
        // Tied and untied, with and without biases; small but for the vocabulary.
        for tied in [false, true] {
            let family = if tied { Family::Qwen2 } else { Family::Llama };
            let shape = Shape { tied, family, ..shape("small", 2) };
            let files = random_model(&shape, 7).unwrap();
            let expected = shape.checkpoint_bytes().unwrap() as usize;
            let header = files.weights[0].1.len() - expected;
            assert!(header > 8 && header.is_multiple_of(8) && header < 10_000, "{header}");
            let checkpoint = Checkpoint::open(files.weights, None).unwrap();
            let cpu = Cpu::new(2, None).unwrap();
            let config = shape.config().unwrap();
            let precisions = Precisions { weights: Precision::Bf16, keys: KvPrecision::Bf16 };
            let decoder =
                Decoder::load(&cpu, config, &Arc::new(checkpoint), precisions, false, &|_, _| ())
                    .unwrap();
            let (mut work, cancel) =
                (decoder.workspace(&cpu, crate::tensor::Pass::Prefill), Cancel::new());
            let positions = [0, 1, 2, 3, 4];
            let tokens = [1, 2, 3, 4, 5];
            let mut attention = Itself::default();
            decoder.begin(&cpu, &tokens, &positions, 2, &mut work).unwrap();
            // A layer at a time, as when other work is done in between.
            assert!(!decoder.advance(&cpu, 1, &mut attention, &cancel, &mut work).unwrap());
            assert!(decoder.advance(&cpu, 9, &mut attention, &cancel, &mut work).unwrap());
            assert_eq!((attention.attended, attention.kept), (vec![0, 1], vec![0, 1]));
            let mut logits = vec![f32::NAN; shape.vocab];
            decoder.reserve_logits(&cpu, 1, &mut work).unwrap();
            decoder.head(&cpu, 1, &mut work).unwrap();
            decoder.logits(&cpu, &work, 0, &mut logits).unwrap();
            assert!(logits.iter().all(|logit| logit.is_finite()));
            assert!(logits.iter().any(|logit| *logit != logits[0]));
            // Tokens of a context leave the last layer behind once their keys are kept.
            let mut attention = Itself::default();
            decoder.begin(&cpu, &tokens, &positions, 1, &mut work).unwrap();
            assert!(decoder.advance(&cpu, 2, &mut attention, &cancel, &mut work).unwrap());
            assert_eq!((attention.attended, attention.kept), (vec![0], vec![0, 1]));
        }
    }

    #[test]
    fn a_written_model_reads_back_and_nothing_is_replaced() {
        let files = random_model(&shape("small", 1), 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        files.write(&path).unwrap();
        let read = ModelSource::Directory(path.clone()).resolve(&FetchOptions::default()).unwrap();
        assert_eq!(read.config, files.config);
        assert_eq!(read.tokenizer, files.tokenizer);
        assert!(read.weights[0].1[..] == files.weights[0].1[..]);
        let again = files.write(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
