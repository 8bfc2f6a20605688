//! How a token is chosen by its logit. Without a temperature: the largest, the lower token on a
//! tie. Otherwise filters apply in the order Transformers applies them: repetition penalty,
//! temperature, top-k, top-p, min-p; then one of the tokens left is drawn.

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the largest logit; above, logits are divided by it.
    pub temperature: f32,
    /// Only the `top_k` largest logits; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the likeliest; 0 for all.
    pub min_p: f32,
    /// Logits of tokens seen before are divided (if positive) or multiplied (if negative) by this;
    /// 1 for none (arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// The same seed and settings give the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} is {value}: it must be {range}")]
pub struct SamplingError {
    /// Which setting.
    pub name: &'static str,
    /// What it was.
    pub value: f32,
    /// What it may be.
    pub range: &'static str,
}

impl Sampling {
    /// Whether tokens seen before count.
    #[must_use]
    pub fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// Whether the token with the largest logit is always taken, whatever the logits of others.
    #[must_use]
    pub fn is_largest(&self) -> bool {
        self.temperature == 0.0 && !self.penalizes()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is outside its range.
    pub fn check(&self) -> Result<(), SamplingError> {
        let rules = [
            ("temperature", self.temperature, self.temperature >= 0.0, "0 or more"),
            ("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1"),
            (
                "repetition-penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0,
                "above 0",
            ),
        ];
        for (name, value, holds, range) in rules {
            if !(holds && value.is_finite()) {
                return Err(SamplingError { name, value, range });
            }
        }
        Ok(())
    }

    /// The token chosen by `logits [vocab]` and by `uniform`, a random number below 2^53. Logits of
    /// minus infinity are never chosen; at least one is finite, and none is anything else. `seen
    /// [vocab]` says of each token whether it was seen before; it may be left out if nothing is
    /// [penalized](Self::penalizes).
    #[must_use]
    pub fn choose(&self, logits: &[f32], seen: Option<&[bool]>, uniform: u64) -> u32 {
        let penalty = self.repetition_penalty;
        let penalized = |(token, logit): (usize, &f32)| match seen {
            Some(seen) if seen[token] && *logit > 0.0 => logit / penalty,
            Some(seen) if seen[token] => logit * penalty,
            _ => *logit,
        };
        let logits: Vec<f32> = logits.iter().enumerate().map(penalized).collect();
        let candidates = self.candidates(&logits);
        let total: f64 = candidates.iter().map(|(_, p)| p).sum();
        let mut left = uniform as f64 / (1u64 << 53) as f64 * total;
        for (token, p) in &candidates {
            left -= p;
            if left < 0.0 {
                return *token;
            }
        }
        candidates.last().map_or(0, |(token, _)| *token)
    }

    /// The tokens that pass the filters with their weights, likeliest first.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let first =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if self.temperature == 0.0 {
            return order.into_iter().min_by(first).map(|token| (token, 1.0)).into_iter().collect();
        }
        order.sort_by(first);
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let top = logits[order[0] as usize];
        let weight = |t: &u32| f64::from((logits[*t as usize] - top) / self.temperature).exp();
        let mut kept: Vec<(u32, f64)> = order.iter().map(|t| (*t, weight(t))).collect();
        if self.top_p < 1.0 {
            let target = kept.iter().map(|(_, p)| p).sum::<f64>() * f64::from(self.top_p);
            let mut sum = 0.0;
            // A token stays if what is likelier than it does not reach the target yet.
            kept.retain(|(_, p)| {
                let stays = sum < target;
                sum += p;
                stays
            });
        }
        // Weights are relative to the likeliest token, whose weight is 1.
        kept.retain(|(_, p)| *p > 0.0 && *p >= f64::from(self.min_p));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn tokens(settings: &Sampling) -> Vec<u32> {
        let mut kept: Vec<u32> = settings.candidates(&LOGITS).iter().map(|c| c.0).collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn filters_keep_the_likeliest() {
        let base = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(tokens(&base), [0, 1, 2, 3, 4]);
        assert_eq!(tokens(&Sampling { top_k: 3, ..base.clone() }), [1, 2, 3]);
        // The two likeliest have 0.40 each, the third 0.15.
        assert_eq!(tokens(&Sampling { top_p: 0.7, ..base.clone() }), [1, 3]);
        assert_eq!(tokens(&Sampling { top_p: 0.81, ..base.clone() }), [1, 2, 3]);
        assert_eq!(tokens(&Sampling { min_p: 0.2, ..base.clone() }), [1, 2, 3]);
        // A high temperature flattens: more tokens pass the same threshold.
        assert_eq!(tokens(&Sampling { min_p: 0.2, temperature: 3.0, ..base }), [0, 1, 2, 3, 4]);
        assert_eq!(tokens(&Sampling::default()), [1]);
    }

    #[test]
    fn the_penalty_makes_seen_tokens_less_likely() {
        let settings = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let choose = |seen| settings.choose(&LOGITS, Some(seen), 0);
        assert_eq!(choose(&[false; 5]), 1);
        assert_eq!(choose(&[false, true, false, false, false]), 3);
        assert_eq!(choose(&[false, true, false, true, false]), 2);
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let error = Sampling { top_p: 1.5, ..Sampling::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "top-p is 1.5: it must be above 0 and at most 1");
        assert!(Sampling { temperature: f32::NAN, ..Sampling::default() }.check().is_err());
        assert!(Sampling::default().check().is_ok());
    }
}
