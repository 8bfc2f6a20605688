"""Prints the hashes of src/ruler/golden.rs for the variant ruler-upstream.

    .venv/bin/pip install numpy==2.4.6
    .venv/bin/python crates/asterism-eval/tests/golden/eval/make_upstream.py

RULER's generators in short, written anew: the same calls of `random` and `numpy.random` in the same order, the same
texts, the same search for the size, with words between white space for tokens. The essay is 5,000 lines whose
sentences nobody disputes, the documents of the question tasks are those of `with_files` in src/ruler/tests.rs.
"""

import hashlib
import random
import string
import uuid
from pathlib import Path

import numpy as np

LISTS = Path(__file__).resolve().parents[3] / "src/data/wonderwords"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
ESSAY = " ".join(f"Line {line} has words." for line in range(5000)).split()
DEPTHS = [int(depth) for depth in np.round(np.linspace(0, 100, 40))]
HEAD = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
TAIL = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


def listed(name):
    return [line.rstrip() for line in (LISTS / f"{name}list.txt").read_text().splitlines()]


NOUNS, ADJECTIVES, VERBS = listed("noun"), listed("adjective"), listed("verb")
PAIRS = sorted({f"{adjective}-{noun}" for adjective in ADJECTIVES for noun in NOUNS})
POOL = sorted(set(NOUNS + ADJECTIVES + VERBS))
random.Random(42).shuffle(POOL)


def tokens(text):
    return len(text.split())


def fit(draw, length, step, reserved, probe=None, slack=lambda room: int(room * 3)):
    """The largest size that fits, every trial taking its draws."""
    probe = probe or step
    per_unit = tokens(draw(probe)[0]) / probe
    low, high, best = step, max(slack(length / per_unit), 2 * step), step
    while low <= high:
        middle = (low + high) // 2
        if tokens(draw(middle)[0]) + reserved <= length:
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return best


def samples(draw, length, size, step, reserved, count):
    for index in range(count):
        units = size
        while True:
            text, outputs = draw(units, index)
            if tokens(text) + reserved <= length:
                yield text, outputs, tokens(text) + reserved
                break
            units -= step if units > step else 0


