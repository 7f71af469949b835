"""Valid bytes made invalid, or at least odd: flips, cuts, control characters, encodings, numbers, nesting, wrong types.

Knows bytes and JSON; must not know who reads them. Everything is drawn from a generator that the caller seeds.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

CONTROLS = [b"\0", b"\x1b[31m", b"\r", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"\xff",
            b"\xed\xa0\x80", b"\t", b"\n\n", b"\x0c", b"\x1a", b"\xc2\xa0", b'"', b"'", b"\\", b"\\ud800", b"{", b"[", b"&x"]  # fmt: skip

NUMBERS = [b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 30, b"9" * 5000, b"-1", b"0", b"1.5", b"1e-400", b"0x10", b"1_0",
           b"2020-99-99", b"9223372036854775808", b"-0", b"true", b"null", b"''", b""]  # fmt: skip

VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 1e308, 2**70, "", "x", "\ud800", "\0", [], [[]], {}, {"x": [None]}, ["x"], "9" * 5000, [1, "a", None],
    float("nan"), float("inf"), "../../x", "/etc/passwd",
]  # fmt: skip

ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252", "utf-7")


def at(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 4, 32]) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: at(rng, data)]


def cut_out(rng: random.Random, data: bytes) -> bytes:
    start = at(rng, data)
    return data[:start] + data[start + rng.choice([1, 2, 8, 64, 512]) :]


def doubled(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted((at(rng, data), at(rng, data)))
    return data[:end] + data[start:end] + data[end:]


def inserted(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice([1, 1, 3])):
        place = at(rng, data)
        data = data[:place] + rng.choice(CONTROLS) * rng.choice([1, 1, 1, 50]) + data[place:]
    return data


def encoded(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace") + rng.choice(["", "é", "日本"])
    return text.encode(rng.choice(ENCODINGS), "replace")


def renumbered(rng: random.Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data))
    if not found:
        return inserted(rng, data)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(NUMBERS) + data[one.end() :]


def nested(rng: random.Random, data: bytes) -> bytes:
    opening = rng.choice([b"[", b'{"a":', b"(", b"- ", b"<div>", b"> ", b"not ", b"<think>", b"[[", b"a: {"])
    place = at(rng, data) if rng.random() < 0.7 else 0
    return data[:place] + opening * rng.choice([30, 200, 3000, 100_000]) + data[place:]


def lines_moved(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return doubled(rng, data)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(4)
    if how == 0:
        del lines[first]
    elif how == 1:
        lines[first], lines[second] = lines[second], lines[first]
    elif how == 2:
        lines.insert(second, lines[first])
    else:
        lines[first] = lines[first].rstrip(b"\r\n")
    return b"".join(lines)


def line_ends(rng: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", rng.choice([b"\r\n", b"\r", b"", b"\n\n", b"\x00\n"]))


def swallowed(rng: random.Random, data: bytes) -> bytes:
    return rng.choice(
        [b"", b"\n", b" ", b"\0" * 64, b"\x1f\x8b\x08", b"PK\x03\x04", b"PAR1PAR1", b"[]", b"{}", b"null", b"---\n"]
    )


def retyped(rng: random.Random, data: bytes) -> bytes:
    """Another value in a place of a JSON document, or of one of its lines; other bytes where it is none."""
    lines = data.splitlines()
    for text, back in ((data, None), (rng.choice(lines) if lines else b"", lines)):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        changed = json.dumps(_replaced(rng, value)).encode()
        if back is None:
            return changed
        back[back.index(text)] = changed
        return b"\n".join(back) + b"\n"
    return renumbered(rng, data)


def _replaced(rng: random.Random, value: Any) -> Any:
    places = [value] if isinstance(value, dict | list) and value else []
    for place in places:
        inner = place.values() if isinstance(place, dict) else place
        places += [one for one in inner if isinstance(one, dict | list) and one][: 200 - len(places)]
    if not places or rng.random() < 0.05:
        return rng.choice(VALUES)
    place = rng.choice(places)
    key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
    how = rng.random()
    if how < 0.2:
        del place[key]
    elif how < 0.3 and isinstance(place, dict):
        place[str(rng.choice(VALUES))] = place.pop(key)
    else:
        place[key] = rng.choice(VALUES)
    return value


MUTATIONS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    one.__name__: one
    for one in (
        flipped, cut, cut_out, doubled, inserted, encoded, renumbered, nested, lines_moved, line_ends, swallowed, retyped
    )
}  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """Bytes after one mutation, or rarely several; and what was done."""
    names = rng.choices(list(MUTATIONS), k=rng.choice([1, 1, 1, 1, 2, 3]))
    for name in names:
        data = MUTATIONS[name](rng, data)[: 4 << 20]
    return "+".join(names), data
