"""The engine in Python: what it answers, streams, edits, keeps, refuses, and how it is stopped."""

import _thread
import threading
import time

import asterism
import numpy as np
import pytest

QUESTION = "What is the access code for the Lisbon vault?"
PROSE = "The grass is green. The sky is blue. The sun is yellow. Here we go. " * 30
NOTE = f"{PROSE}The access code for the Lisbon vault is 48213. {PROSE}"


@pytest.fixture(scope="module")
def engine():
    return asterism.Engine("nano", device="cpu")


@pytest.fixture(scope="module")
def note(engine):
    return engine.encode(NOTE, method="star:block=512:anchor=128", name="note")


def test_an_answer_is_its_text(note):
    answer = note.ask(QUESTION, max_tokens=24)
    assert "48213" in str(answer) and answer.text == str(answer)
    assert answer.tokens.dtype == np.uint32 and len(answer.tokens) > 3
    assert answer.finish == "eos"
    assert answer.timings["question_tokens"] > 5 and answer.timings["decode_s"] > 0
    assert list(answer) == [answer.text] and list(answer) == []


def test_a_stream_yields_the_pieces_of_the_answer(note):
    whole = note.ask(QUESTION).text
    stream = note.ask(QUESTION, stream=True)
    pieces = list(stream)
    assert len(pieces) > 3 and "".join(pieces) == whole == str(stream)
    # Begun, and the rest at once.
    stream = note.ask(QUESTION, stream=True)
    first = next(stream)
    assert str(stream) == whole and first + next(stream) == whole
    stream = note.ask(QUESTION, stream=True)
    next(stream)
    stream.stop()
    assert stream.finish == "stop" and len(str(stream)) < len(whole)


def test_many_questions_are_answered_as_each_alone(note):
    questions = [QUESTION, "What colour is the sky?", "What colour is the grass?"]
    together = note.ask_many(questions, max_tokens=12)
    for question, answer in zip(questions, together):
        assert answer.tokens.tolist() == note.ask(question, max_tokens=12).tokens.tolist()


def test_sources_show_the_passage(note):
    asked = note.ask(QUESTION, sources=True).sources
    assert "48213" in asked[0].text and asked[0].document == "text"
    start, end = asked[0].span
    assert start < end and asked[0].block[0] <= start and end <= asked[0].block[1]
    # Without asking for them before, they are the same.
    later = note.ask(QUESTION).sources
    assert [one.span for one in later] == [one.span for one in asked]


def test_sampling_is_the_same_for_a_seed_and_stops_end_it(note):
    def tokens(seed):
        answer = note.ask(QUESTION, temperature=5.0, seed=seed, max_tokens=12)
        return answer.tokens.tolist()

    assert tokens(1) == tokens(1) != tokens(2)
    assert note.ask(QUESTION, stop=["13"]).text.endswith("482")


def test_progress_and_plan_say_what_there_is_to_do(engine):
    heard = []
    plan = engine.plan(NOTE, method="star:block=256:anchor=64")
    context = engine.encode(NOTE, method="star:block=256:anchor=64", hosts=2, progress=heard.append)
    assert heard == sorted(heard) and heard[-1] == 1.0
    assert len(context) == plan.tokens == len(context.tokens)
    assert context.plan.blocks == plan.blocks and context.plan.hosts == 2
    assert plan.kv_bytes == context.timings["kv_bytes"] and plan.memory_bytes > plan.kv_bytes
    assert engine.plan(1 << 17, method="dense").flops > engine.plan(
        1 << 17, method="star:block=4k:anchor=1k"
    ).flops

    class Bar:
        total, n, is_closed = 100, 0.0, False

        def update(self, count):
            self.n += count

        def close(self):
            self.is_closed = True

    bar = Bar()
    engine.encode(PROSE, method="star:block=64", progress=bar)
    assert abs(bar.n - 100) < 1e-6 and bar.is_closed


def test_methods_are_the_words_of_the_command_line(engine):
    pressed = engine.encode(NOTE, method="star:block=1/2:anchor=1/4:keep=50%:press=knorm")
    assert len(pressed.plan.blocks) == 2
    assert pressed.ask(QUESTION).text
    sparse = engine.encode(NOTE, method="star:block=512:sparse=streaming:sink=128:window=256")
    assert sparse.ask(QUESTION).text
    with pytest.raises(ValueError, match="all keys are kept"):
        engine.plan(NOTE, method="star:press=knorm")


