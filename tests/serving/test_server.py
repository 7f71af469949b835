"""The server as a whole: tokens, limits, slow and leaving clients, full queues, swaps under load, and how it stops."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding.embed import embed
from retrieval_distill.errors import UserError
from retrieval_distill.index.faiss_index import index
from retrieval_distill.serving import server
from retrieval_distill.serving.limits import Limits
from tests.serving.conftest import serving

QUERY = {"query": "split root extension", "depth": 3}
BRIEF = Limits(body=100_000, body_seconds=0.5, waiting=40, watch_seconds=0.2, stop_seconds=10)
SECRET = "zanzibar"
"""A word of queries that must not be logged."""


@pytest.fixture(scope="module")
def brief(finished_run):
    """A server with small limits and a token."""
    with serving(finished_run, token="s3cret", limits=BRIEF) as found:
        yield found


BEARER = {"Authorization": "Bearer s3cret"}


def raw(served, sent: bytes, *, wait: float = 5) -> bytes:
    """What the server answers to these bytes."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(sent)
        return connection.recv(65536)


def head(length: int, path: str = "/search") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_a_token_is_needed_but_for_the_page_and_health(brief):
    for given in (None, "Bearer wrong", "Bearer s3cret2", "Bearer", "Basic s3cret", "Bearer s3cret x"):
        refused = brief.post("/search", QUERY, headers={"Authorization": given} if given else {})
        assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer", given
        assert refused.json()["error_type"] == "Unauthorized"
    openai = brief.post("/v1/embeddings", {"model": "student", "input": "a"})
    assert openai.status_code == 401 and openai.json()["error"]["code"] == "invalid_api_key"
    with brief.client() as client:
        open_, closed = ("/", "/health", "/ready"), ("/metrics", "/version", "/systems", "/openapi.json")
        assert [client.get(path).status_code for path in open_] == [200] * 3
        assert [client.get(path).status_code for path in closed] == [401] * 4
        assert client.post("/reload").status_code == 401
    assert brief.post("/search", QUERY, headers=BEARER).status_code == 200
    assert brief.post("/search", QUERY, headers={"Authorization": "bearer s3cret"}).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nul", b"[" * 50_000, b'{"query": NaN}', b"\xff\xfe", b'"a"', b"[]", b"1e999"]
)
def test_malformed_json_is_told(brief, body):
    for path, status in (("/search", 422), ("/v1/embeddings", 400)):
        with brief.client() as client:
            found = client.post(path, content=body, headers={**BEARER, "content-type": "application/json"})
        assert found.status_code in (status, 400), found.text
        assert found.json()["error"]


def test_forms_and_wrong_methods_are_refused(brief):
    with brief.client(headers=BEARER) as client:
        assert client.post("/search", data={"query": "a"}).status_code == 422
        assert client.get("/search").status_code == 405
        assert client.get("/nothing").json() == {"error": "Not Found", "error_type": "NotFound"}
        assert client.get("/v1/nothing").json()["error"]["type"] == "invalid_request_error"
        assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere


def test_a_large_body_is_refused_before_it_is_read(brief):
    assert raw(brief, head(10**9)).startswith(b"HTTP/1.1 413")
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    sent = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + chunk * 2
    assert raw(brief, sent).startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_given_up_while_others_are_served(brief):
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(raw, brief, head(50) + b'{"query": ')
        assert brief.post("/search", QUERY, headers=BEARER).status_code == 200
        assert slow.result().startswith(b"HTTP/1.1 408")


