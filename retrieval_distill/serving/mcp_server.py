"""Search as a tool of the Model Context Protocol, for agents: over HTTP, or over standard streams.

Knows the protocol's library and the search API; must not know how documents are found.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field

from retrieval_distill.formatting import counted
from retrieval_distill.serving.answering import answer
from retrieval_distill.serving.limits import MAX_DEPTH
from retrieval_distill.serving.search_bodies import Search
from retrieval_distill.serving.service import Service


class Hit(BaseModel):
    """A document that was found."""

    id: str
    title: str
    snippet: str
    score: float
    metadata: dict[str, Any]


class Hits(BaseModel):
    """The documents that were found, best first."""

    hits: list[Hit]


Query = Annotated[str, Field(description="What to look for, in words or as a question.")]
Depth = Annotated[int, Field(description="Documents to return.", ge=1, le=MAX_DEPTH)]
Where = Annotated[
    dict[str, Any] | None,
    Field(description='Only documents that meet this, such as {"field": "year", "op": ">=", "value": 2020}.'),
]


def create_mcp(service: Service) -> Any:
    """The MCP server over a service, which must be running."""
    engine = service.engine
    fields = ", ".join(f"{name} ({kind})" for name, kind in engine.fields.types.items())
    server = MCPServer(
        "retrieval-distill",
        instructions=f"Search of {engine.dataset.name}: {counted(engine.documents, 'document')}.",
        version=version("retrieval-distill"),
        log_level="WARNING",
    )

    async def search(query: Query, depth: Depth = 5, where: Where = None) -> Hits:
        asked = Search.model_validate({"query": query, "depth": depth, "where": where})
        found = await answer(service, asked)
        return Hits.model_validate({"hits": [{key: hit[key] for key in Hit.model_fields} for hit in found["hits"]]})

    async def read(id: str) -> str:
        return service.engine.like(id)

    told = f"; where: by the fields {fields}" if fields else ""
    server.add_tool(search, description=f"Find the documents of {engine.dataset.name} that answer a query best{told}.")
    server.add_tool(read, description="Read the whole text of a document that was found, by its id.")
    return server
