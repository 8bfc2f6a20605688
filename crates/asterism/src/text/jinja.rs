//! The dialect of Jinja that chat templates are written in.
//!
//! Receives the source of a template; returns an environment that renders it as Transformers does:
//! blocks take their line with them, nothing is escaped, undefined variables are empty, strings
//! and dictionaries have Python's methods, and `raise_exception`, `strftime_now` and a plain
//! `tojson` exist. minijinja brings most of it; this file, `json.rs` and `python.rs` add what it
//! leaves out. Source: `_compile_jinja_template` in `transformers/utils/chat_template_utils.py`,
//! version 5.
//!
//! Known differences: `strftime_now` is in UTC; floats printed without `tojson` have no exponent;
//! `.title()` leaves the letter after an apostrophe alone; `none` can be looped over. `'%s' % x`,
//! `int` of a word and a few rare filters and methods (`zfill`, `urlencode`) are errors here.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::{TextError, json, python};

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
    env.set_unknown_method_callback(python::method);
    env.add_function("raise_exception", raise_exception);
    env.add_function("cycler", minijinja_contrib::globals::cycler);
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    env.remove_global("debug");
    env.add_filter("tojson", json::tojson);
    env.add_test("sequence", is_sequence);
    set_clock(&mut env, now);
    // Jinja2 reads every kind of line end as `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    env.add_template_owned(NAME, without_generation_tags(&source)).map_err(bad)?;
    Ok(env)
}

/// Makes `strftime_now` format the seconds since 1970 that `clock` gives, in UTC.
///
/// Transformers formats local time. A prompt should not depend on where a server stands.
pub(super) fn set_clock(
    env: &mut Environment<'_>,
    clock: impl Fn() -> Result<f64, Error> + Send + Sync + 'static,
) {
    let strftime_now = move |state: &State<'_, '_>, format: &str| {
        let format = Kwargs::from_iter([("format", Value::from(format))]);
        minijinja_contrib::filters::datetimeformat(state, Value::from(clock()?), format)
    };
    env.add_function("strftime_now", strftime_now);
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
        let Some(length) = tag[2..].find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(2 + length);
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

/// What has a length and items by position or key in Python: strings and dictionaries as well.
fn is_sequence(value: &Value) -> bool {
    use ValueKind as K;
    matches!(value.kind(), K::Seq | K::String | K::Map | K::Undefined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(source: &str) -> Result<String, String> {
        let mut env = environment(source).map_err(|e| e.to_string())?;
        set_clock(&mut env, || Ok(1_795_435_200.0));
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
        assert!(year.parse::<u32>().unwrap() > 2025);
    }

    #[test]
    fn loop_controls_and_namespaces_work() {
        let source = "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}\
            {% if i == 4 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}";
        assert_eq!(render(source).unwrap(), "5");
    }

    #[test]
    fn generation_tags_render_their_content() {
        let source = "a\n{%- generation -%}\n{% set x = 1 %}b{{ x }}\n{%- endgeneration %}\n{{ x }}{% generation";
        assert_eq!(without_generation_tags("{%+generation%}{%"), "{%+with%}{%");
        assert_eq!(without_generation_tags("{%}generation%}"), "{%}generation%}");
        assert!(render(source).is_err(), "the last tag has no end");
        assert_eq!(render(&source.replace("{% generation", "c")).unwrap(), "ab1c");
    }

    #[test]
    fn a_syntax_error_names_the_line() {
        let error = environment("a\n{% if %}").unwrap_err();
        assert!(matches!(error, TextError::BadTemplate { .. }));
        assert!(error.to_string().contains(":2"), "{error}");
    }

    proptest! {
        #[test]
        fn no_source_panics(source in r"([{}%#+'-]|generation|end|if|for|x|in|\(|\)|\||[ \n.])*") {
            // An error is as good as a text here.
            if let Ok(env) = environment(&source) {
                let _ = env.get_template(NAME).and_then(|template| template.render(()));
            }
            let _ = without_generation_tags(&source);
        }
    }
}
