"""Scores the predictions of scores.jsonl as the benchmarks' own scripts do, and writes the scores back.

    .venv/bin/pip install rouge_score==0.1.2
    .venv/bin/python crates/asterism-eval/tests/golden/eval/make_scores.py          # fails if a score changes
    .venv/bin/python crates/asterism-eval/tests/golden/eval/make_scores.py --write  # after predictions were added

A transcription of RULER's `string_match_*`, BABILong's `compare_answers` and InfiniteBench's `compute_scores.py` in
their own terms: regular expressions, `replace`, `split`. ROUGE is the package itself. Labels are lists of strings, as
ours are after reading.
"""

import json
import re
import string
import sys
from collections import Counter
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer

FILE = Path(__file__).resolve().parent / "scores.jsonl"
ROUGE = RougeScorer(["rougeLsum"])

# === RULER ===


def clean(text):
    return re.sub(r"[\x00-\x1f]", "\n", text.strip()).strip().lower()


def match_all(pred, refs):
    return sum(ref.lower() in clean(pred) for ref in refs) / len(refs)


def match_part(pred, refs):
    return max(float(ref.lower() in clean(pred)) for ref in refs)


# === BABILong ===

ROOMS = "bathroom bedroom garden hallway kitchen office"
LABELS = {task: ROOMS for task in [1, 2, 3, 4, 11, 12, 13]} | {task: "no yes" for task in [6, 9, 17, 18]}
LABELS |= {
    5: "bill fred jeff mary apple football milk",
    7: "none one three two",
    8: "apple football milk nothing",
    10: "maybe no yes",
    14: "bedroom cinema kitchen office park school",
    15: "cat mouse sheep wolf",
    16: "gray green white yellow",
    19: "e,e e,n e,s n,e n,n n,w s,e s,s s,w w,n w,s w,w",
    20: "bedroom bored garden hungry kitchen thirsty tired",
}


def compare_answers(task, target, output, question):
    output = output.lower().split(".")[0].split("<context>")[0].split("<example>")[0]
    target, labels = target.lower(), set(LABELS[task].split())
    asked = {label for label in labels if label in question.lower()}
    said = {label for label in labels if label in output} - asked
    if "," in target and len(target) > 3:
        parts = target.split(",")
        return all(part in said for part in parts) and len(said) == len(parts)
    return target in said and len(said) == 1


# === InfiniteBench ===


def spaced(text, marks):
    for mark in marks:
        text = text.replace(mark, " ")
    return re.sub(" {2,}", " ", text)


def first_integer(pred, label):
    runs = [run for run in re.split("[^0-9]", pred) if run]
    return label[0] == (runs[0] if runs else "")


def kv(pred, label):
    return label[0] in spaced(pred, "\n:\"'.,?!{}").split()


def dialogue(pred, label):
    return label[0] in spaced(pred.strip(), "\n:\"'.,?!{}").upper().split()


def math_find(pred, label):
    found = re.search(r"\d+\.\d+|\d+", pred, re.ASCII)
    if found is None:
        return False
    # The original raises where a whole label meets a fraction: cut off, as int() of a float does.
    if re.fullmatch(r"-?\d+", label[0]):
        return int(float(found.group())) == int(label[0])
    return float(found.group()) == float(label[0])


def after_cue(pred, cues, wanted):
    """Whether one of `wanted` follows the first cue there is, one character on; None without a cue."""
    for cue in cues:
        at = pred.find(cue)
        if at >= 0:
            rest = pred[at + len(cue) + 1 :]
            return len(pred) > at + len(cue) and any(rest.startswith(text) for text in wanted)
    return None


def code_debug(pred, label):
    name, letter = label
    pred = pred.strip()
    if pred[:2] in (letter + ".", letter + ":"):
        return True
    pred = spaced(pred, ["\n", "`", "'", '"', "-", "*", "Option", "option"])
    return bool(after_cue(pred, ["answer is:", "is:", "answer:", "correct option is:"], [letter, name]))


def choice(pred, label):
    pred = pred.strip()
    if pred == "":
        return False
    if pred[0] in "ABCD":
        return pred[0] in label
    if pred in label:
        return True
    pred = spaced(pred, "\n\"'.,?!{}")
    found = after_cue(pred, ["answer is:", "answer:", "answer is", "option is"], label)
    if found is not None:
        return found
    return next((word in label for word in pred.split() if word in "ABCD"), False)


def f1(pred, truth):
    same = sum((Counter(pred) & Counter(truth)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(pred), same / len(truth)
    return 2 * precision * recall / (precision + recall)


def words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


CHINESE = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)


def characters(text):
    return [c for c in "".join(text.lower().split()) if c not in string.punctuation + CHINESE]


INFINITEBENCH = {
    "passkey": first_integer,
    "number_string": first_integer,
    "kv_retrieval": kv,
    "longdialogue_qa_eng": dialogue,
    "math_find": math_find,
    "code_debug": code_debug,
    "longbook_choice_eng": choice,
    "longbook_qa_eng": lambda pred, label: max(f1(words(pred), words(one)) for one in label),
    "longbook_qa_chn": lambda pred, label: max(f1(characters(pred), characters(one)) for one in label),
    "longbook_sum_eng": lambda pred, label: ROUGE.score_multi(label, pred)["rougeLsum"].fmeasure,
}


def score(line):
    benchmark, task, pred, refs = (line[name] for name in ("benchmark", "task", "prediction", "outputs"))
    if benchmark == "ruler":
        return match_part(pred, refs) if task.startswith("qa") else match_all(pred, refs)
    if benchmark == "babilong":
        return float(compare_answers(int(task[2:]), refs[0], pred, line["question"]))
    return float(INFINITEBENCH[task](pred, refs))


lines = [json.loads(line) for line in FILE.read_text().splitlines()]
changed = [line | {"now": score(line)} for line in lines if abs(line["score"] - score(line)) > 1e-12]
if "--write" in sys.argv:
    text = (json.dumps(line | {"score": score(line)}, ensure_ascii=False) for line in lines)
    FILE.write_text("\n".join(text) + "\n")
elif changed:
    sys.exit("\n".join(json.dumps(line, ensure_ascii=False) for line in changed))
print(f"{len(lines)} predictions, {len(changed)} scores changed")
