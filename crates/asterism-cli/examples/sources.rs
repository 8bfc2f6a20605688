//! How often the block with the answer is the first of an answer's sources: RULER's single and
//! multi-key needles, each sample asked once, by star.
//!
//! ```sh
//! cargo run --release -p asterism-cli --example sources -- --length 65536 --device cuda:0
//! ```

use anyhow::{Context as _, Result};
use asterism::cancel::Cancel;
use asterism::engine::{
    Context, DeviceChoice, Engine, EngineOptions, Generation, Room, Source, TextOptions,
};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::{Revisit, Span, Star};
use asterism::text::Special;
use asterism_eval::ruler::{Ruler, Settings, Variant};
use asterism_eval::{ChatFrame, Sample};
use clap::Parser;
use std::ops::ControlFlow;
use std::sync::Arc;

const TASKS: [&str; 6] = [
    "niah_single_1",
    "niah_single_2",
    "niah_single_3",
    "niah_multikey_1",
    "niah_multikey_2",
    "niah_multikey_3",
];

#[derive(Parser)]
struct Args {
    /// nano, a folder in Hugging Face layout, or org/name of the Hub.
    #[arg(long, default_value = "nano")]
    model: ModelSource,
    /// What computes: auto, cpu, or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Tokens of a sample.
    #[arg(long, default_value_t = 16384)]
    length: usize,
    /// Samples of each task.
    #[arg(long, default_value_t = 10)]
    samples: usize,
    /// Tokens of a block; 2,048 up to samples of 16,384 tokens, 4,096 of longer ones, if not given.
    #[arg(long)]
    block: Option<usize>,
    /// Tokens of the anchor; a quarter of the block if not given. As many as the block are counted
    /// as sources, fewer are not.
    #[arg(long)]
    anchor: Option<usize>,
    /// Tokens of the context that are computed anew for every question.
    #[arg(long, default_value_t = 0)]
    revisit: usize,
    /// Hosts that share the work.
    #[arg(long, default_value_t = 1)]
    hosts: usize,
}

/// What became of the samples of a task.
#[derive(Default)]
struct Counts {
    samples: usize,
    /// The answer stands in an anchor that no source counts; the other counts are without.
    in_anchor: usize,
    /// The answer was right.
    right: usize,
    /// The block with the answer came first, and among the first three.
    first: usize,
    third: usize,
    /// The answer stands in the best 64 tokens of the first block.
    best: usize,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.in_anchor += other.in_anchor;
        self.right += other.right;
        self.first += other.first;
        self.third += other.third;
        self.best += other.best;
    }

    fn row(&self, task: &str) -> String {
        let Self { samples, in_anchor, right, first, third, best } = self;
        format!(
            "{task:<16} {samples:>7} {in_anchor:>9} {right:>6} {first:>6} {third:>12} {best:>8}"
        )
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let files = args.model.resolve(&FetchOptions::default())?;
    let options = EngineOptions { device: args.device, ..EngineOptions::default() };
    let engine = Arc::new(Engine::load(files, &options)?);
    let frame = engine.frame(None)?;
    let frame = ChatFrame::new("auto", frame.head(), frame.tail(), &[]);
    let ruler = Ruler::new(Settings { variant: Variant::Clean, frame, ..Settings::default() })?;
    let block = args.block.unwrap_or(if args.length <= 16384 { 2048 } else { 4096 });
    let anchor = args.anchor.unwrap_or(block / 4);
    let star = Star::new(block).anchor(anchor).revisit(Revisit::Tokens(args.revisit));

    println!("{} on {}", engine.name, engine.hardware());
    println!(
        "{} tokens in blocks of {block}, anchor {}, {} revisited",
        args.length, star.anchor, args.revisit
    );
    println!("task             samples in-anchor  right  first  first-three  best-64");
    let mut all = Counts::default();
    for task in TASKS {
        let mut counts = Counts::default();
        for sample in ruler.generate(task, args.length, args.samples, engine.tokenizer())?.samples {
            counts.add(&ask(&engine, &sample, star, args.hosts)?);
        }
        println!("{}", counts.row(task));
        all.add(&counts);
    }
    println!("{}", all.row("all"));
    Ok(())
}

/// Asks one sample.
fn ask(engine: &Arc<Engine>, sample: &Sample, star: Star, hosts: usize) -> Result<Counts> {
    let (tokenizer, cancel) = (engine.tokenizer(), Cancel::new());
    let encode = |text: &str| tokenizer.encode(text, Special::Parse);
    let (text, value) = (&sample.input_context, &sample.outputs[0]);
    let at = text.find(value).context("the answer is not in the context")?;
    // To within a token: what stands before the answer is read by itself here.
    let end = encode(&text[..at + value.len()])?.len();
    let answer = Span::new(encode(&text[..at])?.len()..end);
    let (context, query) = (encode(text)?, encode(&sample.input_query)?);

    let room = Room { question: query.len(), answer: 48 };
    let spec = star.hosts(hosts);
    let context = Context::encode(Arc::clone(engine), context, spec, room, &|_| (), &cancel)?;
    let context = context.within(engine.frame(None)?);
    let settings = Generation { max_tokens: 48, sources: true, ..Generation::default() };
    let mut go_on = |_: &str| ControlFlow::Continue(());
    let answered =
        context.answer(&query, &settings, &TextOptions::default(), &mut go_on, &cancel)?;
    if star.anchor < star.block && answer.start < star.anchor {
        return Ok(Counts { samples: 1, in_anchor: 1, ..Counts::default() });
    }
    let sources = answered.sources();
    let holds = |source: &Source| overlap(source.span, answer);
    Ok(Counts {
        samples: 1,
        in_anchor: 0,
        right: answered.text.contains(value.as_str()).into(),
        first: sources.first().is_some_and(holds).into(),
        third: sources.iter().take(3).any(holds).into(),
        best: sources.first().is_some_and(|source| overlap(source.best, answer)).into(),
    })
}

fn overlap(a: Span, b: Span) -> bool {
    a.start < b.end() && b.start < a.end()
}
