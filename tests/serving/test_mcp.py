"""Search as an MCP tool, listed and called by the protocol's own client."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest
from mcp import Client, StdioServerParameters

from retrieval_distill.search.searcher import Searcher

QUERY = "split root extension"


async def used(client: Client, finished_run) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"search", "read"} and "year (integer)" in tools["search"].description
    found = await client.call_tool("search", {"query": QUERY, "depth": 3})
    assert not found.is_error
    own = Searcher.open(finished_run)(QUERY, depth=3)
    assert [hit["id"] for hit in found.structured_content["hits"]] == [hit.id for hit in own]
    where = {"field": "year", "op": "=", "value": 2003}
    few = (await client.call_tool("search", {"query": QUERY, "where": where})).structured_content["hits"]
    assert few and all(hit["metadata"]["year"] == 2003 for hit in few)
    text = (await client.call_tool("read", {"id": own[0].id})).content[0].text
    assert own[0].title in text
    for name, wrong in (
        ("search", {"query": " "}),
        ("search", {"query": "a", "depth": 1000}),
        ("search", {"query": "a", "where": {"field": "yaer", "op": "=", "value": 1}}),
        ("read", {"id": "nothing"}),
    ):
        assert (await client.call_tool(name, wrong)).is_error, wrong


def test_over_http(served, finished_run):
    async def main():
        async with Client(f"{served.url}/mcp") as client:
            await used(client, finished_run)

    asyncio.run(main())


def test_over_standard_streams(finished_run):
    async def main():
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "retrieval_distill", "serve", str(finished_run), "--stdio"],
            env={**os.environ},
        )
        async with Client(command) as client:
            await used(client, finished_run)

    asyncio.run(main())


def test_http_needs_the_token_too(served):
    """Without ``--mcp`` there is no such path; with a token it is guarded as the others are."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert served.post("/mcp", body, headers={"accept": "application/json", "host": "evil.example"}).status_code == 421
    assert json.dumps(body)


@pytest.mark.parametrize("path", ["/mcp/", "/mcp/x"])
def test_no_other_paths(served, path):
    assert served.post(path, {}).status_code in (307, 404)
