"""The search page over a finished run, from the browser to the index and back."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from retrieval_distill.search.location import SearchLocation
from retrieval_distill.serving.app import create_app
from retrieval_distill.serving.engine import Engine
from retrieval_distill.serving.service import Service
from tests.serving.browser import needs_chromium
from tests.serving.stand_in import running

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def url(finished_run):
    with running(create_app(Service(Engine.open(SearchLocation.of_run(finished_run))))) as address:
        yield address


@pytest.fixture
def page(context, url):
    opened, wrong = context.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    opened.goto(url)
    expect(opened.locator("#status")).to_contain_text("60 documents")
    yield opened
    assert wrong == []


def test_from_query_to_reason(page, dataset):
    text = dataset.queries("test").take()[0]
    page.get_by_label("Query").fill(text)
    page.keyboard.press("Enter")
    system, first = page.get_by_role("combobox", name="System", exact=True), page.locator(".hit").first
    system.select_option("student")
    expect(page.locator("#status")).to_contain_text("10 of 60 documents · student ·")
    first.get_by_role("button", name="Why this hit").click()
    expect(first).to_contain_text("Found by its meaning: its vector is the nearest to the query's.")
    system.select_option("BM25")
    expect(page.locator("#status")).to_contain_text("· BM25 ·")
    assert set(first.locator("mark").all_inner_texts()) & set(text.split())
    first.get_by_role("button", name="Why this hit").click()
    expect(first).to_contain_text("Found by its words alone: they match the query's best.")
    system.select_option("student and BM25")
    expect(page.locator("#status")).to_contain_text("· student and BM25 ·")
    first.get_by_role("button", name="Why this hit").click()
    expect(first.get_by_role("row")).to_have_count(3)
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#status")).to_contain_text("20 of 60 documents")
