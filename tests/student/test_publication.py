"""Publishing a student, against a stand-in for the hub that speaks its protocol."""

from __future__ import annotations

import base64
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import retrieval_distill as rd
from retrieval_distill.errors import UserError
from retrieval_distill.student.publication import publish
from tests.commands import command

REPO = "someone/a-student"


class Hub(BaseHTTPRequestHandler):
    """Takes repositories and commits; ``refusal`` is the status that it gives instead."""

    made: dict[str, dict]
    refusal: int | None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.headers.get("Authorization"):
            return self._answer(401, {"error": "who are you?"})
        if self.server.refusal:
            return self._answer(self.server.refusal, {"error": "not yours"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.made[name] = {"visibility": asked.get("visibility"), "files": {}}
            return self._answer(200, {"url": f"http://127.0.0.1:{self.server.server_port}/{name}", "name": name})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"warnings": [], "errors": []})
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", self.path):
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for file in json.loads(body)["files"]]  # fmt: skip
            return self._answer(200, {"files": files})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.made[found[1]]["files"][entry["value"]["path"]] = content
            url = f"http://127.0.0.1:{self.server.server_port}/{found[1]}/commit/{'0' * 40}"
            return self._answer(200, {"commitUrl": url, "commitOid": "0" * 40, "pullRequestUrl": None})
        return self._answer(404, {"error": self.path})

    def _answer(self, status: int, values: dict) -> None:
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.made, server.refusal = {}, None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield server
    server.shutdown()


@pytest.fixture
def student(encoders, tmp_path) -> Path:
    folder = tmp_path / "student"
    shutil.copytree(encoders["bert"], folder)
    (folder / "README.md").write_text('# A student\n\nmodel = SentenceTransformer("path/to/this/folder")\n')
    (folder / "manifest.json").write_text('{"inputs": {"folder": "/home/me/secret-project"}}')
    (folder / ".fingerprint").write_text("{}")
    return folder


def address(hub: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{hub.server_port}"


def test_what_is_uploaded_is_the_model(hub, student):
    found = publish(student, REPO, upload=True, private=True, endpoint=address(hub))
    made = hub.made[REPO]
    assert made["visibility"] == "private" and found.url
    own = {path.relative_to(student).as_posix() for path in student.rglob("*") if path.is_file()}
    assert set(made["files"]) == own - {"manifest.json", ".fingerprint"} == set(found.files)
    for name, content in made["files"].items():
        if name != "README.md":
            assert content == (student / name).read_bytes(), name
    assert b"secret-project" not in b"".join(made["files"].values())
    assert b'SentenceTransformer("someone/a-student")' in made["files"]["README.md"]


def test_what_was_uploaded_is_the_student(hub, student, tmp_path):
    publish(student, REPO, upload=True, private=False, endpoint=address(hub))
    for name, content in hub.made[REPO]["files"].items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    one, other = (rd.Student.open(folder).encode_queries(["a question"]) for folder in (student, tmp_path / "copy"))
    assert (one == other).all()


def test_nothing_is_sent_unless_asked(hub, student, monkeypatch):
    found = rd.push(student, REPO)
    assert found.url is None and not hub.made
    assert found.files["config.json"] == (student / "config.json").stat().st_size
    told = command("push", student, REPO)
    assert "model.safetensors" in told and "nothing was uploaded; add --upload to do it" in told


@pytest.mark.parametrize("repo", ["no-user", "two/many/parts", "a space/b", "me/ü"])
def test_a_name_that_the_hub_does_not_take_is_refused(student, repo):
    with pytest.raises(UserError, match="repository"):
        rd.push(student, repo)


def test_a_model_without_a_card_is_refused(student):
    (student / "README.md").unlink()
    with pytest.raises(UserError, match=r"no README[.]md; a model on the hub needs a card"):
        rd.push(student, REPO)


def test_a_refusal_names_the_token_and_does_not_show_it(hub, student):
    hub.refusal = 403
    with pytest.raises(UserError, match=r"refused someone/a-student \(403\): .*HF_TOKEN") as caught:
        publish(student, REPO, upload=True, private=False, endpoint=address(hub))
    assert "hf_secret" not in str(caught.value)


def test_no_connection_is_told(student, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(UserError, match=r"nothing was published: .*refused"):
        publish(student, REPO, upload=True, private=False, endpoint="http://127.0.0.1:9")


def test_offline_nothing_is_uploaded(student, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="unset HF_HUB_OFFLINE"):
        publish(student, REPO, upload=True, private=False)
