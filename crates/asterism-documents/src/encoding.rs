//! Bytes as text: by a byte order mark, as UTF-8, as what was asked for, or as what they look like.

use chardetng::EncodingDetector;
use encoding_rs::{UTF_8, UTF_16BE, UTF_16LE};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Bytes in which a zero means that a file is no text, and zeros in turn that it is UTF-16.
const HEAD: usize = 8 << 10;

/// The encoding of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// Its name, as the web has it.
    pub name: Cow<'static, str>,
    /// Whether it was guessed: nothing in the file says it, nobody asked for it, and it is not
    /// UTF-8.
    pub is_guessed: bool,
    /// Places that are no characters of it: each is U+FFFD in the text.
    pub bad: usize,
}

/// An encoding that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted(&'static encoding_rs::Encoding);

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(label: &str) -> Result<Self, String> {
        encoding_rs::Encoding::for_label(label.as_bytes()).map(Self).ok_or_else(|| {
            format!(
                "there is no encoding {label:?}: use a name such as utf-8, windows-1252, \
                     shift_jis or utf-16le"
            )
        })
    }
}

impl Wanted {
    /// Its name, as the web has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

/// Why bytes are no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoText {
    /// They are of no text at all: this byte is a zero, or what follows from it is garbled.
    Binary(usize),
    /// They are not of the encoding that was asked for.
    Other { encoding: &'static str, bad: usize },
}

/// The text of `bytes`, without a byte order mark, and its encoding.
pub(crate) fn decode(bytes: &[u8], wanted: Option<Wanted>) -> Result<(String, Encoding), NoText> {
    let head = &bytes[..bytes.len().min(HEAD)];
    let found = |encoding: &'static encoding_rs::Encoding, is_guessed| {
        let (text, had_errors) = encoding.decode_with_bom_removal(bytes);
        let replaced = || text.matches(char::REPLACEMENT_CHARACTER).count().max(1);
        let bad = if had_errors { replaced() } else { 0 };
        (text.into_owned(), Encoding { name: encoding.name().into(), is_guessed, bad })
    };
    let (text, encoding) = if let Some(Wanted(encoding)) = wanted {
        let (text, found) = found(encoding, false);
        if found.bad > 0 {
            return Err(NoText::Other { encoding: encoding.name(), bad: found.bad });
        }
        (text, found)
    } else if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(bytes) {
        found(encoding, false)
    } else if let Some(encoding) = wide(head) {
        found(encoding, true)
    } else if let Some(at) = memchr::memchr(0, head) {
        return Err(NoText::Binary(at));
    } else if std::str::from_utf8(bytes).is_ok() {
        found(UTF_8, false)
    } else if is_nearly_utf8(bytes) {
        found(UTF_8, true)
    } else {
        let mut detector = EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
        detector.feed(bytes, true);
        found(detector.guess(None, chardetng::Utf8Detection::Deny), true)
    };
    let is_sure = !encoding.is_guessed && encoding.bad == 0;
    match text.bytes().take(HEAD).position(|byte| byte == 0) {
        Some(at) => Err(NoText::Binary(at)),
        None if !is_sure && is_garbled(&text) => Err(NoText::Binary(0)),
        None => Ok((text, encoding)),
    }
}

/// Whether more than a twentieth of the beginning of a text is no character, or one of control that
/// no text has: it was none, whatever it was taken for.
fn is_garbled(text: &str) -> bool {
    let is_odd = |c: &char| {
        *c == char::REPLACEMENT_CHARACTER
            || (c.is_control() && !"\t\n\r\u{8}\u{c}\u{1b}".contains(*c))
    };
    let (mut all, mut odd) = (0, 0);
    for c in text.chars().take(HEAD) {
        all += 1;
        odd += usize::from(is_odd(&c));
    }
    odd * 20 > all
}

/// What a reader should know of an encoding.
pub(crate) fn note_of(encoding: &Encoding) -> Option<String> {
    let Encoding { name, is_guessed, bad } = encoding;
    let places = if *bad == 1 { "place is no character" } else { "places are no characters" };
    match (is_guessed, bad) {
        (false, 0) => None,
        (true, 0) => Some(format!("read as {name}, a guess")),
        (false, bad) => Some(format!("{bad} {places} of {name}")),
        (true, bad) => Some(format!("read as {name}, a guess; {bad} {places} of it")),
    }
}

/// UTF-16, if the beginning of a text has a zero in almost no byte or in many, in turn: letters of
/// Latin scripts, digits and blanks have one.
fn wide(head: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd, pairs) = (zeros(0), zeros(1), head.len() / 2);
    let (few, many) = (pairs / 50, pairs * 2 / 5);
    match () {
        () if pairs < 8 => None,
        () if even <= few && odd >= many => Some(UTF_16LE),
        () if odd <= few && even >= many => Some(UTF_16BE),
        () => None,
    }
}

