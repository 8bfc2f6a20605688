"""Answers: streamed, stopped, traced to their blocks, compared, and never trusted."""

import json

from playwright.sync_api import expect

from server import CODES, QUESTION
from test_contexts import go


def ask(page, question):
    page.fill("#question", question)
    page.keyboard.press("Enter")


def test_an_answer_has_times_and_sources(page, server, asked):
    go(page, server, asked)
    ask(page, QUESTION)
    turn = page.locator(".turn").first
    expect(turn.locator(".text")).to_contain_text(CODES["Lisbon"])
    expect(turn.locator(".times")).to_contain_text("first token")
    expect(turn.locator(".times")).to_contain_text("cached")
    source = turn.locator(".source").first
    expect(source).to_contain_text("book.txt:")
    lit = page.locator(".cells .cell[data-source=true]")
    expect(lit.filter(has_text="source 1 of the answer")).to_have_count(1)
    source.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".passage")).to_contain_text(CODES["Lisbon"])
    expect(dialog.locator("mark").first).to_be_visible()
    expect(dialog).to_contain_text("book.txt")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_from_a_passage_to_its_place_in_the_document(page, server, asked):
    go(page, server, asked)
    ask(page, QUESTION)
    page.locator(".source").first.click()
    page.click("text=Edit here")
    text = page.locator("#document-text")
    # The text comes first, and then the place in it. The browser's own waiting for a condition
    # takes `eval`, which the page's policy forbids.
    for _ in range(100):
        if text.evaluate("area => area.selectionStart") > 0:
            break
        page.wait_for_timeout(50)
    near = text.evaluate(
        "area => area.value.slice(area.selectionStart - 100, area.selectionStart + 300)"
    )
    assert CODES["Lisbon"] in near


def test_a_conversation_outlives_a_reload(page, server, asked):
    go(page, server, asked)
    for city, code in CODES.items():
        page.uncheck("#history")
        ask(page, f"What is the access code for the {city} vault?")
        expect(page.locator(".turn").first.locator(".text")).to_contain_text(code)
        page.wait_for_selector(".turn:first-child .times")
    page.locator(".turn").last.get_by_role("button", name="Show on the strip").click()
    expect(page.locator(".summary")).to_contain_text("Lisbon")
    page.wait_for_timeout(500)
    page.reload()
    expect(page.locator(".turn")).to_have_count(3)
    expect(page.locator(".turn").last.locator(".text")).to_contain_text(CODES["Lisbon"])
    expect(page.locator("h1")).to_have_text("asked")
    expect(page.locator(".cells .cell").first).to_be_visible()
    page.click("text=Clear the conversation")
    expect(page.locator(".turn")).to_have_count(0)


def test_history_is_sent_when_it_is_wanted(page, server, asked):
    sent = []

    def note(route):
        sent.append(json.loads(route.request.post_data))
        route.continue_()

    page.route("**/v1/chat/completions", note)
    go(page, server, asked)
    ask(page, QUESTION)
    page.wait_for_selector(".turn:first-child .times")
    ask(page, "And the one for Bergen?")
    page.wait_for_selector(".turn:first-child .times")
    page.uncheck("#history")
    ask(page, "What is the access code for the Bergen vault?")
    page.wait_for_selector(".turn:first-child .times")
    assert [len(one["messages"]) for one in sent] == [1, 3, 1]


def test_an_answer_is_stopped(page, server, asked):
    go(page, server, asked)
    page.click("summary:has-text('Settings of the next')")
    # The exact methods encode the text once more: time enough to stop.
    page.select_option("#ask-method", "dense")
    ask(page, QUESTION)
    page.locator(".composer").get_by_role("button", name="Stop").click()
    expect(page.locator(".turn").first).to_contain_text("Stopped.")
    page.select_option("#ask-method", "")
    page.locator(".turn").first.get_by_role("button", name="Ask again").click()
    expect(page.locator(".turn").first.locator(".text")).to_contain_text(CODES["Lisbon"])


def test_settings_are_compared_side_by_side(page, server, asked):
    go(page, server, asked, "compare")
    page.fill("#compare-question", QUESTION)
    page.click("text=Ask all")
    columns = page.locator(".column")
    expect(columns).to_have_count(3)
    for at, title in enumerate(["star 1K/256", "star 1K/256, revisit auto", "dense"]):
        column = columns.nth(at)
        expect(column.locator("h3")).to_have_text(title)
        expect(column.locator(".text")).to_contain_text(CODES["Lisbon"])
        expect(column).to_contain_text("first token")
        expect(column).to_contain_text("in all")
    page.click("text=Add a setting")
    last = page.locator(".column").last
    last.locator("select").select_option("zigzag")
    page.uncheck("#together")
    page.click("text=Ask all")
    expect(last.locator(".text")).to_contain_text(CODES["Lisbon"])
    page.wait_for_selector("button:text-is('Ask all')")
    page.wait_for_timeout(500)
    page.reload()
    expect(page.locator(".column .text")).to_have_count(4)


def test_a_reload_cuts_an_answer_off_and_says_so(open_page, server, asked):
    page = open_page(server.url)
    page.route("**/v1/chat/completions", lambda route: None)
    go(page, server, asked)
    ask(page, QUESTION)
    page.wait_for_selector(".turn .progress")
    page.wait_for_timeout(500)
    page.reload()
    expect(page.locator(".turn")).to_contain_text("Cut off when the page was left.")


def stream(*texts, error=None):
    """A streamed answer as the server would send it."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
              for text in texts]
    if error:
        chunks.append({"error": error})
    else:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    body = ": ping\n\n" + "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks)
    return body + ("" if error else "data: [DONE]\n\n")


def test_what_a_model_writes_is_never_run(page, server, asked):
    hostile = ("# Title\n\n<script>document.title = 'owned'</script>\n\n"
               "<img src=x onerror=\"document.title = 'owned'\">\n\n"
               "[link](javascript:alert(1)) and [good](https://example.com) **bold**\n\n"
               "<b style=\"position: fixed\">raw</b> | ![p](https://example.com/p.png)")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        body=stream(*hostile.partition("onerror")), headers={"Content-Type": "text/event-stream"}))
    go(page, server, asked)
    ask(page, "?")
    text = page.locator(".turn .text")
    expect(text.locator("strong").nth(1)).to_have_text("bold")
    assert text.locator("script, img, b, [style], [onerror], h1").count() == 0
    hrefs = [link.get_attribute("href") for link in text.locator("a").all()]
    assert [href for href in hrefs if href] == ["https://example.com"]
    assert page.title() == "asked · asterism"


def test_a_failure_in_mid_stream_keeps_what_came(page, server, asked):
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        body=stream("Half an ", error={"message": "host 1 went away", "code": "host_lost"}),
        headers={"Content-Type": "text/event-stream"}))
    go(page, server, asked)
    ask(page, "?")
    expect(page.locator(".turn .text")).to_contain_text("Half an")
    expect(page.locator(".turn").get_by_role("alert")).to_contain_text("host 1 went away")
