//! Methods as one word: `dense`, `ring`, `zigzag`, `star:block=16k:anchor=4k:revisit=auto`, or a
//! pattern that leaves keys out, `flexprefill:gamma=0.9`.

use asterism::engine::ContextBuilder;
use asterism::plan::{Method, PlanSpec, Revisit, Sparse, Star};

/// A method with what was said of its settings.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Whole(Method),
    Star { block: Option<usize>, anchor: Option<usize>, revisit: Revisit },
}

impl Asked {
    /// Reads a method. The error says what is wrong with which part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(':');
        let name = parts.next().unwrap_or_default();
        let whole = match name {
            "star" => return Self::star(parts),
            "dense" => Method::Dense,
            "ring" => Method::Ring,
            "zigzag" => Method::Zigzag,
            _ if Sparse::named(name).is_some() => {
                return Sparse::parse(text).map(|sparse| Self::Whole(sparse.into()));
            }
            _ => {
                let all: Vec<_> = Sparse::DEFAULTS.iter().map(|sparse| sparse.name()).collect();
                let all = all.join(", ");
                return Err(format!("{name:?} is no method: star, dense, ring, zigzag, {all}"));
            }
        };
        match parts.next() {
            Some(setting) => Err(format!("{setting:?}: {name} has no settings, only star has")),
            None => Ok(Self::Whole(whole)),
        }
    }

    fn star<'a>(settings: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let (mut block, mut anchor, mut revisit) = (None, None, Revisit::None);
        for setting in settings {
            let wrong = |why: String| format!("{setting:?}: {why}");
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            match key {
                "block" => block = Some(tokens(value).map_err(wrong)?),
                "anchor" if value == "none" => anchor = Some(0),
                "anchor" => anchor = Some(tokens(value).map_err(wrong)?),
                "revisit" => revisit = self::revisit(value).map_err(wrong)?,
                _ => return Err(wrong("expected block=…, anchor=… or revisit=…".to_owned())),
            }
        }
        Ok(Self::Star { block, anchor, revisit })
    }

    /// `builder` by this method.
    pub(crate) fn apply(self, builder: ContextBuilder<'_>) -> ContextBuilder<'_> {
        let (block, anchor, revisit) = match self {
            Self::Whole(method) => return builder.method(method),
            Self::Star { block, anchor, revisit } => (block, anchor, revisit),
        };
        let builder = builder.revisit(revisit);
        let builder = match block {
            Some(block) => builder.star(block),
            None => builder,
        };
        match anchor {
            Some(anchor) => builder.anchor(anchor),
            None => builder,
        }
    }

    /// For a context of tokens, whose blocks nobody else chooses.
    pub(crate) fn plan_spec(self, hosts: usize) -> Result<PlanSpec, String> {
        let method = match self {
            Self::Whole(method) => method,
            Self::Star { block: None, .. } => {
                return Err("star: a context of tokens needs a block=…".to_owned());
            }
            Self::Star { block: Some(block), anchor, revisit } => {
                Star::new(block).anchor(anchor.unwrap_or(block / 4)).revisit(revisit).into()
            }
        };
        Ok(PlanSpec::from(method).hosts(hosts))
    }
}

/// `4096`, `4k` or `1m`.
fn tokens(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (digits, factor) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1 << 10),
        Some(b'm') => (&lower[..lower.len() - 1], 1 << 20),
        _ => (lower.as_str(), 1),
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    number.ok_or_else(|| "expected a number of tokens such as 4096, 4k or 1m".to_owned())
}

/// `2k`, `5%`, `auto` or `none`.
pub(crate) fn revisit(text: &str) -> Result<Revisit, String> {
    match (text, text.strip_suffix('%')) {
        ("auto", _) => Ok(Revisit::Auto),
        ("none", _) => Ok(Revisit::None),
        (_, Some(share)) => match share.parse::<f64>() {
            Ok(share) if (0.0..=100.0).contains(&share) => {
                Ok(Revisit::Share((share * 100.0).round() as u32))
            }
            _ => Err("expected a share from 0% to 100%".to_owned()),
        },
        (_, None) => tokens(text)
            .map(Revisit::Tokens)
            .map_err(|error| format!("{error}, or a share such as 5%, or auto, or none")),
    }
}
