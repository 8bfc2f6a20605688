//! The prompts of the twenty tasks, and how they stand around a text.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ChatFrame;

/// Word for word those of BABILong (Apache-2.0), slips included.
const PROMPTS: &str = include_str!("../data/babilong_prompts.json");

/// What a task says before its text.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TaskPrompt {
    instruction: String,
    examples: String,
    post_prompt: String,
}

impl TaskPrompt {
    /// The prompt of `task`; the file is part of the program and holds all of them.
    pub(super) fn of(task: u8) -> Self {
        let mut all: BTreeMap<String, Self> = serde_json::from_str(PROMPTS).unwrap_or_default();
        all.remove(&format!("qa{task}")).unwrap_or_else(|| Self {
            instruction: String::new(),
            examples: String::new(),
            post_prompt: String::new(),
        })
    }

    /// (context, query) as Star Attention's evaluation splits them.
    ///
    /// Both are stripped, so that under Llama 3's chat the query ends at the header and the model
    /// itself begins its answer with the two newlines.
    pub(super) fn split(&self, text: &str, question: &str, frame: &ChatFrame) -> (String, String) {
        let Self { instruction, examples, post_prompt } = self;
        let context = format!(
            "{}{instruction}\n\n{examples}\n\n{post_prompt}\n\n<context>\n{}\n</context>",
            frame.head,
            text.trim()
        );
        let query = format!("Question: {question}{}", frame.tail);
        (format!("{}\n\n", context.trim()), query.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_its_prompt() {
        for task in 1..=20 {
            let prompt = TaskPrompt::of(task);
            assert!(prompt.instruction.starts_with("I "), "qa{task}");
            assert!(prompt.examples.matches("</example>").count() >= 2, "qa{task}");
            assert!(prompt.post_prompt.contains("o not write anything else"), "qa{task}");
        }
        assert!(TaskPrompt::of(1).post_prompt.contains("’person’"));
        assert!(TaskPrompt::of(10).examples.ends_with("</example>\n<context>\n"));
    }

    #[test]
    fn the_query_ends_where_the_reference_strips_it() {
        let prompt = TaskPrompt::of(1);
        let (context, query) = prompt.split(" text \n", "Where is John? ", &ChatFrame::llama3());
        assert!(
            context.starts_with("<|begin_of_text|>") && context.ends_with("\ntext\n</context>\n\n")
        );
        assert_eq!(
            query,
            "Question: Where is John? <|eot_id|><|start_header_id|>assistant<|end_header_id|>"
        );
        let (_, query) = prompt.split("text", "Where is John? ", &ChatFrame::base());
        assert_eq!(query, "Question: Where is John?");
    }
}
