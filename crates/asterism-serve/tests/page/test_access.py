"""For everyone: axe, keyboard, phones, many blocks, the key, errors in plain words."""

import json
import re

import pytest
from playwright.sync_api import expect

from conftest import axe
from server import QUESTION, Server
from test_answers import ask
from test_contexts import cells, go

LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
    "dark-phone": {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
}


def check(page):
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(open_page, server, asked, look):
    page = open_page(server.url, **LOOKS[look])
    check(page)
    page.click("text=Try an example")
    page.click("summary:has-text('More')")
    page.wait_for_selector(".fits")
    check(page)
    go(page, server, asked)
    ask(page, QUESTION)
    page.wait_for_selector(".turn .sources")
    page.click("summary:has-text('Settings of the next')")
    check(page)
    page.locator(".source").first.click()
    page.wait_for_selector("dialog .passage")
    check(page)
    page.keyboard.press("Escape")
    go(page, server, asked, "compare")
    page.fill("#compare-question", QUESTION)
    page.click("text=Ask all")
    page.wait_for_selector("button:text-is('Ask all')")
    check(page)
    go(page, server, asked, "documents")
    check(page)
    page.click("[aria-label='Edit book.txt']")
    page.wait_for_selector("#document-text:not([disabled])")
    check(page)
    go(page, server, asked, "manage")
    page.click("summary:has-text('Ask it from elsewhere')")
    check(page)
    page.click("text=Delete this context")
    check(page)


def test_the_strip_is_one_stop_for_the_keyboard(page, server, asked):
    go(page, server, asked)
    cells(page).first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(cells(page).nth(2)).to_be_focused()
    expect(page.locator(".tip")).to_contain_text("Block 2")
    page.keyboard.press("End")
    expect(cells(page).last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator(".cells .cell[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Block 1")
    page.keyboard.press("Escape")
    expect(cells(page).nth(1)).to_be_focused()


def test_a_keyboard_is_enough_to_ask(page, server, asked):
    go(page, server, asked)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "question":
            break
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("#announcements")).to_contain_text("Answer: ")


@pytest.mark.parametrize("count", [4, 12, 60, 160, 500])
@pytest.mark.parametrize("look", ["light", "dark-phone"])
def test_any_number_of_blocks_is_shown(open_page, server, asked, count, look):
    page = open_page(server.url, **LOOKS[look])
    many = [{"index": i, "start": i * 256, "tokens": 256, "host": i * 3 // count,
             "state": "reused" if i % 7 == 3 else "encoded", "change": None,
             "documents": ["book.txt"]} for i in range(count)]

    def more(route):
        response = route.fetch()
        route.fulfill(response=response, body=json.dumps({**response.json(), "blocks": many}))

    page.route(re.compile(r"/v1/contexts/[^/]+$"), more)
    go(page, server, asked)
    expect(cells(page)).to_have_count(count)
    check(page)
    # All in the strip's width, none narrower than its sign, the strip no higher than half the page.
    box = page.locator(".cells").bounding_box()
    assert box["height"] <= page.viewport_size["height"] / 2
    last = page.evaluate("""() => Math.max(...[...document.querySelectorAll(".cells .cell")]
      .map((cell) => cell.getBoundingClientRect().right))""")
    assert last <= box["x"] + box["width"] + 1
    widths = page.evaluate("""() => [...document.querySelectorAll(".cells .cell")]
      .map((cell) => cell.getBoundingClientRect().width)""")
    assert min(widths) >= 14


def test_motion_is_left_out_where_it_is_not_wanted(open_page, server):
    page = open_page(server.url, reduced_motion="reduce")
    assert page.evaluate("""() => {
      const cell = document.createElement("button");
      cell.className = "cell";
      cell.dataset.next = "true";
      document.body.append(cell);
      return getComputedStyle(cell).animationName;
    }""") == "none"


def test_errors_are_the_servers_own_words(open_page, server):
    page = open_page(server.url, tolerated=("Failed to load resource",))
    page.fill("#pasted", "Some words. " * 400)
    page.fill("#new-block", "512")
    page.fill("#new-anchor", "many")
    expect(page.get_by_role("alert")).to_contain_text("is not a number of tokens")
    page.fill("#new-anchor", "1024")
    expect(page.get_by_role("alert")).to_contain_text("anchor")
    page.fill("#new-anchor", "128")
    expect(page.locator(".fits")).to_be_visible()
    page.goto(f"{server.url}/#/c/ctx_nobody/ask")
    expect(page.get_by_role("alert")).to_contain_text("ctx_nobody")


def test_a_server_that_is_gone_is_said_and_found_again(open_page, server):
    page = open_page(server.url, tolerated=("Failed to load resource",))
    page.route("**/v1/**", lambda route: route.abort())
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/v1/**")
    page.click("text=Try again")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_key_is_asked_for(open_page):
    server = Server(key="sesame")
    try:
        page = open_page(server.url, tolerated=("Failed to load resource",))
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("key")
        check(page)
        page.keyboard.press("Escape")
        page.click("text=Give a key")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key")).to_have_value("")
        page.fill("#key", "sesame")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        expect(page.locator(".model")).to_contain_text("nano")
        page.reload()
        expect(page.locator(".model")).to_contain_text("nano")
        expect(dialog).to_have_count(0)
    finally:
        server.stop()


def test_the_content_policy_is_strict(page, server):
    policy = page.reload().headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
