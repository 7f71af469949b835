"""A large language model as a teacher, asked over an OpenAI-compatible chat-completions endpoint.

Knows HTTP, threads and retries; must not know stores, Runs or judgements, or how an answer is read.
"""

from __future__ import annotations

import email.utils
import logging
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, get_args

import numpy as np

from retrieval_distill import artifacts
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.teacher.contract import Pairs, Scored
from retrieval_distill.teacher.llm_answers import (
    ANSWER_TOKENS,
    PROMPTS,
    READERS,
    TOP_LOGPROBS,
    Mode,
    NoScoreError,
    filled,
)

try:
    import httpx
    import tenacity
except ImportError as error:
    raise UserError(f"an LLM judge needs {error.name}: pip install 'retrieval-distill[llm]'") from error

logger = logging.getLogger("retrieval_distill")

FIRST_WAIT = 1.0
"""Seconds before the second attempt; they double with every further one, and up to as much is added at random."""

LONGEST_WAIT = 60.0
"""Seconds that the doubling stops at."""

LONGEST_ORDERED_WAIT = 600.0
"""Seconds that a server's Retry-After is obeyed at most."""

QUEUED_PER_THREAD = 2
"""Pairs handed to the threads ahead of their answers: keeps them busy while the caller commits scores."""

_CHECK_REQUEST = "check the model name and the prompt's length (max_characters); without logprobs use mode=graded"

CHECKS = {
    400: _CHECK_REQUEST,
    401: "check the API key (api_key or the environment variable OPENAI_API_KEY)",
    403: "check that the API key may use this model",
    422: _CHECK_REQUEST,
}
"""What to check where asking again would change nothing; other statuses: endpoint and model name."""