def test_a_body_that_came_while_the_server_was_busy_is_not_called_slow(brief, monkeypatch):
    body, (host, _, port) = json.dumps(QUERY).encode(), brief.url.removeprefix("http://").partition(":")
    monkeypatch.setattr(brief.service, "described", lambda: time.sleep(3 * BRIEF.body_seconds) or {})
    with socket.create_connection((host, int(port)), timeout=30) as connection, ThreadPoolExecutor(1) as pool:
        connection.sendall(head(len(body)) + body[:10])
        time.sleep(0.1)  # until the server waits for the rest
        busy = pool.submit(httpx.get, f"{brief.url}/systems", headers=BEARER, timeout=30)
        time.sleep(0.1)
        connection.sendall(body[10:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200") and busy.result().status_code == 200


def test_clients_that_leave_cost_nothing(brief):
    body = json.dumps({"model": "student", "input": ["split root"] * 30}).encode()
    host, _, port = brief.url.removeprefix("http://").partition(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head(len(body), "/v1/embeddings") + body)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head(len(body)) + body[:10])
    for _ in range(100):
        if not brief.service.batchers["encode"].length:
            break
        time.sleep(0.1)
    assert brief.service.batchers["encode"].length == 0
    assert brief.post("/search", QUERY, headers=BEARER).status_code == 200
    assert brief.service.metrics.registry.get_sample_value("retrieval_distill_requests_in_flight") <= 1


def test_a_full_queue_says_when_to_come_back(brief, monkeypatch):
    go, encoder = threading.Event(), brief.service.engine.encoders["student"]
    own = encoder.of_documents

    def held(texts):
        go.wait(20)
        return own(texts)

    monkeypatch.setitem(encoder.__dict__, "of_documents", held)
    body = {"model": "student", "input": ["split root"] * 30}
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(brief.post, "/v1/embeddings", body, headers=BEARER)
        while not brief.service.batchers["encode"].length:
            time.sleep(0.01)
        refused = brief.post("/v1/embeddings", body, headers=BEARER)
        go.set()
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert first.result().status_code == 200


def test_metrics_and_versions(brief, finished_run):
    brief.post("/search", QUERY, headers=BEARER)
    with brief.client(headers=BEARER) as client:
        text = client.get("/metrics").text
        told = client.get("/version").json()
    for name in ("requests_total", "request_seconds_bucket", "queue_items", "requests_in_flight"):
        assert f"retrieval_distill_{name}" in text
    for stage in ("encode", "search"):
        for name in ("stage_seconds_count", "wait_seconds_count", "batch_items_count"):
            (value,) = re.findall(rf'^retrieval_distill_{name}{{stage="{stage}"}} (\S+)$', text, re.M)
            assert float(value) > 0
    assert 'route="/search",status="200"' in text
    manifest = json.loads((finished_run / "index-student" / "manifest.json").read_text())
    assert told["index"]["fingerprint"] == manifest["fingerprint"] and told["index"]["documents"] == 60
    assert told["model"]["fingerprint"] == manifest["inputs"]["model"] and told["corpus"]["fingerprint"]


def test_an_error_of_ours_is_counted_and_its_message_not_logged(brief, monkeypatch, caplog):
    def broken(questions):
        raise RuntimeError(questions[0].text)

    monkeypatch.setitem(brief.service.engine.__dict__, "find", broken)
    found = brief.post("/search", {"query": SECRET}, headers=BEARER)
    assert found.status_code == 500 and found.json()["error_type"] == "Backend" and SECRET not in found.text
    for _ in range(100):  # it is logged once the answer is sent
        if caplog.text:
            break
        time.sleep(0.05)
    assert "RuntimeError while answering /search" in caplog.text and SECRET not in caplog.text
    count = brief.service.metrics.registry.get_sample_value("retrieval_distill_errors_total", {"kind": "RuntimeError"})
    assert count == 1


@pytest.fixture
def changing(finished_run, encoders, dataset, tmp_path):
    """A copy of the run, and a function that makes its index another: of that many documents."""
    shutil.copytree(finished_run, tmp_path / "run")

    def change(documents: int) -> None:
        texts = dataset.documents.select(dataset.documents.ids[:documents])
        embed(encoders["bert"], Texts(texts.table), tmp_path / f"vectors-{documents}", "float32")
        index(tmp_path / f"vectors-{documents}", tmp_path / "run" / "index-student", "flat")

    return tmp_path / "run", change


def test_a_new_index_is_swapped_in_under_load_without_a_failed_request(changing):
    folder, change = changing
    stop, found = threading.Event(), []
    with serving(folder, limits=BRIEF) as served:

        def ask():
            with served.client() as client:
                while not stop.is_set():
                    try:
                        asked = {**QUERY, "depth": 60, "system": "student"}
                        answer = client.post("/search", json=asked)
                        found.append(answer.json().get("total", answer.text))
                    except Exception as error:
                        found.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for documents in (50, 40):
            change(documents)
            for _ in range(300):
                if served.service.engine.documents == documents:
                    break
                time.sleep(0.1)
        change(30)
        assert served.post("/reload", {}).status_code == 200
        stop.set()
        for thread in threads:
            thread.join()
        assert set(found) == {60, 50, 40} | ({30} & set(found)), set(map(str, found))
        assert served.post("/search", QUERY).json()["total"] == 30
        counted = served.service.metrics.registry.get_sample_value
        assert counted("retrieval_distill_reloads_total", {"result": "opened"}) == 3


def test_what_cannot_be_opened_is_not_swapped_in(changing, caplog):
    folder, _ = changing
    with serving(folder, limits=Limits(watch_seconds=1000)) as served:
        assert served.post("/reload", {}).json()["changed"] is False
        (folder / "student" / "config.json").write_text("{}")
        refused = served.post("/reload", {})
        assert refused.status_code == 409 and "what was there before still answers" in refused.json()["error"]
        assert served.post("/search", QUERY).json()["total"] == 60


def test_the_logging_of_the_program_that_serves_is_left_alone(brief):
    closed = []

    class Own(logging.Handler):
        def close(self):
            closed.append(self)
            super().close()

    own = Own()
    server.configured(brief.service, BRIEF)
    assert not closed
    own.close()
    assert closed == [own]


def test_tokens_and_addresses(tmp_path, monkeypatch):
    monkeypatch.delenv(server.TOKEN, raising=False)
    assert server.read_token(None) is None
    (tmp_path / "token").write_text("abc-123\n")
    assert server.read_token(tmp_path / "token") == "abc-123"
    monkeypatch.setenv(server.TOKEN, "other")
    assert server.read_token(None) == "other" and server.read_token(tmp_path / "token") == "abc-123"
    for wrong in ("", " \n", "a b", "a\nb", "schlüssel"):
        (tmp_path / "token").write_text(wrong)
        with pytest.raises(UserError, match="holds no token"):
            server.read_token(tmp_path / "token")
    with pytest.raises(UserError, match="token-file"):
        server.read_token(tmp_path / "nothing")
    with server.bound("127.0.0.1", 0) as taken, pytest.raises(UserError, match="cannot listen"):
        taken.listen()
        server.bound("127.0.0.1", taken.getsockname()[1])
    assert server.is_loopback("127.0.0.1") and server.is_loopback("::1") and not server.is_loopback("0.0.0.0")


def test_the_program_serves_reloads_and_stops_when_its_requests_have_ended(changing, tmp_path):
    """Its own process, with a token from a file, on SIGHUP and SIGTERM; it says nothing of what was asked."""
    folder, change = changing
    (tmp_path / "token").write_text("s3cret")
    words = ["serve", folder, "--port", "0", "--token-file", tmp_path / "token"]
    with subprocess.Popen(
        [sys.executable, "-m", "retrieval_distill", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"serving 60 documents of '\w+' at (http://127\.0\.0\.1:\d+)", line):
                    break
            else:
                raise AssertionError("".join(said))
            assert "s3cret" not in Path(f"/proc/{process.pid}/cmdline").read_text()
            with httpx.Client(base_url=found[1], headers=BEARER, timeout=60, trust_env=False) as client:
                assert client.post("/search", json={"query": SECRET}).json()["total"] == 60
                change(50)
                process.send_signal(signal.SIGHUP)
                for _ in range(300):
                    if client.get("/systems").json()["docs"] == 50:
                        break
                    time.sleep(0.1)
                assert client.get("/systems").json()["docs"] == 50
            body = {"model": "student", "input": [f"{SECRET} split root {number}" for number in range(2000)]}
            with ThreadPoolExecutor(1) as pool:
                last = pool.submit(httpx.post, f"{found[1]}/v1/embeddings", json=body, headers=BEARER, timeout=60)
                for _ in range(300):
                    text = httpx.get(f"{found[1]}/metrics", headers=BEARER, timeout=60).text
                    if re.search(r'queue_items{stage="encode"} [1-9]', text) or last.done():
                        break
                process.send_signal(signal.SIGTERM)
                assert len(last.result().json()["data"]) == 2000
            said.append(process.stdout.read())
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert SECRET not in "".join(said) and "Traceback" not in "".join(said)
    with pytest.raises(httpx.ConnectError):
        httpx.get(found[1])
