//! Methods by their names.

use crate::plan::{Method, Sparse, Star};

/// A method without the settings of star.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodName {
    /// Star Attention: independent blocks behind an anchor.
    Star,
    /// Ring attention, contiguous shards: exact.
    Ring,
    /// Ring attention, zigzag shards: exact and balanced.
    Zigzag,
    /// Full attention: exact.
    Dense,
    /// Attention over some of the keys, with its settings.
    Sparse(Sparse),
}

impl MethodName {
    /// Those without settings of their own.
    pub const PLAIN: [Self; 4] = [Self::Star, Self::Ring, Self::Zigzag, Self::Dense];

    /// Its name alone.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Zigzag => "zigzag",
            Self::Dense => "dense",
            Self::Sparse(sparse) => sparse.name(),
        }
    }

    /// Reads `dense`, or `flexprefill:gamma=0.9`.
    ///
    /// # Errors
    /// Names all methods if it is none, or says what is wrong with a setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = |method: &Self| method.name().eq_ignore_ascii_case(text.trim());
        if let Some(method) = Self::PLAIN.into_iter().find(named) {
            return Ok(method);
        }
        let name = text.split(':').next().unwrap_or_default();
        if Sparse::named(name.trim()).is_some() {
            return Sparse::parse(text).map(Self::Sparse);
        }
        if Self::PLAIN.iter().any(|method| method.name().eq_ignore_ascii_case(name.trim())) {
            return Err(format!("`{name}` is named alone here: its settings are given apart"));
        }
        let all = Self::PLAIN.map(Self::name).into_iter();
        let all: Vec<_> = all.chain(Sparse::DEFAULTS.map(Sparse::name)).collect();
        Err(format!("`{name}` is no method: expected one of {}", all.join(", ")))
    }

    /// The method of this name, with the settings `star` if it is star.
    #[must_use]
    pub const fn with(self, star: Star) -> Method {
        match self {
            Self::Star => Method::Star(star),
            Self::Ring => Method::Ring,
            Self::Zigzag => Method::Zigzag,
            Self::Dense => Method::Dense,
            Self::Sparse(sparse) => Method::Sparse(sparse),
        }
    }
}

/// As it may be given.
impl std::fmt::Display for MethodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sparse(sparse) => sparse.fmt(f),
            _ => f.pad(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_whose_settings_stand_apart_is_named_alone() {
        assert_eq!(MethodName::parse(" Star "), Ok(MethodName::Star));
        let error = MethodName::parse("star:block=2k").unwrap_err();
        assert_eq!(error, "`star` is named alone here: its settings are given apart");
        let error = MethodName::parse("stars:block=2k").unwrap_err();
        assert!(error.starts_with("`stars` is no method: expected one of star, ring"), "{error}");
    }
}
