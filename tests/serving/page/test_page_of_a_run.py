"""The search page over a finished run, from the browser to the index and into the feedback log."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.serving import app, running
from tests.serving.page import stand_in
from tests.serving.page.browser import needs_chromium

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "feedback.db"


@pytest.fixture(scope="module")
def url(finished_run, cross_encoders, log):
    service = running.open_service(
        lambda: SearchLocation.of_run(finished_run), teacher=cross_encoders["bert"], feedback=log
    )  # fmt: skip
    with stand_in.running(app.create_app(service)) as address:
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


@pytest.fixture
def query(dataset):
    return dataset.queries("test").take()[0]


def search(page, query):
    page.get_by_label("Query").fill(query)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("10 of 60 documents")


def test_from_a_query_to_the_reasons(page, query):
    search(page, query)
    system, first = page.get_by_role("combobox", name="System", exact=True), page.locator(".hit").first
    system.select_option("student")
    expect(page.locator("#status")).to_contain_text("· student ·")
    first.get_by_role("button", name="Why this hit").click()
    expect(first).to_contain_text("Found by its meaning: its vector is the nearest to the query's.")
    system.select_option("BM25")
    expect(page.locator("#status")).to_contain_text("· BM25 ·")
    assert set(first.locator("mark").all_inner_texts()) & set(query.split())
    first.get_by_role("button", name="Why this hit").click()
    expect(first).to_contain_text("Found by its words alone: they match the query's best.")
    system.select_option("student and BM25")
    expect(page.locator("#status")).to_contain_text("· student and BM25 ·")
    page.get_by_label("Rerank with the teacher").check()
    expect(page.locator("#status")).to_contain_text("rerank")
    first.get_by_role("button", name="Why this hit").click()
    expect(first).to_contain_text("The teacher, which read it beside the query, put it 1st.")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#status")).to_contain_text("20 of 60 documents")


def test_filters_and_more_like_this(page, query):
    search(page, query)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Field").select_option("year")
    page.get_by_label("Condition").select_option(">=")
    page.get_by_label("Value").fill("2008")
    page.get_by_label("Value").press("Tab")
    expect(page.locator("#status")).to_contain_text("10 of 12 documents")
    page.get_by_role("button", name="Add a condition").click()
    page.get_by_label("Field").nth(1).select_option("tags")
    page.get_by_label("Value").nth(1).fill("odd")
    page.get_by_label("Value").nth(1).press("Tab")
    expect(page.locator("#status")).to_contain_text("of 6 documents")
    assert all("year 2009" in text for text in page.locator(".about").all_inner_texts())
    title = page.locator(".title").first.inner_text()
    page.locator(".hit").first.get_by_role("button", name="More like this").click()
    expect(page.get_by_role("button", name=f"Remove: More like {title}")).to_be_visible()
    expect(page.locator(".hit")).to_have_count(5)


def test_clicks_thumbs_and_preferences_are_in_the_log(page, query, log):
    search(page, query)
    page.locator(".title").nth(2).click()
    page.locator(".hit").nth(1).get_by_role("button", name="Not relevant").click()
    expect(page.locator("#toast")).to_have_text("Noted as not relevant")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("group", name="Which list answers better?").get_by_role("button", name="Left").click()
    expect(page.locator(".verdict")).to_contain_text("You preferred")
    preferred = page.get_by_role("heading", name="Left").locator("small").inner_text()
    page.get_by_role("combobox", name="Shown").select_option("mixed into one")
    expect(page.locator("#status")).to_contain_text("two systems, mixed")
    page.locator(".title").first.click()
    expect(page.locator(".more").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    with FeedbackLog.open(log, create=False) as kept:
        found = kept.read()
    mine = [one for one in found.searches.values() if one.session == page.evaluate("sessionStorage.session")]
    clicked, left, right, mixed = mine[0], *mine[1:3], mine[3]
    assert [one.query for one in mine] == [query] * 4
    assert clicked.clicks == {clicked.shown[2]} and clicked.judgements == {clicked.shown[1]: -1}
    assert {left.system, right.system} == {"student", "hybrid-student"} and mixed.clicks == {mixed.shown[0]}
    (preference,) = found.preferences
    assert preference.preferred == "left"
    assert preferred == {"student": "student", "hybrid-student": "student and BM25"}[preference.left.system]
