"""A server for the tests of endpoints."""

from __future__ import annotations

import pytest

from retrieval_distill import endpoints
from retrieval_distill.llm import adaptations, client
from tests.llm.served import serve


@pytest.fixture
def served(monkeypatch):
    """What the server is told, and what it saw; nothing is declared or learned yet."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_API_KEY", endpoints.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(endpoints, "_declared", {})
    monkeypatch.setattr(adaptations, "_learned", {})
    server = serve()
    yield server.told
    server.shutdown()
    server.server_close()
