//! Which of the contexts that wait is encoded next. No clocks, no threads: a choice over numbers.

/// Contexts that are encoded at the same time at most: each takes memory for a forward pass on
/// every host.
const ACTIVE: usize = 4;

/// Of these, contexts of more than one forward pass: a short one finds a place beside long ones.
const LONG: usize = 3;

/// One in so many that begin is the oldest, so that long ones begin at last.
const AGEING: usize = 4;

/// Chooses what begins.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Contexts that have begun so far.
    begun: usize,
}

/// A context that is being encoded or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) tokens: usize,
    pub(super) is_active: bool,
}

impl Admission {
    /// The number of the one among `all`, oldest first, that begins now; `None` if none does.
    /// Contexts of more than `pass` tokens take more than one forward pass.
    pub(super) fn next(&mut self, all: &[Candidate], pass: usize) -> Option<usize> {
        let is_long = |candidate: &Candidate| candidate.tokens > pass;
        let active = || all.iter().filter(|candidate| candidate.is_active);
        if active().count() >= ACTIVE {
            return None;
        }
        let room_for_long = active().filter(|candidate| is_long(candidate)).count() < LONG;
        let mut waiting = all.iter().enumerate().filter(|(_, candidate)| {
            !candidate.is_active && (room_for_long || !is_long(candidate))
        });
        let next = match (self.begun + 1).is_multiple_of(AGEING) {
            true => waiting.next(),
            false => waiting.min_by_key(|(index, candidate)| (candidate.tokens, *index)),
        };
        self.begun += usize::from(next.is_some());
        next.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting(tokens: usize) -> Candidate {
        Candidate { tokens, is_active: false }
    }

    fn active(tokens: usize) -> Candidate {
        Candidate { tokens, is_active: true }
    }

    #[test]
    fn a_short_context_passes_long_ones_and_finds_a_place_beside_them() {
        let mut admission = Admission::default();
        let all = [active(9), active(9), active(9), waiting(9), waiting(3), waiting(2)];
        assert_eq!(admission.next(&all, 4), Some(5));
        assert_eq!(admission.next(&all[..4], 4), None, "three long ones are enough");
        assert_eq!(admission.next(&all[..4], 10), Some(3), "none of them is long");
    }

    proptest! {
        #[test]
        fn all_begin_at_last_and_never_too_many_at_once(
            tokens in prop::collection::vec(1usize..100, 1..40),
            pass in 1usize..100,
        ) {
            let (mut admission, mut left) = (Admission::default(), Vec::new());
            left.extend(tokens.into_iter().map(waiting));
            let mut rounds = 0;
            while !left.is_empty() {
                while let Some(index) = admission.next(&left, pass) {
                    prop_assert!(!left[index].is_active);
                    left[index].is_active = true;
                }
                let active = || left.iter().filter(|candidate| candidate.is_active);
                prop_assert!((1..=ACTIVE).contains(&active().count()));
                prop_assert!(active().filter(|candidate| candidate.tokens > pass).count() <= LONG);
                // The first of them ends.
                let ended = left.iter().position(|candidate| candidate.is_active);
                prop_assert!(ended.map(|index| left.remove(index)).is_some());
                rounds += 1;
                prop_assert!(rounds <= 40);
            }
        }

        #[test]
        fn the_oldest_begins_though_shorter_ones_keep_coming(shorter in 1usize..50) {
            let mut admission = Admission::default();
            let mut all = vec![waiting(100)];
            all.extend((0..4).map(|_| waiting(shorter)));
            let begun = (0..4).filter_map(|_| admission.next(&all, 10)).any(|index| index == 0);
            prop_assert!(begun);
        }
    }
}
