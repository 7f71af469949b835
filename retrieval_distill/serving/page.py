"""The search page, and the policy under which a browser runs it: its style, its script, its server, nothing else.

Knows the page's file; must not know the application that serves it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

FILE = Path(__file__).with_name("page.html")


def page() -> tuple[bytes, dict[str, str]]:
    """The page as it is sent, and the headers that belong to it.

    The ``Content-Security-Policy`` names the page's one style and one script by their SHA-256, so that markup which
    came in with data could run nothing, and lets the page ask only the server that it came from.
    """
    html = FILE.read_bytes()
    policy = [
        "default-src 'none'", "connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'",
        "frame-ancestors 'none'", f"script-src {_hash(html, b'script')}", f"style-src {_hash(html, b'style')}",
    ]  # fmt: skip
    return html, {
        "Content-Security-Policy": "; ".join(policy),
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _hash(html: bytes, tag: bytes) -> str:
    """A policy's name for the content of the page's only element of a kind."""
    (content,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
