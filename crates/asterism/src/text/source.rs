//! The source of a chat template, before the engine reads it.
//!
//! Receives Jinja; returns Jinja that the engine knows and that has bounds:
//!
//! * `{% generation %}` and `{% endgeneration %}`, which mark the parts of a training text that the
//!   assistant wrote and render nothing, become a block of the same scope.
//! * `{% set ns.x = value %}`, the one way to build something in a loop, goes through [`PLAIN`]:
//!   see `jinja.rs`. Lists in lists in lists, a hundred thousand deep, would overflow the stack
//!   where they are printed.
//! * Tags are limited in length, because the engine's parser descends once for each `not`, `-` or
//!   `.x` of an expression, and in number where they nest.

/// The function that values go through on their way into a namespace.
pub(super) const PLAIN: &str = "asterism_plain";

/// Bytes of a template. Published ones have up to a hundred thousand.
const BYTES: usize = 1 << 20;
/// Bytes of one tag, strings in it not counted. Published ones have a few hundred.
const TAG_BYTES: usize = 2000;
/// Branches of conditions, all together.
const BRANCHES: usize = 1000;

/// What a template becomes.
///
/// # Errors
/// Which limit it breaks, and in which line.
pub(super) fn bounded(source: &str) -> Result<String, String> {
    if source.len() > BYTES {
        return Err(format!("it has {} bytes; at most {BYTES} are taken", source.len()));
    }
    // Jinja2 reads every kind of line end as `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let (mut rest, mut branches, mut is_raw) = (source.as_str(), 0, false);
    while let Some(at) = rest.find(if is_raw { "{%" } else { "{" }) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let line = || 1 + source[..source.len() - tag.len()].matches('\n').count();
        let end = match tag.as_bytes().get(1) {
            Some(b'#') => tag[2..].find("#}").map(|end| end + 4),
            Some(b'%') if is_raw => tag[2..].find("%}").map(|end| end + 4),
            Some(open @ (b'%' | b'{')) => {
                let length = tag_length(tag, if *open == b'%' { b'%' } else { b'}' });
                if length.bare > TAG_BYTES {
                    return Err(format!(
                        "a tag in line {} has more than {TAG_BYTES} bytes beside its strings",
                        line()
                    ));
                }
                length.end
            }
            _ => Some(1),
        };
        // Not closed: the engine says so.
        let Some(end) = end else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        rest = after;
        let Some(inside) = tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}")) else {
            out.push_str(tag);
            continue;
        };
        let body = inside.trim_matches(['-', '+']).trim();
        let name = body.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        match name {
            _ if is_raw && name != "endraw" => out.push_str(tag),
            "generation" if body == name => out.push_str(&tag.replacen(name, "with", 1)),
            "endgeneration" if body == name => out.push_str(&tag.replacen(name, "endwith", 1)),
            "set" => match value_of_attribute(inside) {
                Some((target, value, end)) => {
                    out.push_str(&format!("{{%{target}{PLAIN}({value}){end}%}}"));
                }
                None => out.push_str(tag),
            },
            _ => {
                is_raw = name == "raw";
                branches += usize::from(name == "elif");
                if branches > BRANCHES {
                    return Err(format!("it has more than {BRANCHES} branches (elif)"));
                }
                out.push_str(tag);
            }
        }
    }
    Ok(out + rest)
}

/// How long a tag is.
struct Length {
    /// With its end; `None` if it has none.
    end: Option<usize>,
    /// Bytes that are in no string.
    bare: usize,
}

/// Measures the tag at the beginning of `tag`, which ends at `close` and a bracket outside strings.
fn tag_length(tag: &str, close: u8) -> Length {
    let bytes = tag.as_bytes();
    let (mut at, mut bare, mut quote) = (2, 0, None);
    // Dictionaries in an expression end in the same bracket.
    let mut open = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(mark), _) if byte == mark => quote = None,
            (Some(_), _) => {}
            (None, _) => {
                bare += 1;
                match byte {
                    b'"' | b'\'' => quote = Some(byte),
                    b'{' => open += 1,
                    b'}' if open > 0 => open -= 1,
                    _ if byte == close && bytes.get(at) == Some(&b'}') => {
                        return Length { end: Some(at + 1), bare };
                    }
                    _ => {}
                }
            }
        }
    }
    Length { end: None, bare }
}

/// The parts of `set ns.x = value`: what stands before the value, the value, and what stands behind
/// it. `None` for other tags that begin with `set`.
fn value_of_attribute(inside: &str) -> Option<(&str, &str, &str)> {
    let at = inside.find('=')?;
    let (target, value) = inside.split_at(at + 1);
    let name = target.trim_start_matches(['-', '+']).trim_start().strip_prefix("set")?;
    let name = name.strip_suffix('=')?.trim();
    let is_attribute = name.contains('.')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ' ' | '\n' | '\t'));
    let (value, end) = match value.strip_suffix(['-', '+']) {
        Some(shorter) => value.split_at(shorter.len()),
        None => (value, ""),
    };
    (is_attribute && !value.trim().is_empty()).then_some((target, value, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changed(source: &str) -> String {
        bounded(source).unwrap()
    }

    #[test]
    fn generation_tags_become_blocks() {
        assert_eq!(changed("{%+generation%}a{%- endgeneration -%}"), "{%+with%}a{%- endwith -%}");
        assert_eq!(changed("{%}generation%}"), "{%}generation%}");
        assert_eq!(changed("{% generations %}{% generation"), "{% generations %}{% generation");
        assert_eq!(
            changed("{% raw %}{% generation %}{% endraw %}"),
            "{% raw %}{% generation %}{% endraw %}"
        );
        assert_eq!(
            changed("{{ '{% generation %}' }}{# {% generation %} #}"),
            "{{ '{% generation %}' }}{# {% generation %} #}"
        );
    }

    #[test]
    fn values_enter_namespaces_through_one_door() {
        assert_eq!(
            changed("{% set ns.x = [a, '%}'] %}"),
            "{% set ns.x =asterism_plain( [a, '%}'] )%}"
        );
        assert_eq!(changed("{%- set ns.x=-1 -%}"), "{%- set ns.x=asterism_plain(-1 )-%}");
        for other in [
            "{% set x = ns.x %}",
            "{% set ns.x %}a{% endset %}",
            "{% set ns.x | replace('=', '') %}a{% endset %}",
            "{% set x = a == b.c %}",
            "{% settle ns.x = 3 %}",
            "{% if a.b == 1 %}{% endif %}",
        ] {
            assert_eq!(changed(other), other);
        }
    }

    #[test]
    fn long_tags_and_templates_are_refused_by_line() {
        let long = format!("a\n{{{{ {}1 }}}}", "not ".repeat(1000));
        assert!(bounded(&long).unwrap_err().contains("line 2"));
        assert!(bounded(&"{% elif x %}".repeat(1001)).is_err());
        assert!(bounded(&"a".repeat(BYTES + 1)).is_err());
        let text = format!("{{{{ '{}' }}}}", "a".repeat(100_000));
        assert_eq!(changed(&text), text);
    }

    proptest! {
        #[test]
        fn other_text_stays_as_it_is(source in r"([{}%#+'\\-]|raw|end|if|x|=|[ \n.]){0,40}") {
            prop_assert_eq!(changed(&source), source);
        }
    }
}
