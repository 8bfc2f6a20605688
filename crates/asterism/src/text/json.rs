//! JSON and numbers as Python writes them.
//!
//! Receives a value of a template; returns what Python's `json.dumps` gives for it. Chat templates
//! put tool descriptions into prompts with the `tojson` filter, and a model reads a space more or
//! less as other tokens than it was trained on.

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, Value};

/// `json.dumps` with Transformers' defaults: no ASCII escapes, and no HTML escapes either.
pub(super) fn tojson(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (args, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let argument = |index: usize| -> Result<Value, Error> {
        match args.get(index) {
            Some(value) => Ok(value.clone()),
            None => Ok(kwargs.get::<Option<Value>>(names[index])?.unwrap_or(Value::from(()))),
        }
    };
    let [ensure_ascii, indent, separators, sort_keys] =
        [argument(0)?, argument(1)?, argument(2)?, argument(3)?];
    kwargs.assert_all_used()?;

    let indent = match indent.kind() {
        ValueKind::None => None,
        ValueKind::String => Some(indent.to_string()),
        _ => Some(" ".repeat(indent_width(i64::try_from(indent)?)?)),
    };
    let separators = if separators.is_none() {
        Style::default_separators(indent.as_ref())
    } else {
        let part = |index: usize| separators.get_item(&Value::from(index));
        (part(0)?.to_string(), part(1)?.to_string())
    };
    let style = Style {
        ensure_ascii: ensure_ascii.is_true(),
        indent,
        separators,
        sort_keys: sort_keys.is_true(),
    };
    dumps(value, &style)
}

/// Levels of lists and dictionaries that are written.
const DEPTH: usize = 128;

/// The number of spaces of an indent; one below zero is none, as in Python.
fn indent_width(indent: i64) -> Result<usize, Error> {
    match usize::try_from(indent.max(0)) {
        Ok(width @ 0..=100) => Ok(width),
        _ => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("an indent of {indent} is too wide; use at most 100"),
        )),
    }
}

/// The arguments of `json.dumps` that a template can set.
#[derive(Debug)]
struct Style {
    /// Write every character beyond ASCII as `\uXXXX`.
    ensure_ascii: bool,
    /// What one level is indented by; without it everything is one line.
    indent: Option<String>,
    /// Between items, and between a key and its value.
    separators: (String, String),
    /// Order keys by their text instead of keeping the order given.
    sort_keys: bool,
}

impl Style {
    /// The separators Python chooses when none are given.
    fn default_separators(indent: Option<&String>) -> (String, String) {
        let item = if indent.is_some() { "," } else { ", " };
        (item.to_owned(), ": ".to_owned())
    }
}

/// `json.dumps(value)` in the given style.
///
/// # Errors
/// For what Python refuses too: undefined values, functions, keys that are not plain values.
fn dumps(value: &Value, style: &Style) -> Result<String, Error> {
    let mut out = String::new();
    write_value(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_value(out: &mut String, value: &Value, style: &Style, level: usize) -> Result<(), Error> {
    if level > DEPTH {
        let message = format!("lists and dictionaries are nested more than {DEPTH} deep");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    match value.kind() {
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default(), style),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(|item| (None, item)).collect();
            write_container(out, ['[', ']'], items, style, level)?;
        }
        ValueKind::Map => {
            let mut items = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                items.push((Some(key_text(&key)?), item));
            }
            if style.sort_keys {
                items.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            write_container(out, ['{', '}'], items, style, level)?;
        }
        _ => out.push_str(&scalar_text(value)?),
    }
    Ok(())
}

fn write_container(
    out: &mut String,
    [open, close]: [char; 2],
    items: Vec<(Option<String>, Value)>,
    style: &Style,
    level: usize,
) -> Result<(), Error> {
    let new_line = |out: &mut String, level: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), level));
        }
    };
    out.push(open);
    let empty = items.is_empty();
    for (index, (key, item)) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(&style.separators.0);
        }
        new_line(out, level + 1);
        if let Some(key) = key {
            write_string(out, &key, style);
            out.push_str(&style.separators.1);
        }
        write_value(out, &item, style, level + 1)?;
    }
    if !empty {
        new_line(out, level);
    }
    out.push(close);
    Ok(())
}

/// A key of an object, which JSON only has as text.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => scalar_text(key),
    }
}

