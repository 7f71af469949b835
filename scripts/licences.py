"""The licences of what an installation brings along, read from the metadata of what is installed here.

    python scripts/licences.py                # of the package alone
    python scripts/licences.py demo serve     # with extras

Ends with 1 where a distribution names no licence, or one that would bind what is built with it (GPL, AGPL).
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BINDING = re.compile(r"\bA?GPL", re.IGNORECASE)
"""Licences that pass to what is built with them; the LGPL's libraries do not."""


def closure(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Everything that is installed with a distribution and its extras, by canonical name."""
    found: dict[str, Distribution] = {}
    todo, seen = [(name, extras)], set()
    while todo:
        name, wanted = todo.pop()
        if (canonicalize_name(name), wanted) in seen:
            continue
        seen.add((canonicalize_name(name), wanted))
        try:
            found[canonicalize_name(name)] = here = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        for requirement in map(Requirement, here.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                todo.append((requirement.name, frozenset(requirement.extras)))
    return found


def licence(of: Distribution) -> str:
    """What its metadata says, on one line; empty where it says nothing."""
    said = of.metadata.get("License-Expression") or ""
    classes = [line.rpartition(" :: ")[2] for line in of.metadata.get_all("Classifier") or () if "License ::" in line]
    return said or ", ".join(classes) or (of.metadata.get("License") or "").strip().partition("\n")[0]


def main(extras: list[str]) -> int:
    """Print the table, and say what is wrong with it."""
    table = {
        name: (of.version, licence(of)) for name, of in sorted(closure("retrieval-distill", frozenset(extras)).items())
    }
    print("| distribution | version | licence |\n|---|---|---|")
    for name, (version, said) in table.items():
        print(f"| {name} | {version} | {said} |")
    wrong = [name for name, (_, said) in table.items() if not said or BINDING.search(said)]
    if wrong:
        print(f"without a licence, or with one that binds what is built with it: {', '.join(wrong)}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
