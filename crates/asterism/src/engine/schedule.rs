//! What a group of hosts does next: a pure function of what is waiting, so that fairness can be
//! tested without a model.
//!
//! Work comes in slices: a decode step (one token of every sequence that decodes), one layer of a
//! pass over a context, or as many layers of a pass over a question as are no more work than that.
//!
//! - After every slice of a question or a context comes a decode step: it never waits for more than
//!   one slice.
//! - Questions are answered in the order they came. A pass over one runs through all its layers
//!   before the next slice of a context, and between two passes over questions comes a slice of a
//!   context.
//! - Of the contexts the one with the least left comes first, but every [`AGEING`]th slice goes to
//!   the oldest: a short one need not wait for a long one, and the long one gets there all the
//!   same.

/// The number of slices of contexts after which the oldest context has its turn.
const AGEING: usize = 4;

/// What is waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting<'a> {
    /// Sequences that decode.
    pub(super) decoding: usize,
    /// Whether there is a question, and whether a pass over it is under way.
    pub(super) question: Option<UnderWay>,
    /// Of every context that is being encoded, oldest first, how much is left: tokens times layers.
    pub(super) contexts: &'a [u64],
}

/// Whether a pass over a question has begun and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnderWay(pub(super) bool);

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slice {
    /// A decode step.
    Decode,
    /// Layers of the first question's pass.
    Question,
    /// One layer of a context's pass, by its index.
    Context(usize),
}

/// What came last.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// The last slice was no decode step.
    decode_is_due: bool,
    /// A pass over a question ended after the last slice of a context.
    context_is_due: bool,
    /// Slices of contexts so far.
    context_slices: usize,
}

impl Schedule {
    /// The next slice; `None` if nothing is waiting.
    pub(super) fn next(&mut self, waiting: &Waiting<'_>) -> Option<Slice> {
        let Waiting { decoding, question, contexts } = *waiting;
        let others = question.is_some() || !contexts.is_empty();
        if decoding > 0 && (self.decode_is_due || !others) {
            self.decode_is_due = false;
            return Some(Slice::Decode);
        }
        self.decode_is_due = true;
        match question {
            Some(UnderWay(true)) => Some(Slice::Question),
            Some(UnderWay(false)) if contexts.is_empty() || !self.context_is_due => {
                // Once this pass is through, a context is next.
                self.context_is_due = true;
                Some(Slice::Question)
            }
            _ => {
                self.context_is_due = false;
                self.context(contexts).map(Slice::Context)
            }
        }
    }

    /// The context whose turn it is.
    fn context(&mut self, left: &[u64]) -> Option<usize> {
        self.context_slices += 1;
        if self.context_slices.is_multiple_of(AGEING) && !left.is_empty() {
            return Some(0);
        }
        (0..left.len()).min_by_key(|index| left[*index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a schedule over made-up work until nothing is left, or too much was done.
    #[derive(Debug)]
    struct Simulation {
        decoding: usize,
        /// Layers left of each question's passes.
        questions: Vec<Vec<u64>>,
        under_way: bool,
        contexts: Vec<u64>,
    }

    impl Simulation {
        fn step(&mut self, schedule: &mut Schedule) -> Option<Slice> {
            let question = (!self.questions.is_empty()).then_some(UnderWay(self.under_way));
            let contexts = &self.contexts;
            let slice = schedule.next(&Waiting { decoding: self.decoding, question, contexts })?;
            match slice {
                Slice::Decode => assert!(self.decoding > 0),
                Slice::Question => {
                    let passes = &mut self.questions[0];
                    passes[0] -= 1;
                    self.under_way = passes[0] > 0;
                    if !self.under_way {
                        passes.remove(0);
                    }
                    if passes.is_empty() {
                        self.questions.remove(0);
                    }
                }
                Slice::Context(index) => {
                    self.contexts[index] -= 1;
                    self.contexts.retain(|left| *left > 0);
                }
            }
            Some(slice)
        }
    }

    fn simulation() -> impl Strategy<Value = Simulation> {
        let passes = prop::collection::vec(1u64..5, 1..4);
        let parts =
            (0usize..3, prop::collection::vec(passes, 0..5), prop::collection::vec(1u64..40, 0..5));
        parts.prop_map(|(decoding, questions, contexts)| Simulation {
            decoding,
            questions,
            under_way: false,
            contexts,
        })
    }

    proptest! {
        #[test]
        fn all_work_is_done_and_a_decode_step_waits_for_one_slice(mut work in simulation()) {
            let mut schedule = Schedule::default();
            let mut waited = 0;
            let slices: u64 = work.questions.iter().flatten().chain(&work.contexts).sum();
            for _ in 0..2 * slices + 1 {
                match work.step(&mut schedule) {
                    Some(Slice::Decode) => waited = 0,
                    Some(_) => waited += 1,
                    None => break,
                }
                prop_assert!(work.decoding == 0 || waited <= 1);
            }
            prop_assert!(work.questions.is_empty() && work.contexts.is_empty());
        }

        #[test]
        fn the_first_question_waits_for_one_slice_of_a_context_per_pass(mut work in simulation()) {
            let mut schedule = Schedule::default();
            let mut since = 0; // slices of contexts since the last pass over a question
            while !work.questions.is_empty() {
                match work.step(&mut schedule) {
                    Some(Slice::Context(_)) => since += 1,
                    Some(Slice::Question) => since = 0,
                    _ => {}
                }
                prop_assert!(since <= 1);
            }
        }

        #[test]
        fn the_oldest_context_has_every_fourth_slice(
            left in prop::collection::vec(100u64..1000, 1..6),
        ) {
            let mut schedule = Schedule::default();
            let waiting = Waiting { decoding: 0, question: None, contexts: &left };
            let slices: Vec<_> = (0..40).map(|_| schedule.next(&waiting)).collect();
            let oldest = slices.iter().filter(|slice| **slice == Some(Slice::Context(0))).count();
            prop_assert!(oldest >= 10);
        }
    }
}
