//! Progress bars on stderr. They hide themselves where stderr is not a terminal.

use crate::terminal::line;
use asterism::engine::{Phase1, Progress};
use asterism::model::FetchProgress;
use asterism::plan::Plan;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸─")
}

/// Weights on their way to the processor, layer by layer. Shows itself only after half a second:
/// small models are there before.
pub(crate) struct Loading {
    bar: ProgressBar,
    start: Instant,
}

impl Loading {
    pub(crate) fn new(name: &str) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_style(style("{prefix} {bar:30} {pos}/{len} layers {elapsed} (left {eta})"));
        bar.set_prefix(format!("loading {}", line(name)));
        Self { bar, start: Instant::now() }
    }

    /// Shows that `done` of `all` layers are loaded.
    pub(crate) fn report(&self, done: usize, all: usize) {
        if self.bar.is_hidden() && self.start.elapsed() > Duration::from_millis(500) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Phase 1: work done, blocks finished, time left.
pub(crate) struct Encoding {
    bar: ProgressBar,
    finished: AtomicUsize,
    blocks: usize,
    unit: &'static str,
}

impl Encoding {
    /// A bar for `plan` on a model of `layers` layers.
    pub(crate) fn new(plan: &Plan, layers: usize) -> Self {
        let bar = ProgressBar::new(Phase1::work(plan, layers));
        bar.set_style(style("{prefix} {bar:30} {percent:>3}% {msg} {elapsed} (left {eta})"));
        bar.set_prefix(format!("encoding {} tokens", plan.tokens));
        bar.enable_steady_tick(Duration::from_millis(200));
        let unit = if plan.spec.method.as_star().is_some() { "blocks" } else { "shards" };
        let encoding = Self { bar, finished: AtomicUsize::new(0), blocks: plan.blocks(), unit };
        encoding.show(0);
        encoding
    }

    /// Takes a report of any host.
    pub(crate) fn report(&self, progress: Progress) {
        self.bar.inc(progress.work);
        if progress.finished_block.is_some() {
            self.show(self.finished.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    fn show(&self, finished: usize) {
        self.bar.set_message(format!("{finished}/{} {}", self.blocks, self.unit));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A benchmark: which case is measured, and how long the rest will take if work goes on at the rate
/// seen so far.
pub(crate) struct Cases {
    bar: ProgressBar,
    /// Where the bar stands when the present case is over.
    end: Cell<u64>,
}

impl Cases {
    /// A bar for cases of `work` together, in any unit.
    pub(crate) fn new(work: u64) -> Self {
        let bar = ProgressBar::new(work);
        bar.set_style(style("{bar:30} {percent:>3}% {elapsed} (left {eta}) {msg}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, end: Cell::new(0) }
    }

    /// A case of `work` starts.
    pub(crate) fn begin(&self, name: String, work: u64) {
        self.bar.set_message(line(&name).into_owned());
        self.end.set(self.end.get() + work);
    }

    /// What takes the reports of a case, on any thread: work since the last one.
    pub(crate) fn advance(&self) -> impl Fn(u64) + Sync + use<> {
        let bar = self.bar.clone();
        move |work| bar.inc(work)
    }

    /// The case is over.
    pub(crate) fn end(&self) {
        self.bar.set_position(self.end.get());
    }
}

impl Drop for Cases {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Downloads: a bar per file.
#[derive(Clone)]
pub(crate) struct Downloads {
    all: MultiProgress,
    bars: Arc<Mutex<HashMap<String, ProgressBar>>>,
}

impl Downloads {
    pub(crate) fn new() -> Self {
        Self { all: MultiProgress::new(), bars: Arc::default() }
    }

    /// The callback that shows a download's progress.
    pub(crate) fn callback(&self) -> Arc<dyn FetchProgress> {
        let this = self.clone();
        Arc::new(move |file: &str, done: u64, total: u64| this.update(file, done, total))
    }

    fn update(&self, file: &str, done: u64, total: u64) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(file.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(total));
            bar.set_style(style("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ({eta})"));
            bar.set_prefix(line(file).into_owned());
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        bars.values().for_each(ProgressBar::finish_and_clear);
    }
}
