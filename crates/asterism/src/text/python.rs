//! Python's methods of strings and dictionaries, for templates that call them.
//!
//! Receives a value, a method that minijinja does not know for it, and arguments; returns what
//! Python's method of that name gives. `minijinja-contrib` has the common ones; this file adds
//! those that published chat templates use besides.

use minijinja::value::{Kwargs, Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Digits of a width or precision in `str.format`.
const WIDTH_DIGITS: usize = 4;

/// Calls `method` of `value`; what minijinja asks when it does not know a method itself.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, method, args);
    };
    // The engine charges for what a method returns; searching a long text is work too.
    state.consume_fuel(1 + text.len() as u64 / 64)?;
    let triple = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from)));
    match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" => {
            let (mark,): (&str,) = from_args(args)?;
            let (before, after) = text.split_once(mark).unwrap_or((text, ""));
            Ok(triple([before, &text[before.len()..text.len() - after.len()], after]))
        }
        "rpartition" => {
            let (mark,): (&str,) = from_args(args)?;
            let (before, after) = text.rsplit_once(mark).unwrap_or(("", text));
            Ok(triple([before, &text[before.len()..text.len() - after.len()], after]))
        }
        // Each piece takes more than the text in it.
        "split" | "splitlines" => {
            state.consume_fuel(text.len() as u64 / 8)?;
            match method {
                "split" => split(state, value, args),
                _ => unknown_method_callback(state, value, method, args),
            }
        }
        "format" => {
            let mut digits = text.split(|c: char| !c.is_ascii_digit());
            if digits.any(|number| number.len() > WIDTH_DIGITS) {
                let message = format!("a width of more than {WIDTH_DIGITS} digits in {text:.40?}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
            unknown_method_callback(state, value, method, args)
        }
        "rsplit" => {
            state.consume_fuel(text.len() as u64 / 8)?;
            let (sep, most) = split_arguments(args)?;
            let Some(sep) = sep else {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "rsplit needs a separator here",
                ));
            };
            let parts: Vec<&str> = match most {
                Some(most) => text.rsplitn(most.saturating_add(1), &sep).collect(),
                None => text.rsplit(&sep).collect(),
            };
            Ok(parts.into_iter().rev().map(Value::from).collect())
        }
        "index" => {
            let (what,): (&str,) = from_args(args)?;
            match text.find(what) {
                Some(at) => Ok(Value::from(text[..at].chars().count())),
                None => Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
            }
        }
        _ => unknown_method_callback(state, value, method, args),
    }
}

/// `str.split`, whose arguments minijinja takes by position only.
fn split(state: &mut State<'_, '_>, value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (sep, most) = split_arguments(args)?;
    let sep = sep.map_or(Value::from(()), Value::from);
    match most {
        Some(most) => unknown_method_callback(state, value, "split", &[sep, Value::from(most)]),
        None => unknown_method_callback(state, value, "split", &[sep]),
    }
}

/// The separator, if any, and how often to split at most, if limited.
fn split_arguments(args: &[Value]) -> Result<(Option<String>, Option<usize>), Error> {
    let (sep, most, kwargs): (Option<String>, Option<i64>, Kwargs) = from_args(args)?;
    let sep = sep.or(kwargs.get("sep")?);
    let most = most.or(kwargs.get("maxsplit")?);
    kwargs.assert_all_used()?;
    if sep.as_deref() == Some("") {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    Ok((sep, most.and_then(|most| usize::try_from(most).ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of an expression, as Python prints it.
    fn evaluate(expression: &str) -> Result<String, String> {
        let mut env = minijinja::Environment::new();
        env.set_unknown_method_callback(method);
        let context = Value::from_pairs([("text", "Ann: a: b")]);
        env.render_str(&format!("{{{{ {expression} }}}}"), context).map_err(|e| e.to_string())
    }

    #[test]
    fn strings_have_pythons_methods() {
        for (expression, expected) in [
            ("text.split(': ')", "['Ann', 'a', 'b']"),
            ("text.split(': ', 1)", "['Ann', 'a: b']"),
            ("text.split(sep=': ', maxsplit=1)", "['Ann', 'a: b']"),
            ("text.split()", "['Ann:', 'a:', 'b']"),
            ("text.split(none, 1)", "['Ann:', 'a: b']"),
            ("text.split(': ', -1)", "['Ann', 'a', 'b']"),
            ("text.rsplit(': ', 1)", "['Ann: a', 'b']"),
            ("text.rsplit(': ')", "['Ann', 'a', 'b']"),
            ("text.partition(': ')", "('Ann', ': ', 'a: b')"),
            ("text.rpartition(': ')", "('Ann: a', ': ', 'b')"),
            ("text.partition('?')", "('Ann: a: b', '', '')"),
            ("text.rpartition('?')", "('', '', 'Ann: a: b')"),
            ("text.removeprefix('Ann')", ": a: b"),
            ("text.removesuffix(' b')", "Ann: a:"),
            ("text.index('a')", "5"),
            ("text.strip('Anb')", ": a: "),
            ("text.startswith(('B', 'A'))", "True"),
            ("text[::-1].upper()", "B :A :NNA"),
            ("{'a': 1}.get('b', text)", "Ann: a: b"),
        ] {
            assert_eq!(evaluate(expression).unwrap(), expected, "{expression}");
        }
        assert!(evaluate("text.index('?')").unwrap_err().contains("not found"));
        assert!(evaluate("text.split('')").unwrap_err().contains("empty separator"));
    }
}