/// Whether there are far more characters of several bytes than bytes that are none: a text in UTF-8
/// that was damaged, and not one in another encoding.
fn is_nearly_utf8(bytes: &[u8]) -> bool {
    let (mut good, mut bad) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    good >= 10 * bad
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> (String, String, bool, usize) {
        let (text, Encoding { name, is_guessed, bad }) = decode(bytes, None).unwrap();
        (text, name.into_owned(), is_guessed, bad)
    }

    fn of(text: &str, name: &str, is_guessed: bool) -> (String, String, bool, usize) {
        (text.to_owned(), name.to_owned(), is_guessed, 0)
    }

    const FRENCH: &str = "Où est le café ? Là-bas, à côté de l'hôtel, près du château. ";

    #[test]
    fn encodings_are_said_by_a_mark_or_guessed() {
        assert_eq!(read("é".as_bytes()), of("é", "UTF-8", false));
        assert_eq!(read("\u{feff}é".as_bytes()), of("é", "UTF-8", false));
        assert_eq!(read(b"\xff\xfea\0b\0"), of("ab", "UTF-16LE", false));
        let little: Vec<u8> = FRENCH.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&little), of(FRENCH, "UTF-16LE", true));
        let big: Vec<u8> = FRENCH.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(&big), of(FRENCH, "UTF-16BE", true));
        let (western, _, _) = encoding_rs::WINDOWS_1252.encode(FRENCH);
        assert_eq!(read(&western), of(FRENCH, "windows-1252", true));
        let japanese = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。";
        let (bytes, _, _) = encoding_rs::SHIFT_JIS.encode(japanese);
        assert_eq!(read(&bytes), of(japanese, "Shift_JIS", true));
        let russian = "Все счастливые семьи похожи друг на друга";
        let (bytes, _, _) = encoding_rs::KOI8_R.encode(russian);
        assert_eq!(read(&bytes).0, russian);
    }

    #[test]
    fn a_damaged_text_keeps_its_encoding() {
        let mut bytes = FRENCH.repeat(3).into_bytes();
        bytes.truncate(bytes.len() - 2);
        bytes.push(0xc3);
        let (text, name, is_guessed, bad) = read(&bytes);
        assert_eq!((&*name, is_guessed, bad), ("UTF-8", true, 1));
        assert!(text.ends_with('\u{fffd}') && text.contains("château"), "{text}");
    }

    #[test]
    fn an_encoding_that_is_asked_for_is_taken_or_refused() {
        let ask = |label: &str, bytes: &[u8]| decode(bytes, Some(label.parse().unwrap()));
        assert_eq!(ask("latin1", b"caf\xe9").unwrap().0, "café");
        assert_eq!(ask("utf-16le", b"a\0b\0").unwrap().0, "ab");
        let refused = Err(NoText::Other { encoding: "UTF-8", bad: 1 });
        assert_eq!(ask("UTF8", b"caf\xe9"), refused);
        assert!("klingon".parse::<Wanted>().unwrap_err().contains("klingon"));
    }

    #[test]
    fn what_has_zeros_is_no_text() {
        assert_eq!(decode(b"\x7fELF\x02\0\0\0", None), Err(NoText::Binary(5)));
        assert_eq!(decode(b"\xff\xfe\0", None), Err(NoText::Binary(0)));
        let packed: Vec<u8> = (0..4000u32).map(|i| (i * i * 31 + 7 * i) as u8 | 1).collect();
        assert_eq!(decode(&packed, None), Err(NoText::Binary(0)));
        assert_eq!(decode(b"a\0", Some("utf-8".parse().unwrap())), Err(NoText::Binary(1)));
    }

    proptest! {
        #[test]
        fn bytes_are_text_or_not_and_never_a_panic(bytes in any::<Vec<u8>>()) {
            if let Ok((text, encoding)) = decode(&bytes, None) {
                prop_assert!(!text.contains('\0'));
                let unmarked = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                prop_assert!(encoding.bad > 0 || encoding.is_guessed
                    || encoding.name != "UTF-8" || text.as_bytes() == unmarked);
            }
        }

        #[test]
        fn utf8_is_never_mistaken(text in "[^\0]{0,40}") {
            let wide = wide(text.as_bytes()).is_some();
            let marked = text.starts_with('\u{feff}');
            prop_assume!(!wide && !marked);
            let (read, encoding) = decode(text.as_bytes(), None).unwrap();
            prop_assert_eq!(read, text);
            prop_assert_eq!(encoding, Encoding { name: "UTF-8".into(), is_guessed: false, bad: 0 });
        }
    }
}
