//! The dialect of Jinja that chat templates are written in.
//!
//! Receives the source of a template; returns an environment that renders it as Transformers does:
//! blocks take their line with them, nothing is escaped, undefined variables are empty, strings
//! and dictionaries have Python's methods, and `raise_exception`, `strftime_now` and a plain
//! `tojson` exist. minijinja brings most of it; this file adds what it leaves out. Source:
//! `_compile_jinja_template` in `transformers/utils/chat_template_utils.py`, version 5.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::TextError;
use super::json::{self, Style};

/// The name the template has in the environment and in error messages.
pub(super) const NAME: &str = "chat template";

/// An environment with one template, [`NAME`].
///
/// # Errors
/// [`TextError::BadTemplate`] if `source` is not valid Jinja.
pub(super) fn environment(source: &str) -> Result<Environment<'static>, TextError> {
    let bad = |e: Error| TextError::BadTemplate { reason: explain(&e) };
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(false)
        .build();
    env.set_syntax(syntax.map_err(bad)?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_unknown_method_callback(python_method);
    env.add_function("raise_exception", raise_exception);
    env.add_filter("tojson", tojson);
    set_clock(&mut env, now);
    // Jinja2 reads every kind of line end as `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    env.add_template_owned(NAME, without_generation_tags(&source)).map_err(bad)?;
    Ok(env)
}

/// Makes `strftime_now` format the seconds since 1970 that `clock` gives, in UTC.
///
/// Transformers formats local time. A prompt should not depend on where a server stands.
pub(super) fn set_clock(env: &mut Environment<'_>, clock: fn() -> Result<f64, Error>) {
    set_clock_with(env, Arc::new(clock));
}

/// [`set_clock`] for one moment.
pub(super) fn set_moment(env: &mut Environment<'_>, unix_seconds: i64) {
    set_clock_with(env, Arc::new(move || Ok(unix_seconds as f64)));
}

type Clock = Arc<dyn Fn() -> Result<f64, Error> + Send + Sync>;

fn set_clock_with(env: &mut Environment<'_>, clock: Clock) {
    env.add_function("strftime_now", move |state: &State<'_, '_>, format: &str| {
        let format = Kwargs::from_iter([("format", Value::from(format))]);
        minijinja_contrib::filters::datetimeformat(state, Value::from(clock()?), format)
    });
}

fn now() -> Result<f64, Error> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| {
        Error::new(ErrorKind::InvalidOperation, "the system clock is before 1970").with_source(e)
    })?;
    Ok(since_1970.as_secs_f64())
}

