//! From logits to the tokens of one answer.

use crate::tensor::{Backend, Choice, Part, Sampling, TensorError};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The random numbers of one answer.
pub struct Draws {
    settings: Sampling,
    random: Xoshiro256PlusPlus,
}

impl Draws {
    /// Numbers from the seed of `settings` on.
    #[must_use]
    pub fn new(settings: Sampling) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        Self { settings, random }
    }

    /// How tokens are chosen.
    #[must_use]
    pub fn settings(&self) -> &Sampling {
        &self.settings
    }

    /// The number below 2^53 that the next choice takes. Every choice but that of the largest logit
    /// takes one, so it is to be asked for once for each.
    pub fn uniform(&mut self) -> u64 {
        match self.settings.is_largest() {
            true => 0,
            // 53 random bits make a uniform number in [0, 1).
            false => self.random.next_u64() >> 11,
        }
    }
}

/// Chooses tokens for one answer.
pub struct Sampler<B: Backend> {
    draws: Draws,
    /// Tokens of prompt and answer so far; `Some` only with a repetition penalty.
    seen: Option<B::Flags>,
}

impl<B: Backend> Sampler<B> {
    /// A sampler for an answer to `prompt`, with a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// If the backend has no memory for the tokens seen.
    pub fn new(
        backend: &B,
        settings: Sampling,
        vocab: usize,
        prompt: impl Iterator<Item = u32>,
    ) -> Result<Self, TensorError> {
        let seen = settings.penalizes().then(|| {
            let mut seen = vec![false; vocab];
            for token in prompt {
                if let Some(seen) = seen.get_mut(token as usize) {
                    *seen = true;
                }
            }
            backend.flags(&seen)
        });
        Ok(Self { draws: Draws::new(settings), seen: seen.transpose()? })
    }

    /// The choice of the next token by its logit among `logits`, to be made, once.
    pub fn choice<'a>(&'a mut self, logits: Part<'a, B::Sums>) -> Choice<'a, B> {
        let uniform = self.draws.uniform();
        Choice { logits, sampling: &self.draws.settings, seen: self.seen.as_mut(), uniform }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Aligned, Choosing, Cpu};

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn draw(settings: &Sampling, prompt: &[u32], count: usize) -> Vec<u32> {
        let cpu = Cpu::new(1, None).unwrap();
        let mut logits = Aligned::default();
        logits.at_least(5).copy_from_slice(&LOGITS);
        let prompt = prompt.iter().copied();
        let mut sampler = Sampler::new(&cpu, settings.clone(), 5, prompt).unwrap();
        let mut next = || {
            let choice = sampler.choice(Part::new(&logits, 0..5));
            cpu.choose_all(&mut [choice]).unwrap()[0].unwrap()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn greedy_takes_the_lower_token_of_a_tie() {
        assert_eq!(draw(&Sampling::default(), &[], 2), [1, 1]);
    }

    #[test]
    fn tokens_of_prompt_and_answer_are_penalized() {
        let settings = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(draw(&settings, &[1, 77], 2), [3, 2]);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_with_the_right_frequencies() {
        let settings = Sampling { temperature: 1.0, seed: 5, ..Sampling::default() };
        let drawn = draw(&settings, &[], 4000);
        assert_eq!(drawn, draw(&settings, &[], 4000));
        let share = drawn.iter().filter(|t| **t == 1).count() as f64 / 4000.0;
        let expected = 3f64.exp() / LOGITS.iter().map(|l| f64::from(*l).exp()).sum::<f64>();
        assert!((share - expected).abs() < 0.03, "{share} instead of {expected}");
    }
}
