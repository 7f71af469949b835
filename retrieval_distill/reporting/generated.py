"""What ``generate`` made and dropped, as text. Knows its counts; must not know how queries are made."""

from __future__ import annotations

from typing import Any

from retrieval_distill.formatting import counted


def table(counts: dict[str, Any]) -> str:
    """A line per way, and one per reason that queries were dropped for."""
    made = [f"{way}: {count:,} made, {counts['kept'].get(way, 0):,} kept" for way, count in counts["made"].items()]
    dropped = [
        f"dropped: {case['count']:,} x {reason}; first of {', '.join(case['first'])}"
        for reason, case in counts["dropped"].items()
    ]
    total = f"{counted(counts['queries'], 'query')} of {counted(counts['documents'], 'document')}"
    return "\n".join([*made, *dropped, total])
