//! Which sequences a step was recorded of.

use super::command::QuestionId;

/// Sequences that decode together, in this order, and where each of their next tokens stood.
pub(super) struct Members(Vec<Member>);

/// A sequence's question, and where its next token stands.
pub(super) type Member = (QuestionId, usize);

impl Members {
    pub(super) fn new(members: impl Iterator<Item = Member>) -> Self {
        Self(members.collect())
    }

    /// By how many tokens the next ones of `now` are later, if they are the same sequences, and all
    /// of them later by as many.
    pub(super) fn later(&self, now: &Self) -> Option<u32> {
        if self.0.len() != now.0.len() {
            return None;
        }
        let mut steps = self.0.iter().zip(&now.0).map(|((question, before), (same, position))| {
            if question == same { position.checked_sub(*before) } else { None }
        });
        let first = steps.next()??;
        steps.all(|step| step == Some(first)).then(|| u32::try_from(first).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_the_same_sequences_later_by_as_many_tokens() {
        let at = |members: &[(u64, usize)]| {
            Members::new(members.iter().map(|(question, at)| (QuestionId(*question), *at)))
        };
        let recorded = at(&[(0, 10), (1, 300)]);
        assert_eq!(recorded.later(&at(&[(0, 10), (1, 300)])), Some(0));
        assert_eq!(recorded.later(&at(&[(0, 17), (1, 307)])), Some(7));
        // One came, left, took another's place, went elsewhere, stood still or went back.
        for others in [
            &[(0, 17), (1, 307), (2, 5)][..],
            &[(0, 17)],
            &[],
            &[(0, 17), (2, 307)],
            &[(1, 307), (0, 17)],
            &[(0, 17), (1, 300)],
            &[(0, 9), (1, 299)],
        ] {
            assert_eq!(recorded.later(&at(others)), None, "{others:?}");
        }
    }
}