@dataclass(frozen=True, eq=False)
class LLMJudge:
    """A teacher that asks a language model about one pair at a time, several pairs at once.

    ``fingerprint`` covers all that changes a score: model name, mode, prompt and where documents are cut. It does
    not cover the endpoint, so a server may move. Scores by ``mode``:

    * ``log-odds``: logsumexp of the logprobs of the first tokens that read "yes" (in any case, with any space) less
      that of those that read "no". If only one of the two is among the listed tokens, the other counts with the most
      that it could have: the smallest listed logprob, or the log of the probability that the listed tokens leave
      over (at least ``LEAST_MASS``), whichever is less. If neither is listed, the answer is no answer.
    * ``graded``: the first number of the answer, which must lie within 0 to 4; many pairs tie.
    """

    fingerprint: str
    description: dict[str, Any]
    endpoint: str
    model: str
    mode: Mode
    prompt: str
    max_characters: int
    concurrency: int
    timeout: float
    attempts: int
    prices: tuple[float, float] | None
    """Per million tokens in and out."""
    key: str = field(repr=False)

    def score(self, pairs: Pairs) -> Scored:
        """Ask about the wanted pairs; scores come in the order in which answers arrive.

        Raises:
            UserError: The server refuses, or gave no usable answer for a pair in ``attempts`` attempts. Everything
                that was asked by then has been waited for and yielded.
        """
        if not pairs.wanted.any():
            return
        self._announce(pairs)
        stop = threading.Event()
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as pool:
            try:
                ask = partial(self._ask, client, stop, pairs)
                most = self.concurrency * QUEUED_PER_THREAD
                yield from _as_answered(pool, ask, pairs.positions, most, stop)
            finally:
                stop.set()  # closed early: no thread may wait for a further attempt
                pool.shutdown(wait=False, cancel_futures=True)

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        return httpx.Client(headers=headers, limits=limits, timeout=self.timeout)

    def _announce(self, pairs: Pairs) -> None:
        """Say the cost before it arises."""
        queries, documents = pairs.rows[pairs.wanted].T
        query_sizes = np.fromiter(map(len, pairs.queries), np.int64, len(pairs.queries))
        document_sizes = np.fromiter(map(len, pairs.documents), np.int64, len(pairs.documents))
        cut = int((document_sizes[np.unique(documents)] > self.max_characters).sum())
        if cut:
            logger.info(f"{cut:,} documents are longer than {self.max_characters:,} characters and are cut there")
        texts = query_sizes[queries] + np.minimum(document_sizes[documents], self.max_characters)
        tokens_in = (int(texts.sum()) + len(queries) * len(filled(self.prompt, "", ""))) // 4
        tokens_out = len(queries) * ANSWER_TOKENS[self.mode]
        cost = ""
        if self.prices:
            cost = f", cost about {(tokens_in * self.prices[0] + tokens_out * self.prices[1]) / 1e6:,.2f}"
        logger.info(
            f"asking {self.model} at {self.endpoint} about {len(queries):,} pairs: about {tokens_in:,} tokens in "
            f"and {tokens_out:,} out{cost}, {self.concurrency} requests at a time"
        )

    def _ask(self, client: httpx.Client, stop: threading.Event, pairs: Pairs, position: int) -> float:
        """The score of one pair, in as many attempts as it takes."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, NoScoreError) and error.again),
            stop=tenacity.stop_after_attempt(self.attempts) | tenacity.stop_when_event_set(stop),
            wait=_pause,
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        )
        try:
            return attempts(self._attempt, client, *pairs.texts(position))
        except NoScoreError as failure:
            query, document = pairs.ids(position)
            tried = f"in {self.attempts} attempts" if failure.again else "and asking again would not help"
            raise UserError(  # "from None": the failure's own words are not to be shown
                f"{self.endpoint}: no score for query {query!r} and document {document!r} {tried}: "
                f"{self._line(str(failure))}{failure.check}; what was scored is kept, the same command continues"
            ) from None

    def _attempt(self, client: httpx.Client, query: str, document: str) -> float:
        content = filled(self.prompt, query, document[: self.max_characters])
        question: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        question |= {"temperature": 0, "max_tokens": ANSWER_TOKENS[self.mode]}
        if self.mode == "log-odds":
            question |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        try:
            response = client.post(f"{self.endpoint}/chat/completions", json=question)
        except httpx.RequestError as error:
            raise NoScoreError(f"{type(error).__name__}: {error}") from error
        if not response.is_success:
            raise _refusal(response)
        try:
            return READERS[self.mode](response.json()["choices"][0])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise NoScoreError(f"the answer is not a chat completion: {response.text}") from error

    def _line(self, text: str) -> str:
        """A server's words as one short line without the key, which they may repeat."""
        line = " ".join((text.replace(self.key, "***") if self.key else text).split())
        return line if len(line) <= 200 else f"{line[:199]}…"


