"""BABILong's tasks with the very prompts of `asterism eval babilong`: facts between book sentences."""

import json
from functools import partial
from pathlib import Path
from random import Random

from data.conversation import BASE, CHAT, Conversation, Frame, Segment
from data.prose import Prose
from data.ruler import draw_frame
from data.stories import Question, Story, two_directions, where_is_person, where_is_thing, who_gave

# The program's own file, so that there is one text of each prompt.
_FILE = Path(__file__).resolve().parents[2] / "crates/asterism-eval/src/data/babilong_prompts.json"
PROMPTS: dict[str, dict[str, str]] = json.loads(_FILE.read_text(encoding="utf-8"))

STORIES = {
    "qa1": where_is_person,
    "qa2": partial(where_is_thing, before=False),
    "qa3": partial(where_is_thing, before=True),
    "qa4": two_directions,
    "qa5": who_gave,
}

SHORTEST_SENTENCE = 35  # characters; BABILong leaves out those below ten tokens
FEWEST_QUESTIONS, MOST_QUESTIONS = 4, 12
LABEL_WEIGHT = 3.0  # the one word that matters


def context(task: str, text: str) -> str:
    prompt = PROMPTS[task]
    return (
        f"{prompt['instruction']}\n\n{prompt['examples']}\n\n{prompt['post_prompt']}"
        f"\n\n<context>\n{text}\n</context>\n\n"
    )


def story_sample(rng: Random, n_chars: int, prose: Prose, task: str) -> list[Segment]:
    """A story and the question of its task, then further ones about the same story."""
    frame = draw_frame(rng)
    story = STORIES[task](rng)
    room = n_chars - len(context(task, "")) - 80
    conversation = Conversation(rng, BABI_CHAT if frame is CHAT else BASE)
    conversation.context(context(task, _mixed(rng, story, room, prose)))
    for question in _distinct(story.questions)[: rng.randint(FEWEST_QUESTIONS, MOST_QUESTIONS)]:
        _ask(conversation, question)
    return conversation.segments


# Stripped as in the reference: the model itself begins with the two line breaks.
BABI_CHAT = Frame(CHAT.head, CHAT.tail.rstrip("\n"), CHAT.again, CHAT.end)


def _ask(conversation: Conversation, question: Question) -> None:
    """Chats keep the space that some questions end with; base prompts are stripped."""
    chat = conversation.chat
    text = "Question: " + (question.text if chat else question.text.rstrip())
    lead = ("\n\n" if chat else "\nAnswer:") + (" " if question.lead and not chat else "") + question.lead
    # In a chat that asks for one word, the answer begins with it, without a space.
    label = question.label if chat and not question.lead else " " + question.label
    parts = [Segment(lead, 1), Segment(label, LABEL_WEIGHT)]
    if question.ends:
        parts.append(Segment(question.ends, 1))
    conversation.ask(text, "", *parts)


def _distinct(questions: list[Question]) -> list[Question]:
    """The first of each wording, in order."""
    return list({question.text: question for question in questions}.values())


def _mixed(rng: Random, story: Story, n_chars: int, prose: Prose) -> str:
    """The facts in order between the sentences of a book, the last of which is cut to fit."""
    left = n_chars - sum(len(fact) + 1 for fact in story.facts)
    noise: list[str] = []
    for sentence in prose.sentences(rng, int(left * 1.15)) if left > 0 else []:
        if len(sentence) < SHORTEST_SENTENCE:
            continue
        if len(sentence) >= left:
            noise.append(sentence[: max(0, left)].rpartition(" ")[0])
            break
        noise.append(sentence)
        left -= len(sentence) + 1
    places = sorted(rng.choices(range(len(noise) + 1), k=len(story.facts)))
    text: list[str] = []
    start = 0
    for place, fact in zip(places, story.facts, strict=True):
        text += [*noise[start:place], fact]
        start = place
    return " ".join(part for part in [*text, *noise[start:]] if part)
