"""Contexts: planned, encoded, edited, managed."""

import base64
import json
import time
from pathlib import Path

from playwright.sync_api import expect

from server import QUESTION, Server, book


def cells(page):
    return page.locator(".cells .cell")


def go(page, server, context, tab="ask"):
    page.goto(f"{server.url}/#/c/{context['id']}/{tab}")
    page.wait_for_selector(".tabs")


def test_plan_comes_before_anything_runs(open_page, server):
    # The server refuses one of the files, which the browser's console tells of.
    page = open_page(server.url, tolerated=("Failed to load resource",))
    before = server.call("GET", "/v1/contexts")["data"]
    page.set_input_files("#files", [
        {"name": "a.txt", "mimeType": "text/plain", "buffer": book().encode()},
        {"name": "a.txt", "mimeType": "text/plain", "buffer": b"Another of that name. " * 50},
        {"name": "b.bin", "mimeType": "application/octet-stream", "buffer": b"\x7fELF\x02\x00"},
    ])
    page.fill("#pasted", "Some pasted words. " * 100)
    page.fill("#new-block", "1k")
    page.fill("#new-anchor", "256")
    expect(page.get_by_role("list", name="Documents")).to_contain_text("a (2).txt")
    expect(page.get_by_role("alert")).to_contain_text("b.bin is binary")
    expect(page.locator(".figures")).to_contain_text("tokens")
    expect(page.locator(".fits")).to_be_visible()
    planned = server.call("POST", "/v1/contexts", {
        "documents": [
            {"name": "a.txt", "text": book()},
            {"name": "a (2).txt", "text": "Another of that name. " * 50},
            {"name": "pasted.txt", "text": "Some pasted words. " * 100},
        ], "block": 1024, "anchor": 256, "dry_run": True})
    expect(page.locator(".figures")).to_contain_text(f"{planned['tokens']:,}")
    expect(cells(page)).to_have_count(len(planned["blocks"]))
    assert server.call("GET", "/v1/contexts")["data"] == before


def test_a_pdf_is_read_by_the_server_and_cited_by_page(page, server):
    files = Path(__file__).parents[3] / "asterism-documents/tests/files"
    page.set_input_files("#files", [files / "columns.pdf", files / "tex.pdf"])
    documents = page.get_by_role("list", name="Documents")
    expect(documents).to_contain_text("columns.pdf")
    expect(documents).to_contain_text("tex.pdf")
    expect(page.get_by_role("alert")).to_contain_text("page 4: no text, scanned?")
    text = server.call("POST", "/v1/documents", {
        "name": "tex.pdf", "data": base64.b64encode((files / "tex.pdf").read_bytes()).decode()})["text"]
    context = server.call("POST", "/v1/contexts", {
        "documents": [{"name": "tex.pdf", "text": text}], "block": 1024, "anchor": 256, "wait": True})
    answer = server.call("POST", f"/v1/contexts/{context['id']}/ask", {
        "question": QUESTION, "sources": True, "max_tokens": 24})["answers"][0]
    places = [place for source in answer["sources"] if "48213" in source["passage"]
              for place in source["places"]]
    assert places and places[0]["page"] and places[0]["cite"].startswith("tex.pdf, page"), answer


def test_files_can_be_dropped(page):
    # A drop is made in the page: a synthetic transfer has files, but no entries of a file system.
    page.evaluate("""() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(["A dropped text. ".repeat(200)], "dropped.txt"));
      document.querySelector(".drop").dispatchEvent(
        new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""")
    expect(page.get_by_role("list", name="Documents")).to_contain_text("dropped.txt")
    expect(page.locator(".fits")).to_be_visible()


def test_what_does_not_fit_is_said(open_page, server):
    page = open_page(server.url, tolerated=("Failed to load resource",))
    page.fill("#pasted", "one two three four five six seven eight nine ten. " * 16000)
    expect(page.locator(".plan, .new > .failure").first).to_contain_text("131072", timeout=60_000)
    if page.locator(".plan").count():
        expect(page.get_by_role("button", name="Encode")).to_be_disabled()


def test_a_draft_outlives_a_reload(page):
    page.fill("#pasted", "Words that must not be lost.")
    page.fill("#new-name", "kept")
    page.wait_for_timeout(500)
    page.reload()
    expect(page.locator("#pasted")).to_have_value("Words that must not be lost.")
    expect(page.locator("#new-name")).to_have_value("kept")


def test_example_is_encoded_block_by_block(page, server):
    page.click("text=Try an example")
    page.fill("#new-name", "an example")
    page.click("summary:has-text('More')")
    page.fill("#new-hosts", "2")
    page.click("button:text-is('Encode')")
    page.wait_for_selector(".tabs")
    assert "#/c/" in page.url
    expect(page.locator(".head")).to_contain_text("encoded in", timeout=120_000)
    assert page.locator(".cells .cell[data-state=waiting]").count() == 0
    assert {cell.get_attribute("data-host") for cell in cells(page).all()} == {"0", "1"}
    expect(cells(page).first).to_contain_text("with the anchor")
    expect(page.locator("#question")).to_have_value(QUESTION)
    server.call("DELETE", f"/v1/contexts/{page.url.split('/')[-2]}")


