"""Chromium, driven by playwright."""

from __future__ import annotations

import pytest
from playwright.sync_api import sync_playwright

from tests.serving.page.browser import CHROMIUM


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def context(browser):
    opened = browser.new_context(viewport={"width": 1280, "height": 860})
    yield opened
    opened.close()