/// An error of minijinja with everything it was caused by.
pub(super) fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Replaces `{% generation %}` and `{% endgeneration %}`, which mark the parts of a training text
/// that the assistant wrote and render nothing, by a block of the same scope that minijinja knows.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        let name = tag[2..].trim_matches(['-', '+']).trim();
        match name {
            "generation" => out.push_str(&tag.replacen(name, "with", 1)),
            "endgeneration" => out.push_str(&tag.replacen(name, "endwith", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out + rest
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// `json.dumps` with Transformers' defaults: no ASCII escapes, and no HTML escapes either.
fn tojson(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
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
        _ => Some(" ".repeat(i64::try_from(indent)?.clamp(0, 64) as usize)),
    };
    let separators = match separators.is_none() {
        true => Style::default_separators(indent.as_ref()),
        false => (
            separators.get_item(&Value::from(0))?.to_string(),
            separators.get_item(&Value::from(1))?.to_string(),
        ),
    };
    let style = Style {
        ensure_ascii: ensure_ascii.is_true(),
        indent,
        separators,
        sort_keys: sort_keys.is_true(),
    };
    json::dumps(value, &style)
}

/// Python's methods of strings and dictionaries that minijinja does not have itself.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, method, args);
    };
    let pair = |parts: [&str; 3]| Value::from(parts.map(Value::from).to_vec());
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
            Ok(pair([before, &text[before.len()..text.len() - after.len()], after]))
        }
        "rpartition" => {
            let (mark,): (&str,) = from_args(args)?;
            let (before, after) = text.rsplit_once(mark).unwrap_or(("", text));
            Ok(pair([before, &text[before.len()..text.len() - after.len()], after]))
        }
        "split" => split(state, value, args),
        "rsplit" => {
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let mut env = environment(source).map_err(|e| e.to_string())?;
        set_moment(&mut env, 1_795_435_200);
        let context = Value::from_pairs([("text", "Ann: a: b")]);
        env.get_template(NAME).unwrap().render(context).map_err(|e| explain(&e))
    }

    #[test]
    fn blocks_take_their_line_with_them() {
        let source = "a\n  {% if true %}\n b\n  {% endif %}\nc\n";
        assert_eq!(render(source).unwrap(), "a\n b\nc");
        assert_eq!(render(&source.replace('\n', "\r\n")).unwrap(), "a\n b\nc");
    }

    #[test]
    fn undefined_is_empty_but_has_no_attributes() {
        assert_eq!(render("[{{ x }}{% for y in x %}-{% endfor %}{{ 1 if x }}]").unwrap(), "[]");
        assert!(render("{{ x.y }}").unwrap_err().contains("undefined"));
        assert!(render("{{ x.strip() }}").is_err());
    }

    #[test]
    fn nothing_is_escaped() {
        assert_eq!(
            render("{{ '<&>' }}{{ {'a': '<&>'} | tojson }}").unwrap(),
            "<&>{\"a\": \"<&>\"}"
        );
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
    }

    #[test]
    fn raise_exception_stops_with_its_message() {
        assert!(
            render("a{{ raise_exception('Only two turns.') }}")
                .unwrap_err()
                .contains("Only two turns.")
        );
    }

    #[test]
    fn dates_are_formatted_in_utc() {
        assert_eq!(render("{{ strftime_now('%d %b %Y, %H:%M') }}").unwrap(), "23 Nov 2026, 12:00");
        assert_eq!(render("{{ strftime_now is defined }}").unwrap(), "True");
        let env = environment("{{ strftime_now('%Y') }}").unwrap();
        let year = env.get_template(NAME).unwrap().render(()).unwrap();
        assert!(year.parse::<u32>().unwrap() >= 2026);
    }

    #[test]
    fn loop_controls_and_namespaces_work() {
        let source = "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}\
            {% if i == 4 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}";
        assert_eq!(render(source).unwrap(), "5");
    }

    #[test]
    fn strings_have_pythons_methods() {
        for (expression, expected) in [
            ("text.split(': ')", r#"["Ann", "a", "b"]"#),
            ("text.split(': ', 1)", r#"["Ann", "a: b"]"#),
            ("text.split(sep=': ', maxsplit=1)", r#"["Ann", "a: b"]"#),
            ("text.split()", r#"["Ann:", "a:", "b"]"#),
            ("text.rsplit(': ', 1)", r#"["Ann: a", "b"]"#),
            ("text.partition(': ')", r#"["Ann", ": ", "a: b"]"#),
            ("text.rpartition(': ')", r#"["Ann: a", ": ", "b"]"#),
            ("text.partition('?')", r#"["Ann: a: b", "", ""]"#),
            ("text.rpartition('?')", r#"["", "", "Ann: a: b"]"#),
            ("text.removeprefix('Ann')", r#"": a: b""#),
            ("text.removesuffix(' b')", r#""Ann: a:""#),
            ("text.index('a')", "5"),
            ("text.strip('Anb')", r#"": a: ""#),
            ("text.startswith(('B', 'A'))", "true"),
            ("text[::-1].upper()", r#""B :A :NNA""#),
        ] {
            assert_eq!(
                render(&format!("{{{{ {expression} | tojson }}}}")).unwrap(),
                expected,
                "{expression}"
            );
        }
        assert!(render("{{ text.index('?') }}").unwrap_err().contains("not found"));
        assert!(render("{{ text.split('') }}").unwrap_err().contains("empty separator"));
    }

    #[test]
    fn generation_tags_render_their_content() {
        let source = "a\n{%- generation -%}\n{% set x = 1 %}b{{ x }}\n{%- endgeneration %}\n{{ x }}{% generation";
        assert_eq!(without_generation_tags("{%+generation%}{%"), "{%+with%}{%");
        assert!(render(source).is_err(), "the last tag has no end");
        assert_eq!(render(&source.replace("{% generation", "c")).unwrap(), "ab1c");
    }

    #[test]
    fn a_syntax_error_names_the_line() {
        let error = environment("a\n{% if %}").unwrap_err();
        assert!(matches!(error, TextError::BadTemplate { .. }));
        assert!(error.to_string().contains(":2"), "{error}");
    }
}
