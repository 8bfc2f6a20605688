//! Numbers of tokens, and shares of something known later.

use std::fmt;
use std::num::NonZeroUsize;

/// What a configuration may claim.
const MOST_TOKENS: usize = 1 << 30;

/// A number of tokens, or a share of something known later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many.
    Tokens(usize),
    /// `part / whole` of it, rounded up; `part` is from 1 to `whole`.
    Share(usize, NonZeroUsize),
}

impl Size {
    /// All of it.
    pub const ALL: Self = Self::Share(1, NonZeroUsize::MIN);
    /// Nothing of it.
    pub const NOTHING: Self = Self::Tokens(0);

    /// Reads `4k` or `1/4`.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((part, whole)) = text.split_once('/') else {
            let hint = |error| format!("{error}, or a share such as 1/4");
            return tokens(text).map(Self::Tokens).map_err(hint);
        };
        match (part.parse(), whole.parse::<NonZeroUsize>()) {
            (Ok(part), Ok(whole)) if (1..=whole.get()).contains(&part) => {
                Ok(Self::Share(part, whole))
            }
            _ => Err("expected a share above 0 and up to 1, such as 1/4".to_owned()),
        }
    }

    /// How many of `all` tokens.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Tokens(tokens) => tokens,
            Self::Share(part, whole) => (all * part).div_ceil(whole.get()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tokens(tokens) => f.write_str(&short(tokens)),
            Self::Share(part, whole) => write!(f, "{part}/{whole}"),
        }
    }
}

/// `4k` where that is exact, otherwise all digits: the inverse of [`tokens`].
#[must_use]
pub fn short(tokens: usize) -> String {
    match tokens {
        n if n > 0 && n.is_multiple_of(1 << 20) => format!("{}m", n >> 20),
        n if n > 0 && n.is_multiple_of(1 << 10) => format!("{}k", n >> 10),
        n => n.to_string(),
    }
}

/// Reads `4096`, `4k` or `1m`.
///
/// # Errors
/// If it is none of these, or more than any model has positions.
pub fn tokens(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (digits, factor) = match lower.strip_suffix('k') {
        Some(digits) => (digits, 1024),
        None => match lower.strip_suffix('m') {
            Some(digits) => (digits, 1024 * 1024),
            None => (lower.as_str(), 1),
        },
    };
    let number: usize =
        digits.parse().map_err(|_| "expected a number such as 4096, 4k or 1m".to_owned())?;
    match number.checked_mul(factor) {
        Some(count) if count <= MOST_TOKENS => Ok(count),
        _ => Err(format!("no model has more than {}m positions", MOST_TOKENS >> 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_may_end_in_k_or_m() {
        assert_eq!(tokens("4k"), Ok(4096));
        assert_eq!(tokens("1M"), Ok(1 << 20));
        assert_eq!(tokens("17"), Ok(17));
        for wrong in ["", "k", "4kk", "-1", "1.5k", "99999999999999m", "1025m"] {
            assert!(tokens(wrong).is_err(), "{wrong}");
        }
    }
}