/// A value that is neither text nor a container.
fn scalar_text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::Number => match f64::try_from(value.clone())? {
            number if number.is_nan() => Ok("NaN".to_owned()),
            number if number.is_infinite() && number > 0.0 => Ok("Infinity".to_owned()),
            number if number.is_infinite() => Ok("-Infinity".to_owned()),
            number => Ok(float_text(number)),
        },
        kind => Err(Error::new(
            ErrorKind::BadSerialization,
            format!("a value of type {kind} cannot be written as JSON"),
        )),
    }
}

fn write_string(out: &mut String, text: &str, style: &Style) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{C}' => out.push_str("\\f"),
            c if c < ' ' || (style.ensure_ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A finite number as Python's `repr` writes it: the shortest digits that read back as the same
/// number, with an exponent below 1e-4 and from 1e16 on.
fn float_text(number: f64) -> String {
    // Rust chooses the same digits, but never an exponent by itself.
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(-4..=15) | Err(_) => format!("{number:?}"),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(indent: Option<&str>) -> Style {
        let indent = indent.map(str::to_owned);
        Style {
            ensure_ascii: false,
            separators: Style::default_separators(indent.as_ref()),
            indent,
            sort_keys: false,
        }
    }

    fn sample() -> Value {
        Value::from_pairs([
            ("town", Value::from("Zürich <&'>\"\\\n\u{1}")),
            ("days", Value::from(vec![Value::from(1), Value::from(true), Value::from(())])),
            ("none", Value::from_pairs([("a", 1); 0])),
            ("empty", Value::from(Vec::<Value>::new())),
        ])
    }

    fn render(source: &str) -> Result<String, String> {
        let mut env = minijinja::Environment::new();
        env.add_filter("tojson", tojson);
        env.render_str(source, ()).map_err(|e| e.to_string())
    }

    #[test]
    fn tojson_takes_its_arguments_as_python_does() {
        assert_eq!(
            render("{{ [1, {'b': 2}] | tojson(indent=1) }}").unwrap(),
            "[\n 1,\n {\n  \"b\": 2\n }\n]"
        );
        assert_eq!(render("{{ [1, 2] | tojson(separators=(',', ':')) }}").unwrap(), "[1,2]");
        assert_eq!(render("{{ 'é' | tojson(true) }}").unwrap(), "\"\\u00e9\"");
        assert!(render("{{ 1 | tojson(colour=2) }}").is_err());
        assert!(render("{{ 1 | tojson(indent=101) }}").unwrap_err().contains("101"));
    }

    #[test]
    fn one_line_has_pythons_spaces_and_no_html_escapes() {
        assert_eq!(
            dumps(&sample(), &style(None)).unwrap(),
            r#"{"town": "Zürich <&'>\"\\\n\u0001", "days": [1, true, null], "none": {}, "empty": []}"#
        );
    }

    #[test]
    fn indented_lines_end_without_a_space_and_empty_containers_stay_closed() {
        let value = Value::from_pairs([
            ("a", Value::from(vec![1, 2])),
            ("b", Value::from(Vec::<i32>::new())),
        ]);
        let expected = "{\n\t\"a\": [\n\t\t1,\n\t\t2\n\t],\n\t\"b\": []\n}";
        assert_eq!(dumps(&value, &style(Some("\t"))).unwrap(), expected);
    }

    #[test]
    fn ascii_output_writes_surrogate_pairs() {
        let style = Style { ensure_ascii: true, ..style(None) };
        assert_eq!(dumps(&Value::from("é🦀"), &style).unwrap(), r#""\u00e9\ud83e\udd80""#);
    }

    #[test]
    fn keys_are_sorted_only_when_asked() {
        let value = Value::from_pairs([("b", 1), ("a", 2)]);
        assert_eq!(dumps(&value, &style(None)).unwrap(), r#"{"b": 1, "a": 2}"#);
        let sorted = Style { sort_keys: true, ..style(None) };
        assert_eq!(dumps(&value, &sorted).unwrap(), r#"{"a": 2, "b": 1}"#);
    }

    #[test]
    fn numbers_are_pythons() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (2.5, "2.5"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e300, "1.25e+300"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(float_text(number), text);
        }
        assert_eq!(dumps(&Value::from(f64::NAN), &style(None)).unwrap(), "NaN");
        assert_eq!(dumps(&Value::from(f64::NEG_INFINITY), &style(None)).unwrap(), "-Infinity");
        assert_eq!(dumps(&Value::from(u64::MAX), &style(None)).unwrap(), u64::MAX.to_string());
    }

    #[test]
    fn undefined_is_an_error() {
        let value = Value::from(vec![Value::UNDEFINED]);
        assert!(dumps(&value, &style(None)).unwrap_err().to_string().contains("undefined"));
    }
}
