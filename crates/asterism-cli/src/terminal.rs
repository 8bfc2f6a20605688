//! Standard output and standard error, as a person or a program meets them.
//!
//! Text that is not ours (answers, file names, messages of a template, values of the environment)
//! may hold control characters, which a terminal obeys: it may hide what stands before it, or write
//! anything anywhere. On a terminal they are shown as `\u{1b}`; pipes and files get every byte as
//! it is. Nothing here panics when the reader is gone or a disk is full.

use std::borrow::Cow;
use std::fmt;
use std::io::{IsTerminal, StdoutLock, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether a terminal takes `c` for something else than a character to show, or shows what follows
/// in another order.
fn is_command(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, keep: fn(char) -> bool) -> Cow<'_, str> {
    let hidden = |c: char| is_command(c) && !keep(c);
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// `text` on one line, without anything that a terminal obeys.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// `text` without anything that a terminal obeys but line ends and tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// The rank of a process that serves rank 0; 0 of any other.
static RANK: AtomicUsize = AtomicUsize::new(0);

/// From now on this is a process that serves rank 0: what it says begins with its rank.
pub(crate) fn follow(rank: usize) {
    RANK.store(rank, Ordering::Relaxed);
}

/// Whether this is such a process.
pub(crate) fn follows() -> bool {
    RANK.load(Ordering::Relaxed) > 0
}

/// Writes a line to standard error. An error in writing it is dropped: there is no other place to
/// report it.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    let text = match RANK.load(Ordering::Relaxed) {
        0 => text.to_string(),
        rank => format!("[rank {rank}] {text}"),
    };
    let mut err = std::io::stderr().lock();
    let shown = if err.is_terminal() { line(&text) } else { Cow::Borrowed(text.as_str()) };
    let _ = writeln!(err, "{shown}");
}

/// Standard output.
pub(crate) struct Out {
    out: StdoutLock<'static>,
    is_terminal: bool,
}

impl Out {
    /// Locks standard output.
    pub(crate) fn lock() -> Self {
        let out = std::io::stdout().lock();
        let is_terminal = out.is_terminal();
        Self { out, is_terminal }
    }

    /// `text` as it will be shown on one line, for cells whose width is counted.
    pub(crate) fn shown<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_terminal { line(text) } else { Cow::Borrowed(text) }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.is_terminal {
            self.out.write_all(lines(&String::from_utf8_lossy(bytes)).as_bytes())?;
            Ok(bytes.len())
        } else {
            self.out.write(bytes)
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_of_a_terminal_are_shown_not_obeyed() {
        assert_eq!(line("a\u{1b}[2Jb\r\n\tc\u{9b}31m"), "a\\u{1b}[2Jb\\r\\n\\tc\\u{9b}31m");
        assert_eq!(lines("a\u{7}\n\tb\u{202e}c\r"), "a\\u{7}\n\tb\\u{202e}c\\r");
        assert!(matches!(lines("naïve 東京 🦀\n"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_that_is_shown_is_a_command(text in any::<String>()) {
            prop_assert!(!line(&text).contains(is_command));
            prop_assert!(!lines(&text).contains(|c| is_command(c) && c != '\n' && c != '\t'));
            let plain: String = text.chars().filter(|c| !is_command(*c)).collect();
            prop_assert_eq!(line(&plain).into_owned(), plain);
        }
    }
}