def load(
    model: str,
    endpoint: str,
    *,
    api_key: str | None = None,
    mode: Mode = "log-odds",
    prompt: str | None = None,
    max_characters: int = 6000,
    concurrency: int = 8,
    timeout: float = 60.0,
    attempts: int = 6,
    price_in: float | None = None,
    price_out: float | None = None,
) -> LLMJudge:
    """A language model behind an endpoint, as a teacher; nothing is asked yet.

    Args:
        model: The model's name on the server.
        endpoint: Base URL, such as ``http://localhost:8000/v1``.
        api_key: ``None`` takes the environment variable ``OPENAI_API_KEY``; a local server may need none.
        mode: ``"log-odds"`` of yes against no, or ``"graded"`` where the server gives no logprobs.
        prompt: Template with ``{query}`` and ``{document}``; ``None`` takes the mode's own.
        max_characters: Documents are cut to this.
        concurrency: Requests at a time.
        timeout: Seconds to wait for a server that says nothing.
        attempts: Requests for one pair before giving up.
        price_in: Price of a million tokens in, to say the cost before it arises.
        price_out: Price of a million tokens out.

    Raises:
        UserError: An option cannot work.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode={mode!r} is unknown{nearest(mode, get_args(Mode))}")
    template = PROMPTS[mode] if prompt is None else prompt
    if absent := [name for name in ("{query}", "{document}") if name not in template]:
        raise UserError(f"the prompt must contain {' and '.join(absent)}")
    for name, value in {"max_characters": max_characters, "concurrency": concurrency, "attempts": attempts}.items():
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    if not timeout > 0:
        raise UserError(f"timeout={timeout} must be more than 0 seconds")
    prices = None if price_in is None or price_out is None else (price_in, price_out)
    if (price_in is None) != (price_out is None) or min(prices or (0,)) < 0:
        raise UserError(f"price_in={price_in} and price_out={price_out}: give both, each at least 0, or neither")
    base = _checked_endpoint(endpoint)
    description = {"kind": "llm", "model": model, "mode": mode, "prompt": template, "max_characters": max_characters}
    return LLMJudge(
        fingerprint=artifacts.fingerprint(description)[:32],
        description={**description, "endpoint": base},
        endpoint=base,
        model=model,
        mode=mode,
        prompt=template,
        max_characters=max_characters,
        concurrency=concurrency,
        timeout=timeout,
        attempts=attempts,
        prices=prices,
        key=_checked_key(os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key),
    )


def _checked_endpoint(endpoint: str) -> str:
    try:
        url = httpx.URL(endpoint)
    except httpx.InvalidURL as error:
        raise UserError(f"endpoint {endpoint!r} is not a URL: {error}") from error
    if url.userinfo or url.query or url.fragment:  # secrets live there, and an endpoint is logged and stored
        raise UserError("the endpoint must be a plain base URL, without user, password, query or fragment")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"endpoint {endpoint!r} must be an http or https URL, such as http://localhost:8000/v1")
    return endpoint.rstrip("/")


def _checked_key(key: str) -> str:
    """The key without surrounding space; one that no header can carry would show up in the HTTP library's errors."""
    if not re.fullmatch(r"[!-~]*", key.strip()):
        raise UserError("the API key has characters that no key has (spaces, line breaks or non-ASCII)")
    return key.strip()


def _as_answered(
    pool: ThreadPoolExecutor, ask: Callable[[int], float], positions: np.ndarray, most: int, stop: threading.Event
) -> Scored:
    """Scores as their answers arrive, with ``most`` pairs handed out at a time, until one fails.

    Nothing is handed out after a failure, but what is being asked by then is waited for: it was paid for.
    """
    waiting, asked, failures = iter(positions.tolist()), dict[Future[float], int](), list[BaseException]()
    while True:
        if not failures:
            asked |= {pool.submit(ask, position): position for position in islice(waiting, most - len(asked))}
        if not asked:
            break
        done = {future: asked.pop(future) for future in wait(asked, return_when=FIRST_COMPLETED).done}
        failures += [error for future in done if (error := future.exception())]
        if failures:
            stop.set()
            asked = {future: position for future, position in asked.items() if not future.cancel()}
        scores = {position: future.result() for future, position in done.items() if not future.exception()}
        if scores:
            yield np.array(list(scores), np.int64), np.array(list(scores.values()), np.float32)
    if failures:
        raise failures[0]


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds to the next attempt: back-off with jitter, on top of what the server ordered."""
    backoff = tenacity.wait_exponential(FIRST_WAIT, LONGEST_WAIT) + tenacity.wait_random(0, FIRST_WAIT)
    failure = state.outcome.exception() if state.outcome else None
    ordered = failure.after if isinstance(failure, NoScoreError) else 0.0
    return backoff(state) + min(max(ordered, 0.0), LONGEST_ORDERED_WAIT)


def _retry_after(header: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it says nothing sensible."""
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    try:
        return (email.utils.parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _refusal(response: httpx.Response) -> NoScoreError:
    """A status that is no success, with the server's words out of the usual JSON envelope where there is one."""
    status = response.status_code
    try:
        said = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = response.text or response.reason_phrase
    if status in (408, 409, 429) or status >= 500:
        return NoScoreError(f"status {status}: {said}", after=_retry_after(response.headers.get("Retry-After", "")))
    check = CHECKS.get(status, "check the endpoint (it mostly ends in /v1) and the model name")
    return NoScoreError(f"status {status}: {said}", again=False, check=f"; {check}")
