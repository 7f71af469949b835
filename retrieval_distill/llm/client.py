"""The client of every endpoint: parallel requests with retries; announces the cost first.

Knows HTTP, threads and retries; must not know what is asked, or how an answer is parsed.
"""

from __future__ import annotations

import email.utils
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, reduce
from itertools import islice
from typing import Any, Generic, TypeVar

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.llm import adaptations
from retrieval_distill.llm.adaptations import Adaptation, Body

try:
    import httpx
    import tenacity
except ImportError as error:
    raise UserError(f"an endpoint needs {error.name}: pip install 'retrieval-distill[llm]'") from error

logger = logging.getLogger("retrieval_distill")

T = TypeVar("T")

FIRST_WAIT = 1.0
"""Seconds before the second attempt; doubled with every further one, plus up to as much at random."""

LONGEST_WAIT = 60.0
"""Limit of the doubling, in seconds."""

LONGEST_ORDERED_WAIT = 600.0
"""Longest Retry-After that is obeyed, in seconds."""

QUEUE_PER_THREAD = 2
"""Requests queued per thread, which keep it busy while the caller saves answers."""

MAX_BYTES = 1 << 24
"""Largest response accepted: thousands of times what is requested."""

MAX_UNREADABLE = 20
"""Number of questions without a readable answer after which no more are asked."""

_CHECK_REQUEST = "check the model name and the length of what is sent (max_characters)"

CHECKS = {
    400: _CHECK_REQUEST,
    401: "check the API key (the environment variable {key_variable})",
    403: "check that the API key may use this model",
    413: "send less in a request: lower max_characters, and batch where there is one",
    422: _CHECK_REQUEST,
}
"""HTTP status for which retrying is useless -> what to check; other statuses: endpoint and model name."""

OPENAI_KEY = "OPENAI_API_KEY"
"""The environment variable that holds the API key, where nothing else is said."""


class NoAnswerError(Exception):
    """No usable answer. The reason is raw: it may quote the server, which may quote the API key.

    Args:
        reason: Why.
        again: Whether a retry may help.
        after: Seconds to wait before it.
        check: What the user may check, after a semicolon.
        wants: How to adapt the request; this is tried before anything else.
    """

    def __init__(
        self, reason: str, again: bool = True, after: float = 0.0, check: str = "", wants: Adaptation | None = None
    ) -> None:
        super().__init__(reason)
        self.again, self.after, self.check, self.wants = again, after, check, wants


class _FailedError(NoAnswerError):
    """The response does not have the form of an answer."""


class _UnreadableError(UserError):
    """A question was answered, but the answer cannot be parsed."""


@dataclass(frozen=True)
class Questions(Generic[T]):
    """A set of numbered questions."""

    body: Callable[[int], Body]
    """The request of a question."""
    read: Callable[[int, Any], T]
    """Parses the JSON of a question's answer; raises :class:`NoAnswerError` if it holds no usable one."""
    name: Callable[[int], str]
    """What a question asks for, for messages, such as ``"score for query 'q' and document 'd'"``."""
    path: str
    """Where below the base URL it is asked, such as ``"/chat/completions"``."""
    form: str
    """What an answer is, for messages, such as ``"a chat completion"``."""
    instead: T | None = None
    """Replaces an answer that cannot be parsed; ``None``: the question is retried instead."""
    keep: Callable[[int, T, float], object] = lambda number, answer, seconds: None
    """Keeps a question's answer, which took so many seconds, before its thread asks the next; many threads do."""


