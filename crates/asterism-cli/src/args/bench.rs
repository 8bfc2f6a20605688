//! The arguments of `asterism bench`.

use super::common::{ModelArgs, context_tokens};
use asterism::model::Shape;
use asterism::plan::words::{MethodWord, tokens};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Lengths of the contexts, in tokens.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = context_tokens,
          default_value = "4k,16k", env = "ASTERISM_BENCH_LENGTHS")]
    pub(crate) lengths: Vec<usize>,
    /// Methods: dense, ring, zigzag, or star with :block=N (or a share of the length, 1/4),
    /// :anchor=N|full|none (or a share of the block), :anchor-kv=shared|recompute|auto,
    /// :anchor-content=first|constant|random|shuffled|previous, :anchor-at=first|previous|random,
    /// :revisit=N|P%|auto, :revisit-by=question|random|first|late|largest|tokens|rounds|values,
    /// :sparse=PATTERN; or a pattern: streaming:sink=N:window=N, minference:vertical=N:slash=N,
    /// flexprefill:gamma=G:tau=T:min=N, xattention:stride=N:tau=T,
    /// blocks:block=N:anchor=N:previous=N.
    #[arg(long, value_name = "METHOD,…", value_delimiter = ',', value_parser = MethodWord::parse,
          default_value = "dense,star", env = "ASTERISM_BENCH_METHODS")]
    pub(crate) methods: Vec<MethodWord>,
    /// Numbers of hosts.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=1024), env = "ASTERISM_BENCH_HOSTS")]
    pub(crate) hosts: Vec<u16>,
    /// Timed runs of every case, after a warm-up.
    #[arg(long, value_name = "N", default_value_t = 3, env = "ASTERISM_BENCH_RUNS",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) runs: u16,
    /// Decoding steps timed behind every context; 0 to measure phase 1 alone.
    #[arg(long, value_name = "N", value_parser = tokens, default_value = "32",
          env = "ASTERISM_BENCH_DECODE_TOKENS")]
    pub(crate) decode_tokens: usize,
    /// Tokens of the question that decoding starts from, at least 1.
    #[arg(long, value_name = "N", value_parser = tokens, default_value = "1",
          env = "ASTERISM_BENCH_QUERY_TOKENS")]
    pub(crate) query_tokens: usize,
    /// Numbers of questions asked at once over one context, each of --query-tokens tokens of its
    /// own and decoding beside the others.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=32), env = "ASTERISM_BENCH_SEQUENCES")]
    pub(crate) sequences: Vec<u16>,
    /// Also show how much of the time linear layers, attention and the rest take.
    #[arg(long, env = "ASTERISM_BENCH_BREAKDOWN")]
    pub(crate) breakdown: bool,
    /// Instead, the time to the first token of a question of --query-tokens behind the shortest of
    /// --lengths: --runs times alone and while the longest of them is being encoded.
    #[arg(long, env = "ASTERISM_BENCH_LATENCY",
          conflicts_with_all = ["decode_tokens", "sequences", "breakdown", "plot"])]
    pub(crate) latency: bool,
    /// The same seed gives the same contexts and random weights.
    #[arg(long, value_name = "N", default_value_t = 0, env = "ASTERISM_SEED")]
    pub(crate) seed: u64,
    /// Write everything that was measured, every run included.
    #[arg(long, value_name = "FILE", env = "ASTERISM_BENCH_JSON")]
    pub(crate) json: Option<PathBuf>,
    /// Draw time and speed-up over length (.svg).
    #[arg(long, value_name = "FILE", env = "ASTERISM_BENCH_PLOT")]
    pub(crate) plot: Option<PathBuf>,
    /// Random weights of a known shape instead of a model: llama-8b, llama-1b, qwen-7b or small.
    #[arg(long, value_name = "NAME", conflicts_with = "model", env = "ASTERISM_BENCH_SHAPE")]
    pub(crate) shape: Option<Shape>,
    /// Give the shape another number of layers.
    #[arg(long, value_name = "N", requires = "shape", env = "ASTERISM_BENCH_LAYERS",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) layers: Option<u16>,
    /// Only write the random weights as a model folder, for measuring other programs.
    #[arg(long, value_name = "DIR", requires = "shape", env = "ASTERISM_BENCH_WRITE_MODEL",
          conflicts_with_all = ["lengths", "methods", "hosts", "runs", "decode_tokens", "query_tokens", "sequences", "breakdown", "latency", "json", "plot"])]
    pub(crate) write_model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}
