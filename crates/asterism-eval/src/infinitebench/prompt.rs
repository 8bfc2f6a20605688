//! The prompts of the ten tasks, split where the context ends, in a chat or without one.

use crate::ChatFrame;

use super::Task;
use super::record::Record;

/// What stands before a context and after it, and the start of the answer.
///
/// The texts are the benchmark's completion prompts word for word; the split and the cues are those
/// of APB's evaluation.
struct Parts {
    before: String,
    after: String,
    cue: &'static str,
}

/// (context, query) around `record`'s context.
///
/// The context ends with the blank line after the text. In a chat the user's turn ends before the
/// cue, with which the answer begins.
pub(super) fn split(task: Task, record: &Record, frame: &ChatFrame) -> (String, String) {
    let Parts { before, after, cue } = parts(task, record);
    let context = format!("{}{before}{}\n\n", frame.head, record.context);
    let query = if frame.tail.is_empty() {
        after
    } else {
        let asked = after.strip_suffix(cue).unwrap_or(&after);
        format!("{asked}{}{cue}", frame.tail)
    };
    (context, query)
}

fn parts(task: Task, record: &Record) -> Parts {
    let input = &record.input;
    let option = |i: usize| record.options.get(i).map_or("", String::as_str);
    let options =
        format!("A. {}\nB. {}\nC. {}\nD. {}\n\n", option(0), option(1), option(2), option(3));
    let (before, after, cue) = match task {
        Task::Passkey => (
            "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I \
             will quiz you about the important information.\n\n"
                .to_owned(),
            format!("{input}\n\n"),
            "The pass key is",
        ),
        Task::NumberString => (
            "There is an important info hidden inside a lot of irrelevant text. Find it. I will quiz you \
             about the important information there.\n\n"
                .to_owned(),
            format!("{input}\n\n"),
            "The sequence of digits is",
        ),
        // The input ends with its own cue.
        Task::KvRetrieval => {
            let cue = "The value associated with the specified key is: ";
            let asked = input.strip_suffix(cue).unwrap_or(input).to_owned();
            let before = "Extract the value corresponding to the specified key in the JSON object below.\n\n";
            (before.to_owned(), asked, if input.ends_with(cue) { cue } else { "" })
        }
        Task::LongbookSumEng => ("Summarize the book below.\n\n".to_owned(), String::new(), "Summary:"),
        Task::LongbookChoiceEng => (
            "Read the book and answer the question.\n\n".to_owned(),
            format!("Question: {input}\n{options}"),
            "The letter of the correct answer is",
        ),
        Task::LongbookQaEng => (
            "Read the book and answer the question. Be very concise in your answer.\n\n".to_owned(),
            format!("Question: {input}\n"),
            "Answer:",
        ),
        Task::LongbookQaChn => {
            ("阅读以下书籍然后回答问题。\n\n".to_owned(), format!("问题：{input}\n"), "答案：")
        }
        Task::MathFind => (format!("{}\n\n", math_prefix(input)), input.clone(), ""),
        Task::CodeDebug => (
            "Following is a Python code where exactly one of the functions/methods has a deliberate error \
             that makes it crash.\n\n"
                .to_owned(),
            format!("Options:\n{options}"),
            "The correct option is:",
        ),
        Task::LongdialogueQaEng => (
            "Below is a dialogue script where one random occurrence of a character name is replaced with \
             \"$$MASK$$\", and you should try to guess who that character is.\n\n"
                .to_owned(),
            String::new(),
            "The name that has been replaced with $$MASK$$ is likely",
        ),
    };
    Parts { before, after: after + cue, cue }
}

/// `What is the largest number in the following list?` for an input that asks for
/// `The largest number of the list`.
fn math_prefix(input: &str) -> String {
    let target = input.find("The ").and_then(|start| {
        let line = input[start..].lines().next()?;
        let end = line.rfind(" of").filter(|&end| end > "The ".len())?;
        Some(line[..end].to_lowercase())
    });
    let target = target.unwrap_or_else(|| "the answer".to_owned());
    format!("What is {target} in the following list?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(input: &str) -> Record {
        Record {
            context: "CONTEXT".to_owned(),
            input: input.to_owned(),
            answers: vec!["a".to_owned()],
            options: ["w", "x", "y", "z"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn prompts_without_a_chat_are_the_benchmarks() {
        let whole = |task, input: &str| {
            let (context, query) = split(task, &record(input), &ChatFrame::base());
            assert!(context.ends_with("CONTEXT\n\n"));
            context + &query
        };
        assert_eq!(
            whole(Task::Passkey, "What is the pass key?"),
            "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I \
             will quiz you about the important information.\n\nCONTEXT\n\nWhat is the pass key?\n\nThe pass \
             key is"
        );
        assert_eq!(
            whole(Task::LongbookChoiceEng, "Who?"),
            "Read the book and answer the question.\n\nCONTEXT\n\nQuestion: Who?\nA. w\nB. x\nC. y\nD. z\n\n\
             The letter of the correct answer is"
        );
        let key = "\nKey: \"K\"\nThe value associated with the specified key is: ";
        assert!(whole(Task::KvRetrieval, key).ends_with(&format!("CONTEXT\n\n{key}")));
        assert_eq!(
            whole(Task::MathFind, "One number only. The second largest number of the list is: "),
            "What is the second largest number in the following list?\n\nCONTEXT\n\nOne number only. The \
             second largest number of the list is: "
        );
        assert_eq!(
            whole(Task::LongbookQaChn, "谁？"),
            "阅读以下书籍然后回答问题。\n\nCONTEXT\n\n问题：谁？\n答案："
        );
    }

    #[test]
    fn a_chat_answers_after_the_cue() {
        let frame = ChatFrame::llama3();
        for (task, end) in [
            (
                Task::Passkey,
                "Who?\n\n<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nThe pass key is",
            ),
            (Task::LongbookSumEng, "Summary:"),
            (Task::LongdialogueQaEng, "is likely"),
            (Task::MathFind, "Who?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
        ] {
            let (context, query) = split(task, &record("Who?"), &frame);
            assert!(context.starts_with("<|begin_of_text|>"));
            assert!(query.ends_with(end), "{query}");
            assert_eq!(query.matches("<|eot_id|>").count(), 1);
        }
        let (_, query) = split(Task::LongbookSumEng, &record(""), &frame);
        assert!(query.starts_with("<|eot_id|>"));
    }
}
