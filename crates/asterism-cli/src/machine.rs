//! What the system says about the machine and about this process: files of Linux's /proc. Elsewhere
//! everything here is unknown.

use std::fs;

/// A fact of `doctor`, with its name.
pub(crate) type Fact = (&'static str, String);

/// The processor's name.
pub(crate) fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cores that the machine has.
pub(crate) fn all_cores() -> Option<usize> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(text.lines().filter(|line| line.starts_with("processor")).count()).filter(|n| *n > 0)
}

/// Bytes of memory: all of it, and what is available without swapping.
pub(crate) fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some((kilobytes(&text, "MemTotal:")?, kilobytes(&text, "MemAvailable:")?))
}

/// Largest amount of memory this process has held, in bytes, while `work` ran; weights and
/// everything else that was held before included.
pub(crate) fn peak_memory<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    // Without the reset the figure would be that of the whole life of the process.
    let reset = fs::write("/proc/self/clear_refs", "5");
    let result = work();
    let peak = reset
        .and_then(|()| fs::read_to_string("/proc/self/status"))
        .ok()
        .and_then(|text| kilobytes(&text, "VmHWM:"));
    (result, peak)
}

/// The value of a line `NAME  123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_name() {
        let text = "MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   50 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(51_200));
        assert_eq!(kilobytes(text, "SwapTotal:"), None);
    }

    #[test]
    fn the_peak_is_that_of_the_work_alone() {
        let fill = |bytes: usize| std::hint::black_box(vec![1u8; bytes]).len();
        let (_, large) = peak_memory(|| fill(256 << 20));
        let (_, small) = peak_memory(|| fill(1 << 20));
        if let (Some(large), Some(small)) = (large, small) {
            assert!(small + (200 << 20) < large, "{small} {large}");
        }
    }
}