@dataclass(frozen=True, eq=False)
class Endpoint:
    """A model on a server, with request options; see :func:`endpoint`."""

    url: str
    model: str
    concurrency: int
    timeout: float
    attempts: int
    prices: tuple[float, float] | None
    """Prices per million tokens in and out."""
    key: str = field(repr=False)
    key_variable: str = OPENAI_KEY

    def announce(
        self, count: int, what: str, characters: int, tokens_out: int = 0, calls: int | None = None, fee: float = 0.0
    ) -> None:
        """Announce the cost before it arises.

        Args:
            count: Number of questions.
            what: What one is about, such as ``"pair"``.
            characters: Total number sent; about four make a token.
            tokens_out: Largest total number received.
            calls: Number of requests; ``None``: one for each question.
            fee: Price of the requests themselves.
        """
        tokens_in, cost = characters // 4, ""
        if self.prices or fee:
            by_token = self.prices or (0.0, 0.0)
            cost = f", cost about {fee + (tokens_in * by_token[0] + tokens_out * by_token[1]) / 1e6:,.2f}"
        out = f" and {tokens_out:,} out" if tokens_out else ""
        sent = "" if calls is None else f" in {counted(calls, 'request')}"
        logger.info(
            f"asking {self.model} at {self.url} about {counted(count, what)}{sent}: "
            f"about {tokens_in:,} tokens in{out}{cost}, {counted(self.concurrency, 'request')} at a time"
        )

    def ask(self, numbers: Sequence[int], questions: Questions[T]) -> Iterator[dict[int, T]]:
        """Ask questions; yields answers by number, in the order in which they arrive.

        Raises:
            UserError: The server refuses, or gave no usable answer to a question in ``attempts`` attempts. Requests
                already sent are waited for and their answers yielded first; if answers only could not be parsed, all
                other questions are asked too, up to a limit.
        """
        stop, unread = threading.Event(), list[str]()
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as pool:
            try:
                most = self.concurrency * QUEUE_PER_THREAD
                yield from _answers_as_they_arrive(
                    pool, partial(self._ask, client, stop, unread, questions), numbers, most, stop
                )
            finally:
                stop.set()  # closed early: no thread may wait for a retry
                pool.shutdown(wait=False, cancel_futures=True)
                if unread:
                    logger.warning("%d answers could not be parsed, such as: %s", len(unread), self._line(unread[0]))

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        return httpx.Client(headers=headers, limits=limits, timeout=self.timeout)

    def _ask(
        self, client: httpx.Client, stop: threading.Event, unread: list[str], questions: Questions[T], number: int
    ) -> T:
        """The answer to one question, with retries; ``unread`` collects the problems of answers."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, NoAnswerError) and error.again),
            stop=tenacity.stop_after_attempt(self.attempts) | tenacity.stop_when_event_set(stop),
            wait=_pause,
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        )
        try:
            return attempts(self._attempt, client, unread, questions, number)
        except NoAnswerError as failure:
            tried = f"in {self.attempts} attempts" if failure.again else "and a retry would not help"
            unreadable = failure.again and not isinstance(failure, _FailedError)
            kind = _UnreadableError if unreadable else UserError
            raise kind(  # "from None": the original message must not be shown
                f"{self.url}: no {questions.name(number)} {tried}: {self._line(str(failure))}{failure.check}; "
                "answers so far are kept, and the same command continues"
            ) from None

    def _attempt(self, client: httpx.Client, unread: list[str], questions: Questions[T], number: int) -> T:
        """One attempt at a question, adapted to what the server is known to accept."""
        while True:
            learned = adaptations.learned_adaptations(self.url, self.model)
            body = reduce(lambda body, adaptation: adaptation.change(body), learned, questions.body(number))
            start = time.monotonic()
            try:
                content = self._answer(client, questions.path, body)
                seconds = time.monotonic() - start
                found = _read(questions, number, content)
                questions.keep(number, found, seconds)
                return found
            except NoAnswerError as failure:
                if failure.wants is not None and failure.wants not in learned:
                    adaptations.learn(self.url, self.model, failure.wants)
                elif isinstance(failure, _FailedError):
                    raise
                elif questions.instead is None:
                    unread.append(str(failure))
                    raise
                else:
                    return questions.instead

    def _answer(self, client: httpx.Client, path: str, body: Body) -> bytes:
        try:
            with client.stream("POST", f"{self.url}{path}", json=body) as response:
                content = _read_limited(response)
        except httpx.RequestError as error:
            raise _FailedError(f"{type(error).__name__}: {error}") from error
        if not response.is_success:
            raise _refusal_error(response, content, body, self.key_variable)
        return content

    def _line(self, text: str) -> str:
        """A server's message as one short line, without the API key, which it may contain."""
        line = " ".join((text.replace(self.key, "***") if self.key else text).split())
        line = line.encode(errors="replace").decode()  # lone surrogates cannot be printed
        return line if len(line) <= 200 else f"{line[:199]}…"


def endpoint(
    model: str,
    url: str,
    *,
    api_key: str | None = None,
    key_variable: str = OPENAI_KEY,
    concurrency: int = 8,
    timeout: float = 60.0,
    attempts: int = 6,
    price_in: float | None = None,
    price_out: float | None = None,
) -> Endpoint:
    """Set up a model on a server, without sending a request.

    Args:
        model: The model's name on the server.
        url: Base URL, such as ``http://localhost:8000/v1``.
        api_key: ``None``: what the environment variable ``key_variable`` holds; a local server may need none.
        key_variable: Name of that variable.
        concurrency: Number of parallel requests.
        timeout: Seconds to wait for a silent server.
        attempts: Requests for one answer before giving up.
        price_in: Price of a million tokens in, to announce the cost.
        price_out: Price of a million tokens out.

    Raises:
        UserError: An option is invalid.
    """
    for name, value in {"concurrency": concurrency, "attempts": attempts}.items():
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    if not timeout > 0:
        raise UserError(f"timeout={timeout} must be more than 0 seconds")
    prices = None if price_in is None or price_out is None else (price_in, price_out)
    if (price_in is None) != (price_out is None) or min(prices or (0,)) < 0:
        raise UserError(f"price_in={price_in} and price_out={price_out}: give both, each at least 0, or neither")
    key = _check_key(os.environ.get(key_variable, "") if api_key is None else api_key)
    return Endpoint(_check_url(url), model, concurrency, timeout, attempts, prices, key, key_variable)


