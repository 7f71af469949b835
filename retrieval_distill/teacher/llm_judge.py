"""A large language model as teacher, behind an OpenAI-compatible chat-completions endpoint.

Knows pairs and prompts; must not know HTTP, stores, Runs or judgements, or how an answer is parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.llm import client, completions, prompts
from retrieval_distill.llm.client import Endpoint, Questions
from retrieval_distill.runtime import stages
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream
from retrieval_distill.teacher.llm_answers import (
    ANSWER_TOKENS,
    LITTLE,
    PARSER_VERSION,
    PROMPTS,
    TOP_LOGPROBS,
    Mode,
    Read,
    answer_parser,
)

logger = logging.getLogger("retrieval_distill")


@dataclass(frozen=True, eq=False)
class LLMJudge:
    """A teacher that sends one request per pair to a language model, several at a time.

    ``fingerprint`` covers everything that changes a score: model name, mode, prompt and the documents' length limit. It
    does not cover the endpoint, so a server may move. Scores by ``mode``:

    * ``log-odds``: logsumexp of the logprobs of the first tokens that read "yes" (in any case, with any white space and
      punctuation) minus that of those that read "no". If only one of the two is listed, the other gets the highest
      logprob it could have: the lower of the smallest listed logprob and the log of the remaining probability (at least
      ``MIN_MASS``). If neither is listed, the pair has no score. Tokens of punctuation only, such as ``**``, are
      skipped.
    * ``graded``: the single number in the answer, from 0 to 4, so many pairs tie. Reasoning is ignored, and so is the
      scale ("3 of 4", "0-4: 3"); an answer with several numbers is refused.
    """

    fingerprint: str
    description: dict[str, Any]
    endpoint: Endpoint
    mode: Mode
    prompt: str
    max_characters: int
    read: Read

    def score(self, pairs: Pairs) -> ScoreStream:
        """Request the wanted pairs, and yield scores as answers arrive.

        Raises:
            UserError: As :meth:`retrieval_distill.llm.client.Endpoint.ask`.
        """
        if not pairs.wanted.any():
            return
        self._announce(pairs)
        questions = Questions(
            lambda position: self._body(*pairs.texts(position)),
            lambda _, answer: self.read(completions.first_choice(answer)),
            _pair_description(pairs),
            completions.PATH,
            completions.FORM,
        )
        said: list[float] = []
        for answers in self.endpoint.ask(pairs.positions.tolist(), questions):
            said += [answer.said for answer in answers.values()]
            yield np.array(list(answers), np.int64), np.array([answer.score for answer in answers.values()], np.float32)
        self._warn_of_silence(said)

    def _warn_of_silence(self, said: Sequence[float]) -> None:
        """Say so where a model would answer with other words, as one that was not trained to follow instructions."""
        median = float(np.median(said))
        if median < LITTLE:
            logger.warning(
                "%s hardly says yes or no (median probability of both together: %.2g): such scores compare what it "
                "would not say; ask a model that follows instructions, with another prompt, or with mode=graded",
                self.endpoint.model, median,
            )  # fmt: skip

    def _announce(self, pairs: Pairs) -> None:
        """Log the expected cost before the first request."""
        queries, documents = pairs.rows[pairs.wanted].T
        query_sizes = np.fromiter(map(len, pairs.queries), np.int64, len(pairs.queries))
        document_sizes = np.fromiter(map(len, pairs.documents), np.int64, len(pairs.documents))
        prompts.announce_truncation(document_sizes[np.unique(documents)], self.max_characters)
        texts = query_sizes[queries] + np.minimum(document_sizes[documents], self.max_characters)
        characters = int(texts.sum()) + len(queries) * len(prompts.fill(self.prompt, query="", document=""))
        self.endpoint.announce(len(queries), "pair", characters, len(queries) * ANSWER_TOKENS[self.mode])

    def _body(self, query: str, document: str) -> dict[str, Any]:
        content = prompts.fill(self.prompt, query=query, document=document[: self.max_characters])
        question: dict[str, Any] = {"model": self.endpoint.model, "messages": [{"role": "user", "content": content}]}
        question |= {"temperature": 0, "max_tokens": ANSWER_TOKENS[self.mode]}
        if self.mode == "log-odds":
            question |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        return question


def load(
    model: str,
    endpoint: str,
    *,
    api_key: str | None = None,
    mode: Mode = "log-odds",
    prompt: str | None = None,
    positive: Sequence[str] = ("yes",),
    negative: Sequence[str] = ("no",),
    max_characters: int = 6000,
    **options: Any,
) -> LLMJudge:
    """A language model behind an endpoint as teacher; nothing is requested yet.

    Args:
        model: The model's name on the server.
        endpoint: Base URL, such as ``http://localhost:8000/v1``.
        api_key: ``None``: the environment variable ``OPENAI_API_KEY``; a local server may need none.
        mode: ``"log-odds"`` of yes against no, or ``"graded"`` for servers that return no logprobs.
        prompt: Template with ``{query}`` and ``{document}``; ``None``: the mode's own.
        positive: For ``log-odds``, words that mean that the document is relevant, in the prompt's language.
        negative: Words that mean that it is not.
        max_characters: Longer documents are truncated.
        options: ``key_variable``, ``concurrency``, ``timeout``, ``attempts``, ``price_in`` and ``price_out`` of
            :func:`retrieval_distill.llm.client.endpoint`.

    Raises:
        UserError: An option has an invalid value.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode={mode!r} is unknown{nearest(mode, get_args(Mode))}")
    template = PROMPTS[mode] if prompt is None else prompt
    prompts.check_template(template, ("query", "document"))
    if max_characters < 1:
        raise UserError(f"max_characters={max_characters} must be at least 1")
    asked = client.endpoint(model, endpoint, api_key=api_key, **options)
    description = {"kind": "llm", "model": model, "mode": mode, "prompt": template, "max_characters": max_characters}
    words = {"positive": list(positive), "negative": list(negative)} if mode == "log-odds" else {}
    description |= {**words, "reading": PARSER_VERSION}
    return LLMJudge(
        fingerprint=stages.fingerprint(description)[:32],
        description={**description, "endpoint": asked.url},
        endpoint=asked,
        mode=mode,
        prompt=template,
        max_characters=max_characters,
        read=answer_parser(mode, positive, negative),
    )


def _pair_description(pairs: Pairs) -> Callable[[int], str]:
    def name(position: int) -> str:
        query, document = pairs.ids(position)
        return f"score for query {query!r} and document {document!r}"

    return name
