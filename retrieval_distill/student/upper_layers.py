"""A transformer entered half-way: what a layer is given is taken out, or put in, and the layers below do not run.

Knows layers and hidden states; must not know where these are kept or what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from retrieval_distill.student import layers


@dataclass(frozen=True, eq=False)
class States:
    """A text as a layer sees it: hidden states [tokens, width], and how many layers they have gone through."""

    values: Tensor
    layers: int

    def __len__(self) -> int:
        return len(self.values)


def padded(rows: Sequence[States]) -> tuple[dict[str, Tensor], Tensor]:
    """Texts as features of their lengths (token ids are all 0), and their states, [rows, longest, width]."""
    states = nn.utils.rnn.pad_sequence([row.values for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(states.shape[1]) < lengths[:, None]).long()
    return {"input_ids": torch.zeros_like(mask), "attention_mask": mask}, states


@contextmanager
def entered(transformer: Any, count: int, states: Tensor | None) -> Iterator[None]:
    """Within, the lower ``count`` layers do not run, and the next one is given these states; ``None``: all run."""
    with ExitStack() as stack:
        if states is not None:
            below, above = _split(transformer, count)
            for layer in below:
                layer.forward = _pass_on  # of this object alone, until it is deleted
                stack.callback(delattr, layer, "forward")
            hook = above.register_forward_pre_hook(partial(_given, states), with_kwargs=True)
            stack.callback(hook.remove)
        yield


def below(transformer: Any, count: int, run: Any) -> Tensor:
    """What the layer above the lower ``count`` is given when ``run()`` runs the transformer, which stops there."""
    _, above = _split(transformer, count)

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _ReachedError(args[0] if args else kwargs["hidden_states"])

    hook = above.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        run()
    except _ReachedError as reached:
        return reached.states
    finally:
        hook.remove()
    raise RuntimeError(f"layer {count} was not run")


class _ReachedError(Exception):
    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def _split(transformer: Any, count: int) -> tuple[list[nn.Module], nn.Module]:
    _, stack = layers.stack_of(transformer.auto_model, "layers")
    return list(stack[:count]), stack[count]


def _pass_on(hidden: Any = None, *_: Any, **__: Any) -> tuple[Any, None]:
    return hidden, None  # some architectures take a layer's output for a pair; none looks into it before ``above``


def _given(states: Tensor, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})
