"""The search page in a real browser, against a small server that answers as `serve` promises to."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.responses import JSONResponse
from playwright.sync_api import BrowserContext, Page, expect

from tests.serving.page import stand_in
from tests.serving.page.browser import needs_chromium

pytestmark = needs_chromium

QUERY = "how does a database survive a power failure"


@pytest.fixture(scope="module")
def address():
    server = stand_in.StandIn()
    with stand_in.running(stand_in.application(server)) as url:
        server.url = url
        yield server


@pytest.fixture
def server(address):
    address.received.clear()
    address.refuse.clear()
    address.delay, address.token, address.swapped = 0.0, None, False
    return address


@pytest.fixture
def page(context: BrowserContext, server):
    """The page, opened; what its console says and errors of its scripts fail the test."""
    opened, wrong = context.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    opened.set_default_timeout(10_000)
    opened.goto(server.url)
    expect(opened.get_by_role("combobox", name="System", exact=True)).to_be_visible()
    yield opened
    assert [told for told in wrong if "Failed to load resource" not in told] == []  # of answers with a status of 400 on


def search(page: Page, query: str = QUERY) -> None:
    page.get_by_label("Query").fill(query)
    page.keyboard.press("Enter")
    expect(page.locator("#results .hit").first).to_be_visible()


def hit(page: Page, title: str):
    return page.locator(".hit").filter(has=page.get_by_role("heading", name=title)).first


def titles(page: Page) -> list[str]:
    return page.locator(".title").all_inner_texts()


def test_hits_are_shown_with_their_words_marked(page, server):
    search(page)
    assert titles(page)[:3] == [
        "How a write-ahead log survives a power failure",
        "Sicherung einer Datenbank 🗄️",
        "Replication",
    ]
    assert hit(page, "write-ahead").locator("mark").all_inner_texts() == ["power", "failure", "database"]
    assert hit(page, "Sicherung").locator("mark").all_inner_texts() == ["database", "failure"], (
        "offsets count characters"
    )
    expect(page.locator("#status")).to_have_text(
        "1\u201310 of 24 documents · student and BM25 · 13 ms (encode 9, search 3)"
    )
    assert page.title() == f"{QUERY} · Search"
    (body,) = server.bodies("/search")
    assert body.pop("session") and body == {
        "query": QUERY, "depth": 10, "offset": 0, "system": None, "rerank": False, "where": None
    }  # fmt: skip


def test_data_is_never_read_as_markup(page):
    search(page, "lock writers")
    assert titles(page) == [stand_in.ATTACK]
    assert "<b>lock</b>" in page.locator(".snippet").inner_text()
    assert page.locator("#results img, #results b:not(.rail b)").count() == 0
    assert page.evaluate("window.attacked") is None


def test_why_a_hit_is_there(page):
    search(page)
    first = hit(page, "write-ahead")
    first.get_by_role("button", name="Why this hit").click()
    expect(first.get_by_text("Its meaning is nearest to the query, and its words match 2nd best.")).to_be_visible()
    assert first.get_by_role("row").all_inner_texts()[1:] == ["Vectors\t\n1st\n\t0.8900", "BM25\t\n2nd\n\t11.50"]
    expect(first.get_by_text("d1#2")).to_be_visible()
    page.get_by_role("combobox", name="System", exact=True).select_option("student")
    first.get_by_role("button", name="Why this hit").click()
    expect(first.get_by_text("Found by its meaning: its vector is the nearest to the query's.")).to_be_visible()
    page.get_by_label("Rerank with the teacher").check()
    first.get_by_role("button", name="Why this hit").click()
    expect(first.get_by_text("The teacher, which read it beside the query, put it 1st.")).to_be_visible()


def test_opening_a_hit_is_a_click_and_is_sent_once(page, server):
    search(page)
    title = hit(page, "write-ahead").get_by_role("button", name="How a write-ahead")
    for _ in range(3):
        title.click()
    expect(hit(page, "write-ahead").get_by_text("2021", exact=True)).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert server.bodies("/feedback") == [{"search_id": search_id(server), "doc_id": "d1", "kind": "click"}]


def search_id(server) -> str:
    return list(server.searches)[-1]


def test_a_document_with_an_address_is_a_link(page):
    search(page)
    link = page.get_by_role("link", name="Replication")
    assert link.get_attribute("href") == "https://example.org/replication"
    assert set(link.get_attribute("rel").split()) == {"noopener", "noreferrer"}


def test_thumbs(page, server):
    search(page)
    first = hit(page, "Replication")
    first.get_by_role("button", name="Relevant", exact=True).click()
    expect(page.locator("#toast")).to_have_text("Noted as relevant")
    first.get_by_role("button", name="Not relevant").click()
    expect(page.locator("#toast")).to_have_text("Noted as not relevant")
    expect(first.get_by_role("button", name="Relevant", exact=True)).to_have_attribute("aria-pressed", "false")
    assert [(body["doc_id"], body["kind"], body["grade"]) for body in server.bodies("/feedback")] == [
        ("d4", "judgement", 1), ("d4", "judgement", -1)
    ]  # fmt: skip


def test_a_thumb_that_was_not_kept_says_so(page, server):
    search(page)
    server.refuse.append(JSONResponse({"error": "the log is full", "error_type": "internal"}, 500))
    thumb = hit(page, "Replication").get_by_role("button", name="Relevant", exact=True)
    thumb.click()
    expect(page.locator("#toast")).to_have_text("Not kept: the log is full")
    expect(thumb).to_have_attribute("aria-pressed", "false")


def test_more_like_this(page, server):
    search(page)
    hit(page, "Replication").get_by_role("button", name="More like this").click()
    expect(page.get_by_role("button", name="Remove: More like Replication")).to_be_visible()
    body = server.bodies("/search")[-1]
    assert body["like"] == "d4" and "query" not in body
    assert "Replication" not in titles(page)
    page.go_back()
    expect(page.get_by_label("Query")).to_have_value(QUERY)
    expect(page.get_by_role("link", name="Replication")).to_be_visible()


def test_filters(page, server):
    search(page)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Condition").select_option(">=")
    page.get_by_label("Value").fill("2019")
    page.get_by_role("button", name="Add a condition").click()
    expect(page.get_by_role("button", name="Remove: year at least 2019")).to_be_visible()
    page.get_by_label("Field").nth(1).select_option("free")
    page.get_by_label("Value").nth(1).select_option("yes")
    expect(page.get_by_role("button", name="Remove: free is true")).to_be_visible()
    expect(page.locator(".hit")).to_have_count(3)
    years, free = {"field": "year", "op": ">=", "value": 2019}, {"field": "free", "op": "=", "value": True}
    assert server.bodies("/search")[-1]["where"] == {"and": [years, free]}
    page.get_by_label("Any of them is enough").check()
    expect(page.locator("#status")).to_contain_text("1\u201310 of")
    assert server.bodies("/search")[-1]["where"] == {"or": [years, free]}
    page.get_by_role("button", name="Remove: year at least 2019").click()
    expect(page.get_by_role("button", name="Remove: year at least 2019")).to_have_count(0)
    assert server.bodies("/search")[-1]["where"] == free
    page.get_by_label("Field").select_option("language")
    page.get_by_label("Condition").select_option("in")
    page.get_by_label("Value").fill("German, French")
    page.get_by_label("Value").press("Tab")
    expect(page.get_by_role("button", name="Remove: language one of German, French")).to_be_visible()
    assert server.bodies("/search")[-1]["where"] == {"field": "language", "op": "in", "value": ["German", "French"]}


def test_nothing_found_offers_to_drop_the_filter(page, server):
    search(page)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Value").fill("1850")
    page.get_by_label("Value").press("Enter")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("button", name="Search without the filter").click()
    expect(page.locator("#status")).to_contain_text("1\u201310 of 24")
    expect(page.get_by_label("Value")).to_have_value("")


def test_pages(page, server):
    search(page)
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#status")).to_contain_text("11\u201320 of 24")
    assert server.bodies("/search")[-1]["offset"] == 10
    assert page.locator(".rank").first.inner_text() == "11"
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#status")).to_contain_text("21\u201324 of 24")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()


def test_the_address_holds_the_search(page, server, context):
    search(page)
    page.get_by_role("combobox", name="System", exact=True).select_option("student")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#status")).to_contain_text("11\u201320")
    shared = context.new_page()
    shared.goto(page.url)
    expect(shared.locator("#status")).to_contain_text("11\u201320 of 24 documents · student ·")
    assert server.bodies("/search")[-1]["system"] == "student"
    asked = len(server.bodies("/search"))
    page.go_back()
    expect(page.locator("#status")).to_contain_text("1\u201310 of 24 documents · student ·")
    page.go_back()
    expect(page.locator("#status")).to_contain_text("student and BM25")
    page.go_back()
    expect(page.locator("#status")).to_contain_text("4,421 documents")
    page.go_forward()
    expect(page.locator(".hit")).to_have_count(10)
    assert len(server.bodies("/search")) == asked, "going back and forth asks nothing again"


def test_the_query_is_not_in_what_the_server_is_asked_for_by_address(page, server):
    """A log of addresses, of a proxy for one, learns no query."""
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    search(page)
    page.reload()
    expect(page.locator(".hit").first).to_be_visible()
    assert asked and not any("database" in url.split("#")[0] for url in asked)


@pytest.mark.parametrize("swapped", [False, True])
def test_two_systems_side_by_side_stay_nameless_until_one_is_preferred(page, server, swapped):
    server.swapped = swapped
    search(page)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Left")).to_be_visible()
    assert server.bodies("/compare")[-1]["systems"] == ["start", "hybrid-student"]
    results = page.locator("#results")
    assert not re.search("start|student|BM25|Why|ms", results.inner_text())
    expect(page.locator("#status")).to_have_text("Two systems, names hidden until you choose · 8 documents in both")
    assert page.locator(".alone").count() == 4
    left, right = list(server.searches)[-2:]
    page.get_by_role("group", name="Which list answers better?").get_by_role("button", name="Right").click()
    expect(page.get_by_role("heading", name="Left")).to_have_text(
        "Left" + ("student and BM25" if swapped else "start model")
    )
    expect(page.locator(".verdict")).to_contain_text(
        "You preferred " + ("start model" if swapped else "student and BM25")
    )
    assert server.bodies("/preference") == [{"left": left, "right": right, "preferred": "right"}]
    expect(page.get_by_role("button", name="Why this hit").first).to_be_visible()


def test_a_preference_that_was_not_kept_may_be_given_again(page, server):
    search(page)
    page.get_by_role("button", name="Compare").click()
    server.refuse.append(JSONResponse({"error": "the log is full", "error_type": "internal"}, 500))
    level = page.get_by_role("button", name="Level")
    level.click()
    expect(page.get_by_text("Not kept: the log is full")).to_be_visible()
    level.click()
    expect(page.locator(".verdict")).to_contain_text(
        "You found them level. So far: start model 0, student and BM25 0, level 1."
    )


def test_two_systems_mixed_into_one_list(page, server):
    search(page)
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("combobox", name="Shown").select_option("mixed into one")
    expect(page.locator("#status")).to_contain_text("two systems, mixed")
    assert server.bodies("/search")[-1]["interleave"] == ["start", "hybrid-student"]
    expect(page.get_by_role("button", name="Why this hit")).to_have_count(0)


def test_the_keyboard_alone(page, server):
    expect(page.get_by_label("Query")).to_be_focused()
    page.keyboard.type(QUERY)
    page.keyboard.press("Enter")
    expect(page.locator(".hit").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="How a write-ahead log")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="How a write-ahead log")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("w")
    expect(page.get_by_text("Its meaning is nearest")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("+")
    expect(page.locator("#toast")).to_have_text("Noted as relevant")
    page.keyboard.press("-")
    expect(page.locator("#toast")).to_have_text("Noted as not relevant")
    assert [body.get("grade") for body in server.bodies("/feedback")] == [None, 1, -1]
    page.keyboard.press("Tab")
    expect(hit(page, "Sicherung").get_by_role("button", name="Relevant", exact=True)).to_be_focused()
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Remove: More like Sicherung")).to_be_visible()
    expect(page.get_by_role("heading", name="Results")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("/")
    expect(page.get_by_label("Query")).to_be_focused()
    page.keyboard.type("+w/m-")
    expect(page.get_by_label("Query")).to_have_value("+w/m-")


def test_the_skip_link_leads_to_the_results_and_keeps_the_query(page):
    search(page)
    before = page.url
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Results")).to_be_focused()
    assert page.url == before


def test_results_are_announced(page, server):
    server.delay = 0.4
    assert page.locator("#status").get_attribute("role") == "status"
    page.get_by_label("Query").fill(QUERY)
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    expect(page.locator(".ghost").first).to_be_visible()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#status")).to_contain_text("1\u201310 of 24 documents")


def test_a_later_question_wins(page, server):
    server.delay = 0.3
    page.get_by_label("Query").fill("database")
    page.keyboard.press("Enter")
    page.wait_for_timeout(50)
    server.delay = 0.0
    search(page, "lock writers")
    page.wait_for_timeout(500)
    assert titles(page) == [stand_in.ATTACK]


def test_what_was_typed_counts_whichever_control_is_used(page, server):
    search(page)
    page.get_by_label("Query").fill("checkpoint")
    page.get_by_role("combobox", name="System", exact=True).select_option("student")
    expect(page.locator("#status")).to_contain_text("· student ·")
    assert server.bodies("/search")[-1]["query"] == "checkpoint"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (JSONResponse({"error": "no field 'yeer'; there is 'year'", "error_type": "validation"}, 400), "no field 'yeer'"),
        (JSONResponse({"error": "the queue is full", "error_type": "overloaded"}, 429, {"Retry-After": "3"}), "Try again in 3 seconds."),
        (JSONResponse({"detail": "?"}, 500), "It answered with status 500."),
    ],
)  # fmt: skip
def test_an_error_is_told_and_can_be_tried_again(page, server, answer, told):
    server.refuse.append(answer)
    page.get_by_label("Query").fill(QUERY)
    page.keyboard.press("Enter")
    expect(page.locator(".notice.wrong")).to_contain_text(told)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".hit")).to_have_count(10)


def test_a_server_that_is_gone_is_told(page, context):
    context.set_offline(True)
    page.get_by_label("Query").fill(QUERY)
    page.keyboard.press("Enter")
    expect(page.locator(".notice.wrong")).to_contain_text("The server cannot be reached.")
    context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".hit")).to_have_count(10)


def test_a_token_is_asked_for(page, server):
    server.token = "secret"
    page.reload()
    page.get_by_label("Token").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("4,421 documents")
    search(page)


def test_nothing_leaves_the_server_s_origin_and_only_a_session_id_is_kept(page, server):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    search(page)
    hit(page, "write-ahead").get_by_role("button", name="Relevant", exact=True).click()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Left")).to_be_visible()
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {server.url.removeprefix("http://")}
    kept = page.evaluate("({...sessionStorage})")
    assert list(kept) == ["session"] and re.fullmatch("[0-9a-f]{32}", kept["session"])
    assert page.evaluate("localStorage.length + document.cookie.length") == 0
    sessions = {body["session"] for path, body in server.received if path in ("/search", "/compare")}
    assert sessions == {kept["session"]}


def test_the_policy_lets_nothing_else_run(context, server):
    page = context.new_page()
    page.goto(server.url)
    answer = page.request.get(server.url)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert not re.search(r"<\w[^>]*\s(style|on\w+)=", answer.text().split("<script>")[0]), "needs 'unsafe-inline'"
    assert page.evaluate("fetch('https://example.org').catch(() => 'refused')") == "refused"
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert page.evaluate("window.ran") is None


@pytest.fixture
def looked_at(browser, server, request):
    """The page in one look: a colour scheme and a width."""
    scheme, width = request.param
    opened = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, has_touch=width < 500, is_mobile=width < 500
    )
    page = opened.new_page()
    page.goto(server.url)
    expect(page.get_by_role("combobox", name="System", exact=True)).to_be_visible()
    yield page
    opened.close()


LOOKS = [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)]


FADED = """Promise.allSettled(document.getAnimations().filter(
    one => one.effect.getComputedTiming().endTime < Infinity).map(one => one.finished))"""
"""Waits until what fades in or out has its colour."""


@pytest.mark.parametrize("looked_at", LOOKS, indirect=True, ids=str)
def test_axe_finds_no_violation(looked_at, server):
    def clean(state: str) -> None:
        looked_at.evaluate(FADED)
        found = Axe().run(looked_at)
        assert found.violations_count == 0, f"{state}: {found.generate_report()}"

    looked_at.emulate_media(reduced_motion="reduce")
    clean("start")
    search(looked_at)
    hit(looked_at, "write-ahead").get_by_role("button", name="Why this hit").click()
    hit(looked_at, "Sicherung").get_by_role("button", name="Relevant", exact=True).click()
    hit(looked_at, "Replication").get_by_role("button", name="Not relevant").click()
    looked_at.get_by_role("button", name="Filter", exact=True).click()
    looked_at.get_by_label("Value").fill("2001")
    looked_at.get_by_label("Condition").select_option(">=")
    expect(looked_at.get_by_role("button", name="Remove: year at least 2001")).to_be_visible()
    clean("found")
    looked_at.get_by_role("button", name="Compare").click()
    expect(looked_at.get_by_role("heading", name="Left")).to_be_visible()
    clean("side by side")
    looked_at.get_by_role("button", name="Level").click()
    expect(looked_at.locator(".verdict")).to_contain_text("level")
    clean("told")
    server.refuse.append(JSONResponse({"error": "the queue is full"}, 429))
    looked_at.get_by_label("Query").fill("another")
    looked_at.keyboard.press("Enter")
    expect(looked_at.locator(".notice.wrong")).to_be_visible()
    clean("error")


@pytest.mark.parametrize("looked_at", LOOKS, indirect=True, ids=str)
def test_it_fits_its_width_and_what_is_pressed_is_large_enough(looked_at):
    search(looked_at)
    for button in ("Filter", "Compare"):
        looked_at.get_by_role("button", name=button).first.click()
        expect(looked_at.locator(".hit").first).to_be_visible()
        assert looked_at.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = looked_at.evaluate(
        """[...document.querySelectorAll('button, select, input')].filter(node => node.offsetParent && !node.closest('h3, label'))
        .map(node => node.getBoundingClientRect()).filter(box => box.width < 24 || box.height < 24).length"""
    )
    assert small == 0, "WCAG 2.2: targets of 24 by 24 pixels"


@pytest.mark.parametrize(("looked_at", "ground"), [(LOOKS[0], "rgb(255, 255, 255)"), (LOOKS[1], "rgb(20, 23, 27)")], indirect=["looked_at"], ids=str)  # fmt: skip
def test_light_and_dark(looked_at, ground):
    assert looked_at.evaluate("getComputedStyle(document.body).backgroundColor") == ground
