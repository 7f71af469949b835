"""Documents by topic, so that negatives can be drawn from the topic of the relevant document.

Knows document vectors and which documents are relevant; must not know texts or scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.mining.draw import Pool
from retrieval_distill.training import topics

SAMPLE = 256
"""Documents per topic that k-means is trained on, drawn at random: FAISS's default."""


def documents_by_topic(embeddings: Embeddings, relevant: Mapping[str, Sequence[str]], count: int, seed: int) -> Pool:
    """A pool of the documents with the topic of a query's first relevant document; empty if it has none.

    Args:
        embeddings: The corpus.
        relevant: Query id -> ids of relevant documents.
        count: Number of topics, by k-means.
        seed: Random seed of k-means and its sample.

    Raises:
        UserError: There are fewer documents than topics.
    """
    ids = embeddings.ids
    sample = np.random.default_rng(seed).permutation(len(ids))[: SAMPLE * count]
    index = topics.fit(embeddings.take([ids[row] for row in sorted(sample)]), count, seed, "mining.topics")
    topic = np.concatenate([topics.nearest(index, shard) for shard in embeddings.shards()])
    members = {number: [ids[row] for row in np.flatnonzero(topic == number)] for number in range(count)}
    of_document = dict(zip(ids, topic.tolist(), strict=True))
    return lambda query: members.get(next((of_document[d] for d in relevant[query] if d in of_document), -1), [])