def _check_url(url: str) -> str:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"endpoint {url!r} is not a URL: {error}") from error
    if parts.userinfo or parts.query or parts.fragment:  # these may hold secrets, and an endpoint is logged and stored
        raise UserError("the endpoint must be a plain base URL, without user, password, query or fragment")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise UserError(f"endpoint {url!r} must be an http or https URL, such as http://localhost:8000/v1")
    return url.rstrip("/")


def _check_key(key: str) -> str:
    """The key, stripped. A key that is invalid in a header would show up in the HTTP library's errors."""
    if not re.fullmatch(r"[!-~]*", key.strip()):
        raise UserError("the API key contains invalid characters (spaces, line breaks or non-ASCII)")
    return key.strip()


def _answers_as_they_arrive(
    pool: ThreadPoolExecutor, ask: Callable[[int], T], numbers: Sequence[int], most: int, stop: threading.Event
) -> Iterator[dict[int, T]]:
    """Answers as they arrive, with at most ``most`` questions in flight, until one fails.

    After a failure no new question is sent, but those in flight are waited for, since they are paid for.
    """
    waiting, in_flight, failures = iter(numbers), dict[Future[T], int](), list[BaseException]()
    while True:
        if not stop.is_set():
            in_flight |= {pool.submit(ask, number): number for number in islice(waiting, most - len(in_flight))}
        if not in_flight:
            break
        done = {future: in_flight.pop(future) for future in wait(in_flight, return_when=FIRST_COMPLETED).done}
        failures += [error for future in done if (error := future.exception())]
        if len(failures) > MAX_UNREADABLE or not all(isinstance(failure, _UnreadableError) for failure in failures):
            stop.set()
            in_flight = {future: number for future, number in in_flight.items() if not future.cancel()}
        answers = {number: future.result() for future, number in done.items() if not future.exception()}
        if answers:
            yield answers
    if len(failures) > 1 and isinstance(failures[0], _UnreadableError):
        raise UserError(f"{failures[0]} ({counted(len(failures), 'question', 'have')} no readable answer)")
    if failures:
        raise failures[0]


def _read(questions: Questions[T], number: int, content: bytes) -> T:
    """The answer in a response.

    Raises:
        NoAnswerError: It does not have the form of one, or holds none.
    """
    try:
        return questions.read(number, json.loads(content))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _FailedError(f"the answer is not {questions.form}: {_text(content)}") from error


def _read_limited(response: httpx.Response) -> bytes:
    """The response's content, refused beyond ``MAX_BYTES``."""
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > MAX_BYTES:
            raise _FailedError(f"the answer is longer than {MAX_BYTES:,} bytes")
    return bytes(content)


def _text(content: bytes) -> str:
    return content[:1000].decode(errors="replace")


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds to the next attempt: back-off with jitter, on top of the server's Retry-After."""
    backoff = tenacity.wait_exponential(FIRST_WAIT, LONGEST_WAIT) + tenacity.wait_random(0, FIRST_WAIT)
    failure = state.outcome.exception() if state.outcome else None
    ordered = failure.after if isinstance(failure, NoAnswerError) else 0.0
    return backoff(state) + min(max(ordered, 0.0), LONGEST_ORDERED_WAIT)


def _retry_after(header: str) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 if it is invalid."""
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    try:
        return (email.utils.parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _refusal_error(response: httpx.Response, content: bytes, body: Body, key_variable: str) -> NoAnswerError:
    """The error for an unsuccessful status, with the server's message from the usual JSON envelope, if any."""
    status = response.status_code
    try:
        error = json.loads(content)["error"]
        message, parameter = str(error["message"]), str(error.get("param"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message, parameter = _text(content) or response.reason_phrase, ""
    if status in (408, 409, 429) or status >= 500:
        return _FailedError(f"status {status}: {message}", after=_retry_after(response.headers.get("Retry-After", "")))
    check = CHECKS.get(status, "check the endpoint (it usually ends in /v1) and the model name")
    check = check.format(key_variable=key_variable)
    if status in (400, 422) and "logprobs" in body:
        check += "; without logprobs use mode=graded"
    wants = adaptations.for_refusal(f"{message} {parameter}", body) if status in (400, 422) else None
    return _FailedError(f"status {status}: {message}", again=False, check=f"; {check}", wants=wants)
