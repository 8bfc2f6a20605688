"""Chats, streams and contexts through the clients that people use."""

import json
import os

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

URL = os.environ["ASTERISM_URL"]
QUESTION = "What is the access code for the Lisbon vault?"
PROSE = "The grass is green. The sky is blue. The sun is yellow. Here we go. " * 40
BOOK = f"{PROSE}The access code for the Lisbon vault is 48213. {PROSE}"


@pytest.fixture(scope="module")
def client():
    return openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def book():
    """A context, which is a model of its own."""
    made = httpx.post(f"{URL}/v1/contexts", timeout=300,
                      json={"name": "vaults", "text": BOOK, "wait": True})
    assert made.status_code in (201, 409), made.text
    return "vaults"


def asked(content, model="nano"):
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def test_a_chat(client):
    answer = client.chat.completions.create(**asked(f"{BOOK}\n\n{QUESTION}"), max_tokens=24)
    assert "48213" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 1000
    assert answer.model_extra["asterism"]["method"] == "star"


def test_a_stream_with_progress(client):
    stream = client.chat.completions.create(
        **asked(f"{BOOK} One more.\n\n{QUESTION}"), stream=True, max_tokens=24,
        extra_body={"return_progress": True})
    # A plain loop, as most programs have it.
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "48213" in text


def test_the_stream_helper(client):
    with client.chat.completions.stream(**asked(f"{BOOK}\n\n{QUESTION}"), max_tokens=24) as stream:
        final = [event for event in stream][-1]
    assert "48213" in stream.get_final_completion().choices[0].message.content, final


def test_usage_comes_when_it_is_asked_for(client):
    stream = client.chat.completions.create(
        **asked("Who?"), stream=True, max_tokens=4, stream_options={"include_usage": True})
    chunks = list(stream)
    assert chunks[-1].usage.completion_tokens == 4 and not chunks[-1].choices


def test_structured_output(client):
    class Vault(BaseModel):
        code: int

    answer = client.chat.completions.create(
        **asked(f"{BOOK}\n\n{QUESTION}"), max_tokens=64, response_format={
            "type": "json_schema", "json_schema": {"name": "vault", "strict": True, "schema": {
                "type": "object", "properties": {"code": {"type": "integer", "maximum": 99999}},
                "required": ["code"], "additionalProperties": False}}})
    assert isinstance(Vault(**json.loads(answer.choices[0].message.content)).code, int)


def test_likely_tokens(client):
    answer = client.chat.completions.create(
        **asked(f"{BOOK}\n\n{QUESTION}"), logprobs=True, top_logprobs=3, max_tokens=5)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == 5 and all(len(token.top_logprobs) == 3 for token in tokens)


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(**asked("Who?", model="nobody"))
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**asked("word " * 200_000))
    assert error.value.code == "context_length_exceeded"
    assert error.value.body["n_ctx"] == 131072


def test_a_context_is_a_model(client, book):
    assert book in [model.id for model in client.models.list()]
    answer = client.chat.completions.create(**asked(QUESTION, model=book), max_tokens=24,
                                            extra_body={"sources": True})
    assert "48213" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens_details.cached_tokens > 1000
    assert answer.model_extra["asterism"]["sources"][0]["places"][0]["document"] == book


def test_langchain_chats_with_a_book(book):
    model = ChatOpenAI(base_url=f"{URL}/v1", api_key="none", model=book, max_tokens=24)
    assert "48213" in model.invoke(QUESTION).content
    assert "48213" in "".join(chunk.content for chunk in model.stream(QUESTION))
    chat = [("system", "Answer in one sentence."), ("human", QUESTION), ("ai", "It is 48213."),
            ("human", QUESTION)]
    assert "48213" in model.invoke(chat).content
