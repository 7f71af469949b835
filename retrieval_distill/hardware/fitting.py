"""Work in parts that fit into a device's memory: halved whenever it runs out, for one batch and all later ones.

Knows errors and devices; must not know models or texts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices

logger = logging.getLogger("retrieval_distill")

R = TypeVar("R")


@dataclass(eq=False)
class Fitting:
    """How much of a batch goes through a model at once.

    Args:
        tokens: Padded tokens of one forward pass, to begin with.
        what: What is done, for the message.
        advice: What to do when not even one text fits.
    """

    tokens: int
    what: str
    advice: str

    def __call__(self, work: Callable[[np.ndarray], R], batch: np.ndarray, longest: int) -> list[R]:
        """The results of all parts of a batch, in order.

        Args:
            work: Done with each part.
            batch: Rows, in the order in which they are cut into parts.
            longest: Tokens of the longest of them.

        Raises:
            UserError: There is not even memory for one row.
            RuntimeError: What ``work`` raised for other reasons.
        """
        start, found = 0, list[R]()
        while start < len(batch):
            part = batch[start : start + max(1, self.tokens // longest)]
            try:
                found.append(work(part))
                start += len(part)
                continue
            except RuntimeError as error:
                if not devices.is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise UserError(f"the device has no memory for {longest} tokens at once; {self.advice}") from error
            self._halve(len(part), longest)
            devices.release_memory()  # only now has the error let go of what the failed pass held
        return found

    def _halve(self, rows: int, longest: int) -> None:
        self.tokens = max(longest, rows * longest // 2)
        logger.warning("out of memory: %s goes on with %s tokens per batch", self.what, f"{self.tokens:,}")
