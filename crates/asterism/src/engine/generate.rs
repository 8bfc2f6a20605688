//! Phase 2: the question is encoded and the answer generated, token by token, over the keys of all
//! hosts.

use super::compute::Loaded;
use super::lead::Lead;
use super::{EngineError, hosts};
use crate::attention::{announce_end, serve};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::model::ModelConfig;
use crate::plan::Span;
use crate::tensor::{Backend, Sampling};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How an answer is generated.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Tokens the answer has at most.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Go on after an end-of-sequence token, to exactly `max_tokens`.
    pub ignore_eos: bool,
    /// Report this many of the largest logits of the answer's first position.
    pub top_logits: usize,
}

impl Default for Generation {
    fn default() -> Self {
        Self { max_tokens: 128, sampling: Sampling::default(), ignore_eos: false, top_logits: 0 }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Eos,
    /// A stop string appeared.
    Stop,
    /// It reached the most tokens allowed.
    Length,
}

impl Finish {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// An answer, as tokens.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The tokens, the end-of-sequence token included if there was one.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the question.
    pub query_tokens: usize,
    /// Time to encode the question and choose the first token.
    pub query_time: Duration,
    /// Time of all further tokens.
    pub decode_time: Duration,
    /// Bytes that the hosts sent each other.
    pub bytes_sent: u64,
    /// The largest logits of the first position with their tokens, largest first.
    pub top_logits: Vec<(u32, f32)>,
}

impl Generated {
    /// Tokens per second after the first; zero if there was only one.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        let seconds = self.decode_time.as_secs_f64();
        if seconds > 0.0 { (self.tokens.len().saturating_sub(1)) as f64 / seconds } else { 0.0 }
    }
}

/// What is asked, of which context.
pub(super) struct Question<'a> {
    /// The tokens that the keys were computed from.
    pub(super) context: &'a [u32],
    pub(super) query: &'a [u32],
    pub(super) settings: &'a Generation,
    /// Tokens of the vocabulary that spell something: those that only fill it up to a round size do
    /// not.
    pub(super) spelled: usize,
}

/// Answers a question from the keys in `stores`, one per host.
pub(super) fn generate<B: Backend>(
    loaded: &Loaded<B>,
    stores: &mut [KvStore<B>],
    question: &Question<'_>,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    cancel: &Cancel,
) -> Result<Generated, EngineError> {
    question.settings.sampling.check()?;
    let Loaded { backend, decoder } = loaded;
    let (layers, shape) = (decoder.config().layers, decoder.shape());
    let (mut generated, bytes_sent) = hosts::run(
        stores,
        |comm, store| {
            let mut lead = Lead::new(loaded, comm, store, cancel);
            let (config, chunk_tokens) = (decoder.config(), backend.chunk_tokens());
            let generated = answer(&mut lead, config, chunk_tokens, question, on_token)?;
            announce_end(comm)?;
            Ok(generated)
        },
        |comm, store| Ok(serve(backend, comm, layers, shape, store)?),
    )?;
    generated.bytes_sent = bytes_sent;
    Ok(generated)
}

/// The answer, token by token, on the query host.
fn answer<B: Backend>(
    lead: &mut Lead<'_, B>,
    config: &ModelConfig,
    chunk_tokens: usize,
    question: &Question<'_>,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Generated, EngineError> {
    let start = Instant::now();
    let Question { context, query, settings, spelled } = *question;
    for chunk in (Span { start: context.len(), len: query.len() }).chunks(chunk_tokens) {
        let offset = chunk.start - context.len();
        lead.encode(&query[offset..offset + chunk.len], chunk)?;
    }
    let mut top_logits = Vec::new();
    if settings.top_logits > 0 {
        // [vocab]
        let mut logits = vec![0.0; config.vocab];
        lead.logits(&mut logits)?;
        top_logits = largest(&logits, settings.top_logits);
    }
    let prompt = context.iter().chain(query).copied();
    let mut sampler = lead.sampler(&settings.sampling, prompt)?;
    let mut tokens = Vec::new();
    let mut query_time = start.elapsed();
    let finish = loop {
        if tokens.len() == settings.max_tokens {
            break Finish::Length;
        }
        let token = lead.next_token(spelled, &mut sampler)?;
        if tokens.is_empty() {
            query_time = start.elapsed();
        }
        tokens.push(token);
        if config.eos.contains(&token) && !settings.ignore_eos {
            break Finish::Eos;
        }
        if on_token(token).is_break() {
            break Finish::Stop;
        }
        if tokens.len() < settings.max_tokens {
            lead.decode(token)?;
        }
    };
    Ok(Generated {
        tokens,
        finish,
        query_tokens: query.len(),
        query_time,
        decode_time: start.elapsed().saturating_sub(query_time),
        bytes_sent: 0,
        top_logits,
    })
}

/// The `count` largest logits with their tokens, largest first, lower token first on a tie.
fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(count);
    all
}
