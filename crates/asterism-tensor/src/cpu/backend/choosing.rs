//! Tokens chosen for all rows at once, a row a thread.

use super::{Result, floats};
use crate::cpu::Cpu;
use crate::{Choice, Choosing, Sampling};

/// The token that `sampling` chooses; `None` if a logit is not finite.
fn choose(logits: &[f32], sampling: &Sampling, seen: Option<&[bool]>, uniform: u64) -> Option<u32> {
    if !sampling.is_largest() {
        let finite = logits.iter().all(|logit| logit.is_finite());
        return finite.then(|| sampling.choose(logits, seen, uniform));
    }
    let (mut best, mut finite) = (0, true);
    for (i, logit) in logits.iter().enumerate() {
        finite &= logit.is_finite();
        if *logit > logits[best] {
            best = i;
        }
    }
    finite.then_some(best as u32)
}

impl Choosing for Cpu {
    fn choose_all(&self, choices: &mut [Choice<'_, Self>]) -> Result<Vec<Option<u32>>> {
        let mut tokens = vec![None; choices.len()];
        self.fill_each(&mut tokens, |i| {
            let Choice { logits, sampling, seen, uniform } = &choices[i];
            let seen = seen.as_deref().map(Vec::as_slice);
            choose(floats(*logits), sampling, seen, *uniform)
        });
        for (Choice { seen, .. }, token) in choices.iter_mut().zip(&tokens) {
            if let (Some(seen), Some(token)) = (seen, token) {
                seen[*token as usize] = true;
            }
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Aligned, Buffers, Part};

    #[test]
    fn tokens_are_chosen_for_all_rows_at_once() {
        let cpu = Cpu::new(2, None).unwrap();
        let mut logits = Aligned::default();
        logits.at_least(15).copy_from_slice(&[
            1.0,
            3.0,
            2.0,
            3.0,
            -1.0, //
            0.0,
            0.0,
            5.0,
            f32::NAN,
            0.0, //
            4.0,
            3.0,
            2.0,
            1.0,
            0.0,
        ]);
        let row = |r: usize| Part::new(&logits, r * 5..(r + 1) * 5);
        let (largest, drawn) =
            (Sampling::default(), Sampling { temperature: 1.0, ..Sampling::default() });
        let penalized = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut seen = cpu.flags(&[true, false, false, false, false]).unwrap();
        let mut choices = [
            Choice { logits: row(0), sampling: &largest, seen: None, uniform: 0 },
            Choice { logits: row(1), sampling: &drawn, seen: None, uniform: 0 },
            Choice { logits: row(2), sampling: &penalized, seen: Some(&mut seen), uniform: 0 },
            Choice { logits: row(2), sampling: &drawn, seen: None, uniform: (1 << 53) - 1 },
        ];
        let tokens = cpu.choose_all(&mut choices).unwrap();
        assert_eq!(tokens, [Some(1), None, Some(1), Some(4)]);
        assert_eq!(seen, [true, true, false, false, false]);
        assert_eq!(cpu.largest(row(0)).unwrap(), Some(1));
        assert!(cpu.choose_all(&mut []).unwrap().is_empty());
    }
}
