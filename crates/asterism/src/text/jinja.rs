//! The dialect of Jinja that chat templates are written in.
//!
//! Receives the source of a template; returns an environment that renders it as Transformers does:
//! blocks take their line with them, nothing is escaped, undefined variables are empty, strings
//! and dictionaries have Python's methods, and `raise_exception`, `strftime_now` and a plain
//! `tojson` exist. minijinja brings most of it; this file, `json.rs` and `python.rs` add what it
//! leaves out. A template is a program of somebody else's: its time, its memory and its depth are
//! limited. Source: `_compile_jinja_template` in `transformers/utils/chat_template_utils.py`,
//! version 5.
//!
//! Known differences: `strftime_now` is in UTC; floats printed without `tojson` have no exponent;
//! `.title()` leaves the letter after an apostrophe alone; `none` can be looped over. `'%s' % x`,
//! `int` of a word and a few rare filters and methods (`zfill`, `urlencode`) are errors here.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Tuple, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::guard::guarded;
use super::source::{PLAIN, bounded};
use super::{TextError, json, python};

/// Levels of lists and dictionaries that a namespace keeps.
const DEPTH: usize = 64;
/// What a rendering may take, in the engine's unit of one instruction or 64 bytes of data: this
/// much, and [`FUEL_PER_BYTE`] of what is rendered. Published templates take some thousands.
const FUEL: u64 = 500_000;
/// One for two bytes: every byte may be copied some thirty times.
const FUEL_PER_BYTE: f64 = 0.5;
/// Characters of an error that are shown.
const MOST_WORDS: usize = 500;
/// Bytes of the stack that templates are read and rendered on. Only what is used takes memory.
const STACK: usize = 256 << 20;

/// The name the template has in the environment and in error messages.
pub(super) const NAME: &str = "chat template";

/// An environment with one template, [`NAME`].
///
/// # Errors
/// [`TextError::BadTemplate`] if `source` is not valid Jinja.
pub(super) fn environment(source: &str) -> Result<Environment<'static>, TextError> {
    let bad = |e: Error| TextError::BadTemplate { reason: explain(&e) };
    let source = bounded(source).map_err(|reason| TextError::BadTemplate { reason })?;
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
    env.add_function(PLAIN, plain);
    set_clock(&mut env, now);
    with_stack(|| env.add_template_owned(NAME, source))
        .map_err(|reason| TextError::BadTemplate { reason })?
        .map_err(bad)?;
    Ok(env)
}

/// Renders the template, within [`FUEL`] for a `context` that holds `bytes`.
///
/// # Errors
/// [`TextError::Render`], with the template's words or the limit that it broke.
pub(super) fn render(
    env: &Environment<'_>,
    context: Value,
    bytes: usize,
) -> Result<String, TextError> {
    let mut env = env.clone();
    env.set_fuel(Some(FUEL + (bytes as f64 * FUEL_PER_BYTE) as u64));
    let rendered = with_stack(|| env.get_template(NAME).and_then(|t| t.render(context)));
    rendered.and_then(|text| text.map_err(|e| explain(&e))).map_err(|reason| {
        let out = reason.contains("engine ran out of fuel");
        let why = if out { " (it takes too long, or makes too much text)" } else { "" };
        TextError::Render { reason: reason + why }
    })
}

/// Runs `work` on a stack that the nesting of a template within its limits does not overflow,
/// whatever the caller's is, and turns its panics into errors.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).name(NAME.to_owned());
        let thread = thread.spawn_scoped(scope, || guarded(work)).map_err(|e| e.to_string())?;
        thread.join().unwrap_or_else(|_| Err("it panicked".to_owned()))
    })
}

/// A value on its way into a namespace, with everything in it made: what is only a recipe (a slice
/// of a slice of a range) would be followed anew each time, through all that it was made of. A
/// namespace in a namespace could hold itself.
fn plain(state: &State<'_, '_>, values: Rest<Value>) -> Result<Value, Error> {
    match &values[..] {
        [value] => made(state, value, DEPTH),
        several => Ok(several
            .iter()
            .map(|value| made(state, value, DEPTH))
            .collect::<Result<Vec<_>, _>>()?
            .into()),
    }
}

