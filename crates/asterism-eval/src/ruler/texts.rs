//! What RULER's tasks say, word for word, in its two versions.

use crate::ChatFrame;

use super::Variant;

/// The texts of a family of tasks: `{name}` marks what is filled in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts {
    /// What phase 1 reads.
    pub(super) context: &'static str,
    /// The question.
    pub(super) query: &'static str,
    /// How the answer begins.
    pub(super) prefix: &'static str,
}

pub(super) const NIAH: Texts = Texts {
    context: "Some special magic {type_needle_v} are hidden within the following text. Make sure to memorize \
              it. I will quiz you about the {type_needle_v} afterwards.\n{context}\n",
    query: "What are all the special magic {type_needle_v} for {query} mentioned in the provided text?",
    prefix: " The special magic {type_needle_v} for {query} mentioned in the provided text are",
};

/// As Star Attention's evaluation has it, "assgined" included: those are the published scores.
const VT: Texts = Texts {
    context: "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n\
              {context}\n",
    query: "Question: Find all variables that are assigned the value {query} in the text above.",
    prefix: " Answer: According to the chain(s) of variable assignment in the text above, {num_v} variables \
             are assgined the value {query}, they are: ",
};

const VT_UPSTREAM: Texts = Texts {
    prefix: " Answer: According to the chain(s) of variable assignment in the text above, {num_v} variables \
             are assigned the value {query}, they are: ",
    ..VT
};

pub(super) const CWE: Texts = Texts {
    context: "Below is a numbered list of words. In these words, some appear more often than others. \
              Memorize the ones that appear most often.\n{context}\n",
    query: "Question: What are the 10 most common words in the above list?",
    prefix: " Answer: The top 10 words that appear most often in the list are:",
};

pub(super) const FWE: Texts = Texts {
    context: "Read the following coded text and track the frequency of each coded word. Find the three most \
              frequently appeared coded words. {context}\n",
    query: "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most \
            frequently appeared words in the above coded text?",
    prefix: " Answer: According to the coded text above, the three most frequently appeared words are:",
};

pub(super) const QA: Texts = Texts {
    context: "Answer the question based on the given documents. Only give me the answer and do not output any \
              other words.\n\nThe following are given documents.\n\n{context}\n\n",
    query: "Answer the question based on the given documents. Only give me the answer and do not output any \
            other words.\n\nQuestion: {query}",
    prefix: " Answer:",
};

/// The texts of variable tracking.
pub(super) fn variable_tracking(variant: Variant) -> Texts {
    if variant.is_star() { VT } else { VT_UPSTREAM }
}

impl Texts {
    /// The context with the chat's head, still to be filled in.
    pub(super) fn framed_context(&self, frame: &ChatFrame) -> String {
        format!("{}{}", frame.head, self.context)
    }

    /// The question with the chat's tail and the start of the answer, still to be filled in.
    pub(super) fn framed_query(&self, frame: &ChatFrame) -> String {
        format!("{}{}{}", self.query, frame.tail, self.prefix)
    }
}

/// `template` with each `{name}` of `fields` replaced; other braces, and braces in values, stay.
pub(super) fn fill(template: &str, fields: &[(&str, &str)]) -> String {
    let mut filled =
        String::with_capacity(template.len() + fields.iter().map(|f| f.1.len()).sum::<usize>());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let known = fields.iter().find(|(name, _)| {
            rest[1..].strip_prefix(name).is_some_and(|after| after.starts_with('}'))
        });
        match known {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &rest[name.len() + 2..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

/// A list of strings as Python prints it: the reference counts the tokens of answers written so.
pub(super) fn python_list(items: &[String]) -> String {
    let quoted = items.iter().map(|item| {
        let quote = if item.contains('\'') && !item.contains('"') { '"' } else { '\'' };
        let escaped = item.replace('\\', "\\\\").replace('\n', "\\n");
        let escaped = if quote == '\'' { escaped.replace('\'', "\\'") } else { escaped };
        format!("{quote}{escaped}{quote}")
    });
    format!("[{}]", quoted.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_leaves_other_braces() {
        assert_eq!(fill("{a}{b} {c} {a", &[("a", "{b}"), ("b", "2")]), "{b}2 {c} {a");
    }

    #[test]
    fn lists_read_as_in_python() {
        let items = ["a", "it's", "b\"'"].map(str::to_owned);
        assert_eq!(python_list(&items), r#"['a', "it's", 'b"\'']"#);
    }
}
