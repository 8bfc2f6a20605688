//! What tests of both backends share.

/// ‖out − reference‖ / ‖reference‖ of the pairs; NaN if any of them is.
pub(crate) fn relative_error(pairs: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let (mut difference, mut norm) = (0.0, 0.0);
    for (out, reference) in pairs {
        difference += (out - reference).powi(2);
        norm += reference.powi(2);
    }
    (difference / norm).sqrt()
}