def niah(length, frame, count, hay, key_kind, value_kind, keys, values, queries):
    def one(kind):
        if kind == "numbers":
            return str(random.randint(10**6, 10**7 - 1))
        if kind == "words":
            return random.choice(PAIRS)
        return str(uuid.UUID(int=random.getrandbits(128), version=4))

    def needle(key, value):
        return f"One of the special magic {value_kind} for {key} is: {value}."

    def draw(units, _=0):
        table, needles = [], []
        for _ in range(keys):
            key, row = one(key_kind), []
            for _ in range(values):
                row.append(one(value_kind))
                needles.append(needle(key, row[-1]))
            table.append((key, row))
        random.Random(42).shuffle(needles)
        if hay == "essay":
            text = " ".join((ESSAY * (units // len(ESSAY) + 1))[:units])
            sentences = [part if part.endswith(".") else part + "." for part in text.split(". ")]
            if not text.endswith("."):
                sentences[-1] = sentences[-1][:-1]
            places = sorted(int(len(sentences) * (depth / 100)) for depth in random.sample(DEPTHS, len(needles)))
            parts, last = [], 0
            for place, text in zip(places, needles):
                parts += [" ".join(sentences[last:place]), text]
                last = place
            context = " ".join(parts + [" ".join(sentences[last:])])
        else:
            if hay == "noise":
                lines = [NOISE] * units
            else:
                # The key is drawn before the value.
                lines = [needle(one(key_kind), one(value_kind)) for _ in range(units)]
            for place, text in zip(sorted(random.sample(range(units), len(needles)), reverse=True), needles):
                lines.insert(place, text)
            context = "\n".join(lines)
        asked = random.sample(range(keys), queries)
        names = [table[i][0] for i in asked]
        query = ", ".join(names[:-1]) + ", and " + names[-1] if queries > 1 else names[0]
        template = (
            frame[0] + "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will "
            "quiz you about the {kind} afterwards.\n{context}\nWhat are all the special magic {kind} for {query} "
            "mentioned in the provided text?" + frame[1] + " The special magic {kind} for {query} mentioned in the "
            "provided text are"
        )
        kind = value_kind
        if queries * values == 1:
            for old, new in [("Some", "A"), ("are all", "is"), ("are", "is"), ("answers", "answer")]:
                template = template.replace(old, new)
            kind = kind[:-1]
        return template.format(kind=kind, context=context, query=query), [v for i in asked for v in table[i][1]]

    step = 500 if hay == "essay" else 25 if length >= 4096 else 5
    size = fit(draw, length, step, 128)
    return samples(draw, length, size, step, 128, count)


def vt(length, frame, count):
    texts = (
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\nQuestion: "
        "Find all variables that are assigned the value {query} in the text above.",
        " Answer: According to the chain(s) of variable assignment in the text above, {n} variables are assigned the "
        "value {query}, they are: ",
    )

    def letters(k):
        return "".join(random.choices(string.ascii_uppercase, k=k))

    def bare(units, example):
        names = [letters(3 if example else 5) for _ in range(5)]
        assert len(set(names)) == 5
        value = "12345" if example else str(np.random.randint(10000, 99999))
        chain = [f"VAR {names[0]} = {value}"]
        chain += [f"VAR {name} = VAR {before} " for before, name in zip(names, names[1:])]
        lines = [NOISE] * units
        for extra, place in enumerate(sorted(random.sample(range(units), 5))):
            lines.insert(place + extra, chain[extra])
        context = "\n".join(lines).replace(". \n", ".\n")
        head, tail = ("", "") if example else frame
        return (head + texts[0] + tail + texts[1]).format(context=context, query=value, n=5), names

    def draw_example(units, _=0):
        return bare(units, True)

    size = fit(draw_example, 500, 5, 0)
    text, names, _ = next(samples(draw_example, 500, size, 5, 0, 1))
    example = text + " " + " ".join(names) + "\n"

    def draw(units, _=0):
        text, outputs = bare(units, False)
        renamed = example
        for name in names:
            renamed = renamed.replace(name, letters(len(name)))
        renamed = renamed.replace("12345", str(np.random.randint(10000, 99999)))
        at = text.index("Memorize and track t")
        return text[:at] + renamed + "\n" + text[at:], outputs

    step = 10 if length >= 4096 else 5
    size = fit(lambda units: bare(units, False), length, step, tokens(example) + 30)
    return samples(draw, length, size, step, 30, count)


def numbered(words):
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))


def cwe(length, frame, count):
    def listed(words, common, other):
        drawn = random.sample(POOL, words)
        text = drawn[:10] * common + drawn[10:] * other
        random.Random(42).shuffle(text)
        return numbered(text), drawn[:10]

    def draw(units, _=0):
        example, answer = listed(20, 3, 1) if length < 4096 else listed(40, 10, 3)
        context, outputs = listed(units, 6, 1) if length < 4096 else listed(units, 30, 3)
        template = (
            frame[0] + "Below is a numbered list of words. In these words, some appear more often than others. Memorize "
            "the ones that appear most often.\n{context}\nQuestion: What are the 10 most common words in the above list?"
            + frame[1] + " Answer: The top 10 words that appear most often in the list are:"
        )
        shown = template.format(context=example) + " " + numbered(answer)
        return shown + "\n" + template.format(context=context), outputs

    size = fit(draw, length, 10, 120, probe=4096, slack=lambda room: int(room) * 2)
    return samples(draw, length, size, 10, 120, count)


def fwe(length, frame, count):
    filled = length - 50

    def vocabulary():
        words = ["".join(random.choices(string.ascii_lowercase, k=6)) for _ in range(length // 50)]
        assert len(set(words)) == len(words)
        words.sort()
        random.Random(42).shuffle(words)
        words[0] = "..."
        return words

    def text_of(words, units):
        ranks = np.arange(1, len(words) + 1)
        counts = (units * (ranks**-2.0) / (np.pi**2 / 6)).astype(int)
        text = [word for word, times in zip(words, counts) for _ in range(times)]
        random.Random(42).shuffle(text)
        return (
            frame[0] + "Read the following coded text and track the frequency of each coded word. Find the three most "
            f"frequently appeared coded words. {' '.join(text)}\nQuestion: Do not provide any explanation. Please ignore "
            "the dots '....'. What are the three most frequently appeared words in the above coded text?" + frame[1] +
            " Answer: According to the coded text above, the three most frequently appeared words are:"
        )

    step, size, words = filled // 32, filled // 6, vocabulary()
    while tokens(text_of(words, size)) < filled:
        size += step
    size -= step
    for _ in range(count):
        words, units = vocabulary(), size
        while tokens(text_of(words, units)) > filled:
            units -= step
        text = text_of(words, units)
        yield text, words[1:4], tokens(text) + 50


def qa(length, frame, count, squad):
    questions = []
    if squad:
        article = lambda a: [f"Paragraph {i} of article {a} says gold{a}x{i}. " + "Filler. " * 20 for i in range(6)]
        documents = sorted({text for a in range(5) for text in article(a)})
        for a in range(5):
            for i, text in enumerate(article(a)):
                more = [documents.index(other) for other in article(a) if other != text]
                answers = [f"gold{a}x{i}", "it"]
                questions.append((f"What does {i} of {a} say?", answers, [documents.index(text)], more))
    else:
        about = lambda q: [f"Title {q}.{d}\nFact {q}.{d}." + " More. " * 30 for d in range(10)]
        documents = sorted({text for q in range(8) for text in about(q)})
        for q in range(8):
            questions.append((f"Hotpot {q}?", [f"Fact {q}.3"], [documents.index(text) for text in about(q)], []))

    def draw(units, index=0):
        query, answers, gold, more = questions[index]
        if units < len(documents):
            if units - len(gold) > len(more):
                others = [i for i in range(len(documents)) if i not in gold + more]
                chosen = gold + more + random.sample(others, units - len(gold) - len(more))
            else:
                chosen = gold + random.sample(more, units - len(gold))
        else:
            chosen = (list(range(len(documents))) * (units // len(documents) + 1))[:units]
        texts = [documents[i] for i in chosen]
        random.Random(42).shuffle(texts)
        context = "\n\n".join(f"Document {i}:\n{text}" for i, text in enumerate(texts, 1))
        asked = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
        return (
            f"{frame[0]}{asked}\n\nThe following are given documents.\n\n{context}\n\n{asked}\n\nQuestion: {query}"
            f"{frame[1]} Answer:"
        ), answers

    size = fit(draw, length, 10, 32)
    return samples(draw, length, size, 10, 32, count)


NIAH = {
    "niah_single_1": ("noise", "words", "numbers", 1, 1, 1),
    "niah_single_2": ("essay", "words", "numbers", 1, 1, 1),
    "niah_single_3": ("essay", "words", "uuids", 1, 1, 1),
    "niah_multikey_1": ("essay", "words", "numbers", 4, 1, 1),
    "niah_multikey_2": ("needle", "words", "numbers", 1, 1, 1),
    "niah_multikey_3": ("needle", "uuids", "uuids", 1, 1, 1),
    "niah_multivalue": ("essay", "words", "numbers", 1, 4, 1),
    "niah_multiquery": ("essay", "words", "numbers", 4, 1, 4),
}
TASKS = {name: lambda *args, shape=shape: niah(*args, *shape) for name, shape in NIAH.items()}
TASKS |= {"vt": vt, "cwe": cwe, "fwe": fwe}
TASKS |= {"qa_1": lambda *args: qa(*args, True), "qa_2": lambda *args: qa(*args, False)}

for task, make in TASKS.items():
    for name, length in [("base", 2000), ("llama3", 4096)]:
        random.seed(42)
        np.random.seed(42)
        frame = ("", "") if name == "base" else (HEAD, TAIL)
        *_, (text, outputs, used) = make(length, frame, 3)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        print(f'    ("{task}", "{name}", {length}, {used}, "{digest}", "{" ".join(outputs)}"),')
