//! A conversation of several turns as what a template writes and what people wrote, apart: only in
//! the first are special tokens special.

use super::{ChatTemplate, Message, TextError};

/// A part of a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// What the template writes around contents.
    Frame(String),
    /// The content of the message of this number.
    Content(usize),
}

/// Stands for the content of message `index` while the template is rendered: plain letters and
/// digits, which no template trims, escapes or rewrites.
fn place(index: usize) -> String {
    format!("AsterismPutsContent{index:06}Here7f3a91c2d5")
}

/// The pieces of `messages` as `template` renders them, the assistant's turn open at the end.
///
/// # Errors
/// [`TextError::Render`] if the template refuses them; [`TextError::MessagePlace`] if it does not
/// put out each content exactly once.
pub(crate) fn pieces(
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<Vec<Piece>, TextError> {
    let placed = |(index, message): (usize, &Message)| Message {
        role: message.role.clone(),
        content: place(index),
    };
    let placed: Vec<Message> = messages.iter().enumerate().map(placed).collect();
    let rendered = template.render(&placed, true)?;
    let mut places = Vec::with_capacity(messages.len());
    for (index, message) in placed.iter().enumerate() {
        let mut found = rendered.match_indices(&message.content).map(|(at, _)| at);
        match (found.next(), found.count()) {
            (Some(at), 0) => places.push((at, index)),
            (first, more) => {
                let count = usize::from(first.is_some()) + more;
                return Err(TextError::MessagePlace { index, count });
            }
        }
    }
    places.sort_unstable();
    let (mut pieces, mut done) = (Vec::new(), 0);
    for (at, index) in places {
        pieces.push(Piece::Frame(rendered[done..at].to_owned()));
        pieces.push(Piece::Content(index));
        done = at + place(index).len();
    }
    pieces.push(Piece::Frame(rendered[done..].to_owned()));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::nano_template;
    use super::*;

    fn messages(all: &[(&str, &str)]) -> Vec<Message> {
        let message = |(role, content): &(&str, &str)| Message {
            role: (*role).into(),
            content: (*content).into(),
        };
        all.iter().map(message).collect()
    }

    #[test]
    fn the_pieces_put_together_are_the_rendered_conversation() {
        let template = nano_template();
        let messages = messages(&[
            ("system", "Be brief."),
            ("user", "Who?"),
            ("assistant", "Me."),
            ("user", "Why?"),
        ]);
        let text: String = pieces(&template, &messages)
            .unwrap()
            .into_iter()
            .map(|piece| match piece {
                Piece::Frame(text) => text,
                Piece::Content(index) => messages[index].content.clone(),
            })
            .collect();
        assert_eq!(text, template.render(&messages, true).unwrap());
    }

    #[test]
    fn a_message_that_a_template_leaves_out_or_repeats_is_named() {
        let template = |source| ChatTemplate::from_files(None, Some(source)).unwrap().unwrap();
        let messages = messages(&[("user", "a"), ("user", "b")]);
        let last = template("{{ messages[-1].content }}");
        let error = pieces(&last, &messages).unwrap_err();
        assert_eq!(error, TextError::MessagePlace { index: 0, count: 0 });
        let twice =
            template("{{ messages[0].content }}{{ messages[1].content }}{{ messages[1].content }}");
        let error = pieces(&twice, &messages).unwrap_err();
        assert_eq!(error, TextError::MessagePlace { index: 1, count: 2 });
    }
}
