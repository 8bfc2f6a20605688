import os
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from server import Server

# Debug builds on small machines take their time.
expect.set_options(timeout=60_000)

AXE = Path(os.environ["AXE"])


@pytest.fixture(scope="session")
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        # Tests run as root in containers, where Chromium's own sandbox cannot.
        chromium = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """A function that opens a page of its own browser context, and afterwards holds it to: no
    error in its console (what the content policy blocks is one), no request to anywhere else."""
    opened = []

    def open_at(url, tolerated=(), **options):
        options = {"viewport": {"width": 1280, "height": 860}, **options}
        context = browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(60_000)
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type in ("error", "warning")
                and not any(words in message.text for words in tolerated)
                and complaints.append(message.text))
        origin = "/".join(url.split("/")[:3])
        page.on("request", lambda request: request.url.startswith((origin, "data:"))
                or complaints.append(f"asked {request.url}"))
        page.goto(url)
        page.wait_for_selector("h1")
        opened.append((context, complaints))
        return page

    yield open_at
    for context, complaints in opened:
        context.close()
        assert complaints == []


@pytest.fixture
def page(open_page, server):
    return open_page(server.url)


@pytest.fixture(scope="session")
def asked(server):
    """A context that no test changes."""
    return server.context("asked")


@pytest.fixture
def fresh(server, request):
    """A context of the test's own, deleted afterwards if the test has not done it."""
    context = server.context(request.node.name)
    yield context
    known = [one["id"] for one in server.call("GET", "/v1/contexts")["data"]]
    if context["id"] in known:
        server.call("DELETE", f"/v1/contexts/{context['id']}")


def axe(page):
    """What axe finds wrong with the page as it stands, in short."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found]
