//! What of a context is kept, or computed anew.

use super::size::tokens;
use crate::plan::Revisit;

/// Reads `2048`, `2k`, `5%`, `auto` or `none`.
///
/// # Errors
/// Says what was expected.
pub fn revisit(text: &str) -> Result<Revisit, String> {
    match text {
        "auto" => Ok(Revisit::Auto),
        "none" => Ok(Revisit::None),
        _ => match text.strip_suffix('%') {
            Some(share) => hundredths(share).map(Revisit::Share),
            None => tokens(text)
                .map(Revisit::Tokens)
                .map_err(|error| format!("{error}, or a share such as 5%, or auto, or none")),
        },
    }
}

/// Reads a share of the keys that is kept, `50%`, in hundredths of a per cent.
///
/// # Errors
/// Says what was expected.
pub fn keep(text: &str) -> Result<u32, String> {
    match text.strip_suffix('%').map(hundredths) {
        Some(Ok(0)) | None => Err("expected a share above 0%, such as 50%".to_owned()),
        Some(share) => share,
    }
}

/// A share from 0 to 100 with up to two decimals, in hundredths.
fn hundredths(text: &str) -> Result<u32, String> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let expected = "expected a share from 0% to 100% with at most two decimals, such as 2.5%";
    if whole.is_empty() || decimals.len() > 2 || !digits(whole) || !digits(decimals) {
        return Err(expected.to_owned());
    }
    match format!("{whole}{decimals:0<2}").parse() {
        Ok(hundredths) if hundredths <= 10_000 => Ok(hundredths),
        _ => Err(expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revisited_is_a_number_a_share_or_a_name() {
        assert_eq!(revisit("2k"), Ok(Revisit::Tokens(2048)));
        assert_eq!(revisit("5%"), Ok(Revisit::Share(500)));
        assert_eq!(revisit("0.25%"), Ok(Revisit::Share(25)));
        assert_eq!(revisit("2.5%"), Ok(Revisit::Share(250)));
        assert_eq!(revisit("100%"), Ok(Revisit::Share(10_000)));
        assert_eq!(revisit("auto"), Ok(Revisit::Auto));
        assert_eq!(revisit("none"), Ok(Revisit::None));
        for wrong in ["", "%", "5 %", "-1%", "100.01%", "1.234%", "all", "99999999999999999999%"] {
            assert!(revisit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_kept_is_a_share_above_nothing() {
        assert_eq!(keep("50%"), Ok(5000));
        assert_eq!(keep("0.01%"), Ok(1));
        for wrong in ["", "50", "0%", "0.00%", "101%", "-5%"] {
            assert!(keep(wrong).is_err(), "{wrong}");
        }
    }
}
