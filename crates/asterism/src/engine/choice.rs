//! How the next token of an answer is chosen: where its logits are, or, if their values are wanted
//! or rules apply to them, here.

use super::EngineError;
use super::constraint::Follower;
use super::generate::{Generation, Logprobs};
use crate::model::{Draws, Sampler};
use crate::tensor::{Backend, TensorError};

/// Chooses the tokens of one answer.
pub(super) enum Chooser<B: Backend> {
    /// On the processor that computes the logits.
    There(Sampler<B>),
    /// From logits that are read.
    Here(Box<Reader>),
}

/// A token, and how likely it was, if that was asked for.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) token: u32,
    pub(super) logprobs: Option<Logprobs>,
}

impl<B: Backend> Chooser<B> {
    /// What chooses as `settings` say for an answer to `prompt`, with `vocab` logits for each
    /// token.
    pub(super) fn new(
        backend: &B,
        settings: &Generation,
        vocab: usize,
        prompt: impl Iterator<Item = u32>,
    ) -> Result<Self, TensorError> {
        let sampling = settings.sampling.clone();
        if settings.logprobs.is_none() && settings.constraint.is_none() {
            return Ok(Self::There(Sampler::new(backend, sampling, vocab, prompt)?));
        }
        let seen = sampling.penalizes().then(|| {
            let mut seen = vec![false; vocab];
            for token in prompt {
                if let Some(seen) = seen.get_mut(token as usize) {
                    *seen = true;
                }
            }
            seen
        });
        Ok(Self::Here(Box::new(Reader {
            draws: Draws::new(sampling),
            seen,
            logprobs: settings.logprobs,
            follower: settings.constraint.as_ref().map(|constraint| constraint.begin()),
        })))
    }
}

/// Chooses tokens from logits that it is given.
pub(super) struct Reader {
    draws: Draws,
    /// `[vocab]`: tokens of prompt and answer so far; only with a repetition penalty.
    seen: Option<Vec<bool>>,
    /// How many of the likeliest tokens are wanted beside the chosen one.
    logprobs: Option<usize>,
    follower: Option<Box<dyn Follower>>,
}

impl Reader {
    /// The next token by its logit among `logits [choices]`; `None` if one of them is not finite.
    pub(super) fn choose(&mut self, logits: &mut [f32]) -> Result<Option<Chosen>, EngineError> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Ok(None);
        }
        // Of the model's own distribution, before rules and temperature.
        let likely = self.logprobs.map(|count| Likely::of(logits, count));
        let broken = |reason| EngineError::Constraint { reason };
        if let Some(follower) = &mut self.follower {
            follower.forbid(logits).map_err(broken)?;
            if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
                return Err(broken("no token may come next".to_owned()));
            }
        }
        let chosen_from = likely.map(|likely| (likely, logits.to_vec()));
        let uniform = self.draws.uniform();
        let token = self.draws.settings().choose(logits, self.seen.as_deref(), uniform);
        if let Some(seen) = &mut self.seen {
            seen[token as usize] = true;
        }
        if let Some(follower) = &mut self.follower {
            follower.take(token).map_err(broken)?;
        }
        // A chosen token is never one that was forbidden: its logit is still the model's own.
        let logprobs = chosen_from.map(|(likely, logits)| likely.logprobs(logits[token as usize]));
        Ok(Some(Chosen { token, logprobs }))
    }
}

/// The likeliest tokens, and what their logits are to be compared with.
struct Likely {
    /// Logarithm of the sum of the exponentials of all logits.
    log_sum: f64,
    /// Likeliest first, lower token first on a tie.
    top: Vec<(u32, f32)>,
}

impl Likely {
    fn of(logits: &[f32], count: usize) -> Self {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
        Self { log_sum: f64::from(most) + sum.ln(), top: largest(logits, count) }
    }

    fn logprob(&self, logit: f32) -> f32 {
        (f64::from(logit) - self.log_sum) as f32
    }

    fn logprobs(&self, chosen: f32) -> Logprobs {
        let top = self.top.iter().map(|(token, logit)| (*token, self.logprob(*logit))).collect();
        Logprobs { chosen: self.logprob(chosen), top }
    }
}

/// The `count` largest logits with their tokens, largest first, lower token first on a tie.
pub(super) fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count > 0 && count < all.len() {
        all.select_nth_unstable_by(count - 1, order);
    }
    all.truncate(count);
    all.sort_unstable_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::constraint::Constraint;
    use crate::tensor::Sampling;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Allows even tokens, and each only once.
    #[derive(Debug)]
    struct Even;

    struct EvenOnce(Vec<u32>);

    impl Constraint for Even {
        fn begin(&self) -> Box<dyn Follower> {
            Box::new(EvenOnce(Vec::new()))
        }
    }

    impl Follower for EvenOnce {
        fn forbid(&mut self, logits: &mut [f32]) -> Result<(), String> {
            for (token, logit) in (0..).zip(logits) {
                if token % 2 == 1 || self.0.contains(&token) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            Ok(())
        }

        fn take(&mut self, token: u32) -> Result<(), String> {
            self.0.push(token);
            Ok(())
        }
    }

    fn reader(sampling: Sampling, logprobs: Option<usize>, constrained: bool) -> Reader {
        let constraint: Option<Arc<dyn Constraint>> = constrained.then(|| Arc::new(Even) as _);
        Reader {
            draws: Draws::new(sampling),
            seen: None,
            logprobs,
            follower: constraint.map(|constraint| constraint.begin()),
        }
    }

    #[test]
    fn log_probabilities_are_of_the_models_own_distribution() {
        let logits = [0.0, 1.0, 2.0, 1.0];
        let mut reader = reader(Sampling::default(), Some(3), true);
        let sum: f64 = logits.iter().map(|logit: &f32| f64::from(*logit).exp()).sum();
        let logprob = |logit: f64| (logit - sum.ln()) as f32;
        let first = reader.choose(&mut logits.clone()).unwrap().unwrap();
        let top = vec![(2, logprob(2.0)), (1, logprob(1.0)), (3, logprob(1.0))];
        assert_eq!(
            (first.token, first.logprobs.unwrap()),
            (2, Logprobs { chosen: logprob(2.0), top })
        );
        let second = reader.choose(&mut logits.clone()).unwrap().unwrap();
        assert_eq!((second.token, second.logprobs.unwrap().chosen), (0, logprob(0.0)));
        let error = reader.choose(&mut logits.clone()).unwrap_err();
        assert_eq!(error.code(), "constraint_failed");
    }

    #[test]
    fn logits_that_are_not_finite_choose_nothing() {
        let mut reader = reader(Sampling::default(), None, true);
        assert!(reader.choose(&mut [0.0, f32::NAN]).unwrap().is_none());
        assert!(reader.choose(&mut [f32::INFINITY, 0.0]).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn what_is_forbidden_is_never_drawn(
            mut logits in prop::collection::vec(-30f32..30.0, 3..40),
            temperature in prop::sample::select(vec![0.0f32, 0.3, 1.0, 50.0]),
            seed in any::<u64>(),
        ) {
            let sampling = Sampling { temperature, seed, ..Sampling::default() };
            let mut reader = reader(sampling, None, true);
            let token = reader.choose(&mut logits).unwrap().unwrap().token;
            prop_assert_eq!(token % 2, 0);
        }

        #[test]
        fn the_largest_are_those_of_a_full_sort(
            logits in prop::collection::vec((-4i8..4).prop_map(f32::from), 0..40),
            count in 0usize..45,
        ) {
            let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all.truncate(count);
            prop_assert_eq!(largest(&logits, count), all);
        }
    }
}
