//! Rotary position embedding (arXiv 2104.09864) and its scaled variants.

use crate::model::{RopeConfig, RopeScaling};
use std::f64::consts::PI;

/// The angle per position of every rotated pair.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// `[head_dim / 2]`, radians per position
    inverse_frequencies: Vec<f32>,
}

impl RopeTable {
    /// The table of heads of `head_dim` elements.
    #[must_use]
    pub fn new(config: &RopeConfig, head_dim: usize) -> Self {
        let inverse_frequencies = (0..head_dim / 2)
            .map(|i| {
                let frequency = config.theta.powf(-2.0 * i as f64 / head_dim as f64);
                scaled(frequency, &config.scaling) as f32
            })
            .collect();
        Self { inverse_frequencies }
    }

    /// `[head_dim / 2]`, radians per position
    #[must_use]
    pub fn inverse_frequencies(&self) -> &[f32] {
        &self.inverse_frequencies
    }
}

/// Scales one frequency (radians per position).
fn scaled(frequency: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        // Llama 3.1: slow rotations are stretched by `factor`, fast ones are kept, and between the
        // two wavelengths the factor fades linearly in (original length / wavelength).
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            let turns = original_max_positions as f64 * frequency / (2.0 * PI);
            if turns < low_freq_factor {
                frequency / factor
            } else if turns > high_freq_factor {
                frequency
            } else {
                let keep = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - keep) * frequency / factor + keep * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(scaling: RopeScaling) -> Vec<f32> {
        RopeTable::new(&RopeConfig { theta: 10_000.0, scaling }, 64).inverse_frequencies
    }

    #[test]
    fn linear_scaling_stretches_all_and_llama3_only_the_slow() {
        let plain = table(RopeScaling::None);
        assert_eq!(plain[0], 1.0);
        let linear = table(RopeScaling::Linear { factor: 4.0 });
        assert!(linear.iter().zip(&plain).all(|(a, b)| (a * 4.0 - b).abs() < 1e-9));
        let llama3 = table(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 8192,
        });
        assert_eq!(llama3[0], plain[0]);
        assert_eq!(llama3[31] * 8.0, plain[31]);
        assert!(llama3.iter().zip(&plain).any(|(a, b)| a < b && a * 8.0 > *b));
    }
}