def test_encoding_is_seen_from_a_second_page_and_continues_when_cut(open_page, server):
    context = server.call("POST", "/v1/contexts", {
        "name": "long", "text": book(6000), "block": 1024, "anchor": 256})
    page = open_page(server.url, tolerated=("Failed to load resource",))
    asked = []

    def cut_once(route):
        asked.append(route.request.headers.get("last-event-id"))
        if len(asked) > 1:
            return route.continue_()
        planned = {"tokens": context["tokens"], "blocks": context["blocks"], "predicted_seconds": None}
        body = f"id: 1\nevent: planned\ndata: {json.dumps(planned)}\n\n"
        return route.fulfill(body=body, headers={"Content-Type": "text/event-stream"})

    page.route("**/events", cut_once)
    go(page, server, context)
    expect(page.locator(".head")).to_contain_text("encoded in", timeout=120_000)
    if asked:
        assert asked[0] is None
    if len(asked) > 1:
        assert asked[1] == "1"
    server.call("DELETE", f"/v1/contexts/{context['id']}")


def test_an_edit_encodes_only_what_changed(page, server, fresh):
    go(page, server, fresh, "documents")
    page.click("[aria-label='Edit book.txt']")
    page.wait_for_selector("#document-text:not([disabled])")
    text = page.input_value("#document-text")
    assert text == book()
    page.fill("#document-text", text.replace("48213", "97531"))
    page.click("button:has-text('Save')")
    expect(page.locator(".summary")).to_contain_text("encoded again")
    expect(page.locator(".head")).to_contain_text("encoded in")
    now = server.call("GET", f"/v1/contexts/{fresh['id']}")
    again = [cell["index"] for cell in now["blocks"] if cell["change"] not in (None, "reused")]
    assert 0 < len(again) <= 2 < len(now["blocks"])
    expect(page.locator(".cells .cell[data-change=edited]")).to_have_count(
        sum(cell["change"] == "edited" for cell in now["blocks"]))
    page.click(".tabs a:has-text('Ask')")
    page.fill("#question", QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".turn .text")).to_contain_text("97531")


def test_documents_come_and_go(page, server, fresh):
    go(page, server, fresh, "documents")
    expect(page.get_by_label("Remove book.txt")).to_be_disabled()
    page.click("text=Write a document")
    page.fill("#document-name", "notes.txt")
    page.fill("#document-text", "The colour of the boat is green. " * 20)
    page.click("button:has-text('Save')")
    expect(page.get_by_role("list", name="Documents")).to_contain_text("notes.txt")
    page.set_input_files("#add-file", {
        "name": "notes.txt", "mimeType": "text/plain", "buffer": b"The boat is red now. " * 20})
    expect(page.locator("#document-text")).to_have_value("The boat is red now. " * 20)
    page.click("button:has-text('Save')")
    page.wait_for_selector("[aria-label='Remove notes.txt']:not([disabled])")
    text = server.call("GET", f"/v1/contexts/{fresh['id']}/documents/notes.txt")["text"]
    assert text == "The boat is red now. " * 20
    page.click("[aria-label='Remove notes.txt']")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("list", name="Documents")).not_to_contain_text("notes.txt")


def test_a_context_is_renamed_pinned_and_deleted(page, server, fresh):
    go(page, server, fresh, "manage")
    path = f"/v1/contexts/{fresh['id']}"
    page.fill("#rename", "a new name")
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(page.locator("h1")).to_have_text("a new name")
    page.select_option("#ttl", "3600")
    expect(page.locator(".contexts a[aria-current]")).to_contain_text("goes in 60 min")
    now = server.call("GET", path)
    assert (now["name"], now["pinned"], now["ttl_seconds"]) == ("a new name", False, 3600)
    page.select_option("#ttl", "")
    expect(page.locator(".contexts a[aria-current]")).not_to_contain_text("goes in")
    page.check("#pinned")
    expect(page.locator(".contexts a[aria-current] .pin")).to_be_visible()
    now = server.call("GET", path)
    assert (now["pinned"], now["ttl_seconds"]) == (True, None)
    page.click("text=Delete this context")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("h1")).to_have_text("New context")
    assert fresh["id"] not in [one["id"] for one in server.call("GET", "/v1/contexts")["data"]]


def test_a_context_on_disk_comes_back_when_it_is_asked(open_page, tmp_path):
    folder = ("--cache-dir", str(tmp_path))
    server = Server(*folder)
    kept = server.context("kept")
    path = f"/v1/contexts/{kept['id']}"
    while not server.call("GET", path)["on_disk"]:
        time.sleep(0.1)
    server.stop()
    server = Server(*folder)
    try:
        page = open_page(server.url)
        go(page, server, kept)
        expect(page.locator(".head")).to_contain_text("on disk")
        expect(page.locator(".contexts a[aria-current]")).to_contain_text("on disk")
        page.fill("#question", QUESTION)
        page.keyboard.press("Enter")
        expect(page.locator(".turn .text")).to_contain_text("48213")
        expect(page.locator(".head")).to_contain_text("loaded in")
        expect(page.locator(".cells .cell[data-state=loaded]")).to_have_count(len(kept["blocks"]))
        page.click(".tabs a:has-text('Manage')")
        expect(page.locator(".facts")).to_contain_text("loaded (expected:")
    finally:
        server.stop()


def test_memory_and_the_model_are_shown(page, asked):
    expect(page.locator(".model")).to_contain_text("nano")
    expect(page.locator(".memory")).to_contain_text("in use")
