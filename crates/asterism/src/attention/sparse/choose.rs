//! Choices among many weights, without sorting all of them.

/// How many of the largest of `weights` add up to `budget` at most. Reorders them.
pub(super) fn within(weights: &mut [f32], budget: f64) -> usize {
    let (mut rest, mut taken, mut sum) = (weights, 0, 0.0);
    while !rest.is_empty() {
        let half = rest.len().div_ceil(2);
        rest.select_nth_unstable_by(half - 1, |a, b| b.total_cmp(a));
        let (larger, smaller) = rest.split_at_mut(half);
        let more = sum + larger.iter().map(|weight| f64::from(*weight)).sum::<f64>();
        if more <= budget {
            (sum, taken, rest) = (more, taken + half, smaller);
        } else if half == 1 {
            break;
        } else {
            // One of these is too many: the least of them is looked at again.
            rest = larger;
        }
        if rest.len() == 1 && sum + f64::from(rest[0]) > budget {
            break;
        }
    }
    taken
}

/// The indices of the `count` largest of `weights`, the first of equal ones; in no order.
pub(super) fn largest(weights: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    if (1..order.len()).contains(&count) {
        let at = |i: &u32| weights[*i as usize];
        order.select_nth_unstable_by(count - 1, |a, b| at(b).total_cmp(&at(a)).then(a.cmp(b)));
    }
    order.truncate(count);
    order
}

/// Runs `of` for every head, on as many threads as the machine has cores, and gives the results in
/// order.
pub(super) fn for_heads<T: Send>(heads: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(heads);
    let share = heads.div_ceil(threads.max(1));
    let of = &of;
    std::thread::scope(|scope| {
        let run = |from: usize| move || (from..(from + share).min(heads)).map(of).collect();
        let others: Vec<_> =
            (share..heads).step_by(share.max(1)).map(|from| scope.spawn(run(from))).collect();
        let mut all: Vec<T> = run(0)();
        for other in others {
            let more: Vec<T> =
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.extend(more);
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn choices_are_those_of_a_sort(
            numbers in prop::collection::vec(0u32..50, 0..60), budget in 0u32..1500, count in 0usize..70,
        ) {
            let weights: Vec<f32> = numbers.iter().map(|n| *n as f32).collect();
            let mut sorted: Vec<(f32, u32)> =
                weights.iter().copied().zip(0..).collect();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let mut sum = 0.0;
            let fits = sorted.iter().take_while(|(weight, _)| {
                sum += f64::from(*weight);
                sum <= f64::from(budget)
            });
            let expected = fits.count();
            prop_assert_eq!(within(&mut weights.clone(), f64::from(budget)), expected);
            let mut found = largest(&weights, count);
            found.sort_unstable();
            let mut expected: Vec<u32> = sorted.iter().take(count).map(|(_, i)| *i).collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
            let squares: Vec<usize> = (0..count).map(|head| head * head).collect();
            prop_assert_eq!(for_heads(count, |head| head * head), squares);
        }
    }
}
