//! Which rotary position embedding a model was trained with.
//!
//! Receives the fields of `config.json`; gives the base frequency and the scaling. Two spellings
//! are in use: `rope_theta` beside `rope_scaling` (Transformers 4, where the kind is called `type`
//! in old files and `rope_type` in newer ones), and one object `rope_parameters` that holds the
//! base too (Transformers 5).

use super::family::MAX_POSITIONS;
use crate::model::ModelError;
use crate::model::fields::{Fields, excerpt};

/// Base frequency where the file gives none, in all supported families.
const DEFAULT_THETA: f64 = 10_000.0;

/// The kinds of scaling that are computed.
const KINDS: &str = "default, linear and llama3";

/// The rotary embedding: pair `i` of a head of `d` elements turns by `theta^(-2i/d)` radians per
/// position, before [`RopeScaling`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of frequencies; greater than 1.
    pub theta: f64,
    /// How the frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// How the frequencies are stretched beyond the context of the first training stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// The rule of Llama 3.1: long wavelengths are divided by `factor`, short ones are kept, those
    /// between are blended.
    Llama3 {
        /// Divisor of the long wavelengths; at least 1.
        factor: f64,
        /// Wavelengths above `original_max_positions / low_freq_factor` are divided; positive.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_positions / high_freq_factor` are kept; greater than
        /// `low_freq_factor`.
        high_freq_factor: f64,
        /// Context of the first training stage, in tokens.
        original_max_positions: usize,
    },
}

impl RopeConfig {
    /// Reads either spelling.
    ///
    /// # Errors
    /// Kinds other than `default`, `linear` and `llama3`, a rotation of a part of the head only,
    /// missing or impossible parameters, and two spellings that differ.
    pub(super) fn read(config: &Fields<'_>) -> Result<Self, ModelError> {
        if let (Some(old), Some(new)) = (config.get("rope_scaling"), config.get("rope_parameters"))
            && old != new
        {
            return Err(config.bad(
                "rope_scaling",
                old,
                format!("the same as `rope_parameters` ({}), or one of the two", excerpt(new)),
            ));
        }
        refuse_partial_rotation(config)?;
        let classic = config.nested("rope_scaling", "rope_scaling.")?;
        let current = config.nested("rope_parameters", "rope_parameters.")?;
        let Some(parameters) = current.or(classic) else {
            return Ok(Self {
                theta: theta(config)?.unwrap_or(DEFAULT_THETA),
                scaling: RopeScaling::None,
            });
        };
        refuse_partial_rotation(&parameters)?;
        if let Some((name, _)) = parameters.entries().find(|(_, value)| value.is_object()) {
            return Err(parameters.unsupported(
                name,
                "an object of its own",
                "all layers must rotate alike",
            ));
        }
        let theta = theta(&parameters)?.or(theta(config)?).unwrap_or(DEFAULT_THETA);
        let (old, new) = (parameters.text("type")?, parameters.text("rope_type")?);
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            return Err(parameters.bad(
                "type",
                &old.into(),
                format!("the same as `rope_type` ({new:.60?}), or one of the two"),
            ));
        }
        let kind = match new {
            Some(kind) => kind,
            None => match old {
                Some(kind) => kind,
                // `rope_parameters` without a kind means none; in `rope_scaling`, which is there
                // only to scale, it is a mistake.
                None if current.is_some() => "default",
                None => return Err(parameters.missing("rope_type", KINDS)),
            },
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: factor(&parameters)? },
            "llama3" => llama3(&parameters)?,
            other => {
                return Err(parameters.unsupported(
                    "rope_type",
                    excerpt(&other.into()),
                    format!("supported are {KINDS}"),
                ));
            }
        };
        Ok(Self { theta, scaling })
    }
}

fn theta(fields: &Fields<'_>) -> Result<Option<f64>, ModelError> {
    at_least(fields, "rope_theta", 1.0, false)
}

fn factor(parameters: &Fields<'_>) -> Result<f64, ModelError> {
    at_least(parameters, "factor", 1.0, true)?
        .ok_or_else(|| parameters.missing("factor", "a number of at least 1"))
}

fn llama3(parameters: &Fields<'_>) -> Result<RopeScaling, ModelError> {
    let positive = |name| {
        at_least(parameters, name, 0.0, false)?
            .ok_or_else(|| parameters.missing(name, "a number greater than 0"))
    };
    let low_freq_factor = positive("low_freq_factor")?;
    let high_freq_factor = positive("high_freq_factor")?;
    if high_freq_factor <= low_freq_factor {
        // Equal factors divide by zero in the blend.
        return Err(parameters.bad(
            "high_freq_factor",
            &high_freq_factor.into(),
            format!("more than low_freq_factor ({low_freq_factor})"),
        ));
    }
    Ok(RopeScaling::Llama3 {
        factor: factor(parameters)?,
        low_freq_factor,
        high_freq_factor,
        original_max_positions: parameters
            .required_size("original_max_position_embeddings", MAX_POSITIONS)?,
    })
}

/// A number above `min`, or equal to it where `inclusive`.
fn at_least(
    fields: &Fields<'_>,
    name: &str,
    min: f64,
    inclusive: bool,
) -> Result<Option<f64>, ModelError> {
    let Some(number) = fields.number(name)? else {
        return Ok(None);
    };
    if number > min || (inclusive && number >= min) {
        return Ok(Some(number));
    }
    let bound = if inclusive { "of at least" } else { "greater than" };
    Err(fields.bad(name, &number.into(), format!("a number {bound} {min}")))
}

fn refuse_partial_rotation(fields: &Fields<'_>) -> Result<(), ModelError> {
    match fields.number("partial_rotary_factor")? {
        Some(part) if part != 1.0 => Err(fields.unsupported(
            "partial_rotary_factor",
            part.to_string(),
            "the whole head must rotate (1.0)",
        )),
        _ => Ok(()),
    }
}
