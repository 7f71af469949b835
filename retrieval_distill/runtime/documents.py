"""JSON files with a typed shape and a version, read and written in one way.

Knows pydantic and files; must not know what a document is about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from retrieval_distill.errors import UserError
from retrieval_distill.runtime.files import read_json, write_json


class Part(BaseModel):
    """A part of a document; keys that it lacks have their defaults."""

    model_config = ConfigDict(use_attribute_docstrings=True, populate_by_name=True)

    def plain(self) -> dict[str, Any]:
        """The values as JSON has them."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class Document(Part):
    """A JSON file of its own."""

    file: ClassVar[str]
    """Its name in a folder."""
    noun: ClassVar[str]
    """What it is called in messages, such as ``"report of a run"``."""
    remedy: ClassVar[str]
    """What to do if it is malformed."""
    current: ClassVar[int] = 1
    """The version that is written. Files without a number are of version 1."""

    version: int = 1
    """Version of the format; missing: 1."""

    def write(self, folder: Path, file: str | None = None) -> None:
        """Write the document into a folder, in the current version; ``file`` is a name other than the usual one."""
        self.version = self.current
        write_json(folder / (file or self.file), self.plain())

    @classmethod
    def read(cls, folder: Path, file: str | None = None) -> Self | None:
        """The document in a folder; ``None`` if there is none.

        Raises:
            UserError: It is malformed, or of a later version.
        """
        path = folder / (file or cls.file)
        if not path.is_file():
            return None
        try:
            values = read_json(path)
        except UserError as error:
            raise UserError(f"{error}; {cls.remedy}") from None
        version = values.get("version", 1) if isinstance(values, dict) else 1
        if isinstance(version, int) and version > cls.current:
            raise UserError(f"{path}: a later version of retrieval-distill wrote this {cls.noun}; upgrade to read it")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            at = ".".join(map(str, problem["loc"])) or "the whole"
            raise UserError(f"{path}: this is no {cls.noun} ({at}: {problem['msg']}); {cls.remedy}") from None
