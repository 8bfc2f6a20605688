//! Questions asked at once over one context, whose answers decode beside each other.

use super::outcome::Answers;
use super::room::answer_tokens;
use crate::error::CliError;
use anyhow::anyhow;
use asterism::cancel::Cancel;
use asterism::engine::{Context, EngineError, Generated, Generation};
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Questions to be asked at once.
pub(super) struct Together<'a> {
    pub(super) context: &'a Context,
    pub(super) questions: Vec<&'a [u32]>,
    /// Decoding steps of every answer beside all the others.
    pub(super) steps: usize,
    /// Layers of the model.
    pub(super) layers: usize,
    pub(super) cancel: &'a Cancel,
}

impl Together<'_> {
    /// Asks every question on a thread of its own.
    ///
    /// # Errors
    /// Those of the answers; if one of them ended before the last had begun.
    pub(super) fn ask(&self) -> Result<Answers, CliError> {
        let (start, begun) = (Barrier::new(self.questions.len()), AtomicUsize::new(0));
        let results: Vec<Result<_, EngineError>> = thread::scope(|scope| {
            let ask = |question| {
                let context = self.context.clone();
                let (start, begun) = (&start, &begun);
                scope.spawn(move || {
                    start.wait();
                    self.answer(&context, question, begun)
                })
            };
            let threads: Vec<_> = self.questions.iter().copied().map(ask).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        let answers = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        let question = answers.iter().map(|(answer, _)| answer.query_time).max();
        let times: Vec<Vec<Instant>> = answers.into_iter().map(|(_, times)| times).collect();
        let (tokens, time) = beside_all(&times)
            .ok_or_else(|| anyhow!("an answer ended before the last had begun: run it again"))?;
        // What all steps take at the rate measured.
        let wanted = (self.steps * self.questions.len()) as f64;
        let decode = time.mul_f64(wanted / tokens as f64);
        Ok(Answers { question: question.unwrap_or_default(), decode })
    }

    /// Answers `question` until it has run all steps since the last of the answers began, and
    /// returns when each token came. `begun` counts answers.
    fn answer(
        &self,
        context: &Context,
        question: &[u32],
        begun: &AtomicUsize,
    ) -> Result<(Generated, Vec<Instant>), EngineError> {
        let sequences = self.questions.len();
        let max_tokens = answer_tokens(sequences, question.len(), self.steps, self.layers);
        let settings = Generation { max_tokens, ignore_eos: true, ..Generation::default() };
        let mut times = Vec::with_capacity(max_tokens);
        let mut steps = 0;
        let mut on_token = |_| {
            let all = begun.load(Ordering::Acquire) == sequences;
            if times.is_empty() {
                begun.fetch_add(1, Ordering::AcqRel);
            } else if all {
                steps += 1;
            }
            times.push(Instant::now());
            match steps == self.steps {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let answer = context.generate(question, &settings, &mut on_token, self.cancel)?;
        Ok((answer, times))
    }
}

/// The tokens that came while all answers decoded, and how long that was: from the first token of
/// the last that began, which is not counted, to the last token of the first that ended. `times`
/// are those of the tokens of each answer, in order. `None` if there was no such time.
fn beside_all(times: &[Vec<Instant>]) -> Option<(usize, Duration)> {
    let begin = times.iter().filter_map(|times| times.first()).max()?;
    let end = times.iter().filter_map(|times| times.last()).min()?;
    let time = end.checked_duration_since(*begin).filter(|time| !time.is_zero())?;
    let tokens = times.iter().flatten().filter(|at| *at > begin && *at <= end).count();
    (tokens > 0).then_some((tokens, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_count_while_all_answers_decode() {
        let start = Instant::now();
        let at = |millis: &[u64]| -> Vec<Instant> {
            millis.iter().map(|ms| start + Duration::from_millis(*ms)).collect()
        };
        let (early, late) = (at(&[0, 10, 20, 30, 40]), at(&[20, 32, 42, 50]));
        // One answer: every token but the first.
        assert_eq!(beside_all(std::slice::from_ref(&early)), Some((4, Duration::from_millis(40))));
        // From 20 to 40: two tokens of the one that began before, one of the other.
        let both = [early.clone(), late];
        assert_eq!(beside_all(&both), Some((3, Duration::from_millis(20))));
        assert_eq!(beside_all(&[early, at(&[41, 50])]), None);
        assert_eq!(beside_all(&[]), None);
    }
}
