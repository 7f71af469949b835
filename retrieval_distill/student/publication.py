"""A student on the Hugging Face hub: what is uploaded, and the upload.

Knows a model's folder, its card and the hub; must not know recipes or how a student is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval_distill import models
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted, size
from retrieval_distill.student import card

PRIVATE = {"manifest.json"}
"""Files beside the model's own, which name folders of this machine."""

TOKEN = "HF_TOKEN"
"""Environment variable with the hub's token."""


@dataclass(frozen=True)
class Publication:
    """A model's files as they are, or would be, on the hub."""

    repo: str
    files: dict[str, int]
    """Path -> bytes."""
    url: str | None = None
    """The repository's address; ``None``: nothing was uploaded."""

    def __str__(self) -> str:
        listed = "\n".join(f"  {name}  {size(count)}" for name, count in self.files.items())
        return f"{counted(len(self.files), 'file')}, {size(sum(self.files.values()))}, for {self.repo}:\n{listed}"


def publish(folder: str | Path, repo: str, *, upload: bool, private: bool, endpoint: str | None = None) -> Publication:
    """Upload a model, or say what would be uploaded.

    Args:
        folder: The model's.
        repo: ``USER/NAME`` on the hub; made if there is none.
        upload: ``False``: nothing leaves this machine.
        private: Whether a repository that is made is private.
        endpoint: Address of the hub; ``None``: huggingface.co, or what ``HF_ENDPOINT`` says.

    Raises:
        UserError: No model is there, the name cannot be one of the hub's, or the hub refuses.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"{repo!r} cannot be a repository's name: {error}") from None
    if "/" not in repo:
        raise UserError(f"{repo!r}: name the repository USER/NAME")
    files = _files(models.resolve(str(folder)), repo)
    found = Publication(repo, {name: _bytes(content) for name, content in files.items()})
    return Publication(repo, found.files, _upload(files, repo, private, endpoint)) if upload else found


def _files(folder: Path, repo: str) -> dict[str, Path | bytes]:
    """The model's files; its card says how to load it from the hub."""
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files: dict[str, Path | bytes] = {
        name.as_posix(): path
        for name, path in paths.items()
        if not any(part.startswith(".") for part in name.parts) and name.name not in PRIVATE
    }
    if card.FILE not in files:
        raise UserError(f"{folder}: no {card.FILE}; a model on the hub needs a card that says what it is for")
    text = (folder / card.FILE).read_text(encoding="utf-8")
    files[card.FILE] = text.replace(card.PLACE, repo).encode()
    return files


def _bytes(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _upload(files: dict[str, Path | bytes], repo: str, private: bool, endpoint: str | None) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi(endpoint=endpoint)
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        url = str(api.create_repo(repo, private=private, exist_ok=True))
        api.create_commit(repo, added, commit_message="Upload a student of retrieval-distill")
    except OfflineModeIsEnabled:
        raise UserError("nothing is uploaded in offline mode: unset HF_HUB_OFFLINE") from None
    except LocalTokenNotFoundError:
        raise UserError(f"the hub wants a token: set {TOKEN}, or log in with: hf auth login") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        hint = f"; is {TOKEN} a token that may write to {repo}?" if status in (401, 403) else ""
        raise UserError(f"the hub refused {repo} ({status}): {error.server_message or error}{hint}") from None
    except Exception as error:  # of whichever HTTP library the hub's uses
        raise UserError(f"nothing was published: {error}; is the hub to be reached from here?") from error
    return url