fn made(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<Value, Error> {
    let refused = |reason: String| Err(Error::new(ErrorKind::InvalidOperation, reason));
    state.consume_fuel(1)?;
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(value.clone());
    }
    if value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace")) {
        return refused("a namespace cannot be kept in a namespace here".to_owned());
    }
    let Some(depth) = depth.checked_sub(1) else {
        return refused(format!("lists and dictionaries are nested more than {DEPTH} deep"));
    };
    if value.kind() == ValueKind::Map {
        let mut pairs = Vec::new();
        for key in value.try_iter()? {
            let item = made(state, &value.get_item(&key)?, depth)?;
            pairs.push((key, item));
        }
        return Ok(Value::from_pairs(pairs));
    }
    let is_tuple = value.is_tuple();
    let items = value.try_iter()?.map(|item| made(state, &item, depth));
    let items = items.collect::<Result<Vec<Value>, _>>()?;
    Ok(if is_tuple { Value::from(Tuple::from(items)) } else { items.into() })
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
    // A template may say whatever it likes, as long as it likes.
    match text.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
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
        super::render(&env, context, 0).map_err(|e| e.to_string())
    }

    #[test]
    fn templates_without_end_are_errors() {
        let grow = |step: &str| {
            format!(
                "{{% set ns = namespace(x=[1], s='aaaaaaaa') %}}{{% for i in range(99999) %}}\
                 {{% for i in range(99999) %}}{step}{{% endfor %}}{{% endfor %}}{{{{ ns.x }}}}"
            )
        };
        for source in [
            grow(""),
            grow("{% set ns.x = [ns.x] %}"),
            grow("{% set ns.x = {'a': ns.x} %}"),
            grow("{% set ns.x = ns %}"),
            grow("{% set ns.x = namespace(x=ns) %}"),
            grow("{% set ns.x = [ns] %}"),
            grow("{% set ns.x = ns.x[0:] %}"),
            grow("{% set ns.x = ns.x | zip(ns.x) %}"),
            grow("{% set ns.x = ns.x | chain([1]) %}"),
            grow("{% set ns.x = ns.x + ns.x %}"),
            grow("{% set ns.s = ns.s ~ ns.s %}"),
            grow("{% set ns.s = ns.s.split('a') | join('bb') %}"),
            grow("{% set ns.s = ns.s.replace('a', 'aa') %}"),
            grow("aaaaaaaaaaaaaaaaaaaaaaaa"),
            "{{ '{:100000000000}'.format(1) }}".to_owned(),
            "{{ '{:>1{}}'.format(1, 99999999999) }}".to_owned(),
            "{{ '%100000000000d' | format(1) }}".to_owned(),
            "{{ [1] | tojson(indent=100000000000) }}".to_owned(),
            "{{ 'a\nb' | indent(100000000000) }}".to_owned(),
            "{{ [1] | slice(100000000000) }}{{ [1] | batch(100000000000, 1) }}".to_owned(),
            "{{ ('a' * 20000000).split('a') | length }}".to_owned(),
            "{% macro f(x) %}{{ f([x]) }}{{ f([x]) }}{% endmacro %}{{ f(1) }}".to_owned(),
            "{% for i in [[1]] recursive %}{{ loop([i]) }}{% endfor %}".to_owned(),
            "{% block a %}{{ self.a() }}{% endblock %}".to_owned(),
            format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
            format!("{{{{ 1{} }}}}", " + 1".repeat(100_000)),
            format!("{{{{ x{} }}}}", ".x".repeat(900)),
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(100_000)),
            "{{ messages | tojson }}".replace("messages", &"[".repeat(140)),
        ] {
            let start = std::time::Instant::now();
            assert!(render(&source).is_err(), "{}", &source[..source.len().min(200)]);
            assert!(start.elapsed().as_secs() < 20, "{}", &source[..source.len().min(200)]);
        }
    }

    #[test]
    fn what_a_namespace_keeps_is_what_was_set() {
        let source = "{% set ns = namespace() %}{% set ns.x = [1, (2, 'a'), {'b': none}][0:] %}\
            {% set ns.y = ns.x | map('string') %}{% set ns.z = 1 if ns.x else 2 %}\
            {{ ns.x }}{{ ns.y | length }}{{ ns.z }}";
        assert_eq!(render(source).unwrap(), "[1, (2, 'a'), {'b': None}]31");
    }

    #[test]
    fn deep_expressions_within_the_limits_overflow_no_stack() {
        for source in ["not ", "-", "1 ~ "].map(|op| op.repeat(1990 / op.len())) {
            let source = format!("{{{{ {source}1 }}}}");
            let small = std::thread::Builder::new().stack_size(512 << 10);
            small.spawn(move || drop(render(&source))).unwrap().join().unwrap();
        }
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
        }
    }
}
