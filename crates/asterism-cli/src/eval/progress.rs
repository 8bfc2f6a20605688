//! A run as it goes: which answer is given, how much is done, how long the rest will take.

use crate::terminal::{line, note};
use asterism_eval::run::{Failure, Observer, Record, Step};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest time left that is said: after a program was stopped for long, or the machine slept,
/// the rate seen lately is next to nothing.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A bar on stderr; where that is no terminal, a line for each task. Failures are lines above it.
/// The time left is that of the work left at the rate seen so far, answers of earlier runs not
/// counted.
pub(super) struct Bar {
    bar: ProgressBar,
    /// Work reported of the present answer, so that its end neither loses nor adds any.
    reported: AtomicU64,
}

impl Bar {
    /// A bar for no work yet.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let template = "{bar:30} {percent:>3}% {elapsed} (left {eta}) {msg}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, reported: AtomicU64::new(0) }
    }

    /// Says that a task begins.
    pub(super) fn say(&self, what: String) {
        if self.bar.is_hidden() {
            let all = self.bar.length().unwrap_or_default().max(1);
            let percent = 100 * self.bar.position() / all;
            let left = match (self.bar.position(), self.bar.eta()) {
                (0, _) => String::new(),
                (_, left) if left > LONGEST => String::new(),
                (_, left) => format!(" (left {})", HumanDuration(left)),
            };
            note(format_args!("{percent:>3}%{left} {what}"));
        }
        self.bar.set_message(line(&what).into_owned());
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        self.bar.suspend(|| note(format_args!("{text}")));
    }

    /// Work that is to be done.
    pub(super) fn expect_work(&self, amount: u64) {
        self.bar.inc_length(amount);
    }

    /// Work that will not be done after all.
    pub(super) fn drop_work(&self, amount: u64) {
        self.bar.dec_length(amount);
    }

    fn finish(&self, step: &Step<'_>) {
        let reported = self.reported.swap(0, Ordering::Relaxed);
        self.bar.inc(step.work.saturating_sub(reported));
    }
}

impl Observer for Bar {
    fn begin(&self, step: &Step<'_>) {
        self.reported.store(0, Ordering::Relaxed);
        let Step { length, task, method, index, .. } = step;
        self.bar.set_message(line(&format!("{length} {task} #{index}: {method}")).into_owned());
    }

    fn work(&self, amount: u64) {
        self.reported.fetch_add(amount, Ordering::Relaxed);
        self.bar.inc(amount);
    }

    fn end(&self, step: &Step<'_>, _: &Record) {
        self.finish(step);
    }

    fn skip(&self, step: &Step<'_>) {
        self.drop_work(step.work);
    }

    fn fail(&self, step: &Step<'_>, failure: &Failure) {
        self.finish(step);
        self.line(&failure.to_string());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