def test_an_edit_encodes_what_changed(engine):
    before = engine.encode({"note": NOTE}, method="star:block=256:anchor=64", slack=32)
    after = before.edit({"note": NOTE.replace("48213", "77777")})
    assert "77777" in str(after.ask(QUESTION)) and "48213" in str(before.ask(QUESTION))
    became = [change for _, _, change in after.changes]
    assert became.count("edited") == 1 and became.count("reused") == len(became) - 1


def test_a_saved_context_is_loaded(engine, note, tmp_path):
    note.save(tmp_path / "kept")
    again = engine.load(tmp_path / "kept")
    assert again.name == "kept" and again.timings["is_loaded"]
    assert again.ask(QUESTION).tokens.tolist() == note.ask(QUESTION).tokens.tolist()
    with pytest.raises(asterism.errors.SavedNotFound):
        engine.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        engine.load(tmp_path / "nothing")


def test_tokens_go_in_and_out_as_arrays(engine):
    tokens = engine.tokenize(NOTE)
    assert tokens.dtype == np.uint32 and engine.detokenize(tokens) == NOTE
    context = engine.encode(tokens, method="star:block=512:anchor=128")
    assert np.array_equal(context.tokens, tokens)
    answer = context.ask(engine.tokenize(QUESTION), max_tokens=4, logits=True)
    assert answer.logits.shape == (engine.vocabulary,) and answer.logits.dtype == np.float32
    assert answer.logits.argmax() == answer.tokens[0]
    with pytest.raises(asterism.errors.NoFrame):
        context.ask(QUESTION)


def test_every_code_has_its_exception(engine, note):
    from asterism import _asterism

    assert set(asterism.errors.BY_CODE) == set(_asterism.CODES)
    for call, error, builtin in [
        (lambda: asterism.Engine("no/such folder/x"), asterism.errors.ModelName, ValueError),
        (lambda: asterism.Engine("./nothing"), asterism.errors.ModelNotFound, FileNotFoundError),
        (lambda: engine.encode(" "), asterism.errors.EmptyContext, ValueError),
        (lambda: note.ask("  "), asterism.errors.EmptyQuestion, ValueError),
        (lambda: note.ask(QUESTION, temperature=-1.0), asterism.errors.BadSampling, ValueError),
        (lambda: note.ask(QUESTION, stop=[""]), asterism.errors.EmptyStop, ValueError),
        (lambda: note.ask(QUESTION, max_tokens=1 << 20), asterism.errors.TooLong, ValueError),
        (
            lambda: engine.encode(NOTE, method="star:block=8:anchor=9"),
            asterism.errors.BadPlan,
            ValueError,
        ),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert isinstance(caught.value, builtin)
        assert isinstance(caught.value, asterism.AsterismError)
        assert caught.value.code == error.code and str(caught.value)
    for method in ("sparse", "dense:block=4", "star:blok=4k", "star:block=4q", "star:revisit=x"):
        with pytest.raises(ValueError, match="method"):
            engine.encode(NOTE, method=method)
    with pytest.raises(ValueError, match="dtype"):
        asterism.Engine(dtype="f16")
    with pytest.raises(ValueError, match="unknown device"):
        asterism.Engine(device="tpu")


def test_ctrl_c_ends_an_encoding_and_the_engine_goes_on(engine):
    long = NOTE * 12
    began = []

    def interrupt():
        while not began:
            time.sleep(0.01)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.encode(long, method="dense", progress=began.append)
        pytest.fail("it was done before the interrupt was noticed")
    assert time.monotonic() - start < 60 and began[-1] < 1.0
    assert engine.encode(NOTE, method="star:block=512").ask(QUESTION).text


def test_errors_of_progress_end_the_encoding(engine):
    def fail(share):
        raise ZeroDivisionError(share)

    with pytest.raises(ZeroDivisionError):
        engine.encode(NOTE, progress=fail)


def test_other_threads_run_meanwhile(engine):
    ticks = []
    done = threading.Event()

    def tick():
        while not done.wait(0.005):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    engine.encode(NOTE * 3, method="star:block=512:anchor=128")
    took = time.monotonic() - start
    done.set()
    thread.join()
    assert len(ticks) > took / 0.1


def test_help_reads_well():
    import pydoc

    text = pydoc.render_doc(asterism.Engine, renderer=pydoc.plaintext)
    assert "encode(self, /, texts, *, method='star', name=None" in text
    assert "Encodes texts or files into a context." in text
    for kind in (asterism.Engine, asterism.Context, asterism.Answer, asterism.Plan):
        for name, member in vars(kind).items():
            assert name[0] == "_" or member.__doc__, f"{kind.__name__}.{name}"
