//! The middle and the ends of a few repeated measurements.

use std::time::Duration;

/// Of an odd number of values the middle one, of an even number the mean of the middle two; and the
/// extremes. A mean and a deviation would be ruled by the one run that something else disturbed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stats {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Stats {
    /// Of `values` in any order; `None` if there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        Some(Self { median: (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0, min, max })
    }

    /// Of times, in seconds.
    pub(super) fn of_times(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        Self::of(times.into_iter().map(|time| time.as_secs_f64()))
    }

    /// How often per second, where the values are the seconds that `count` took.
    pub(super) fn rate(self, count: f64) -> Self {
        Self { median: count / self.median, min: count / self.max, max: count / self.min }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Stats::of([]), None);
        let stats = |values: &[f64]| Stats::of(values.iter().copied()).unwrap();
        assert_eq!(stats(&[2.0]), Stats { median: 2.0, min: 2.0, max: 2.0 });
        assert_eq!(stats(&[9.0, 1.0, 2.0]), Stats { median: 2.0, min: 1.0, max: 9.0 });
        assert_eq!(stats(&[4.0, 9.0, 1.0, 2.0]), Stats { median: 3.0, min: 1.0, max: 9.0 });
    }

    #[test]
    fn a_rate_turns_the_ends_round() {
        let times = Stats { median: 2.0, min: 1.0, max: 4.0 };
        assert_eq!(times.rate(8.0), Stats { median: 4.0, min: 2.0, max: 8.0 });
        let millis = [30, 10, 20].map(Duration::from_millis);
        assert_eq!(Stats::of_times(millis).map(|s| s.median), Some(0.02));
    }
}
