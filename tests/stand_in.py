"""A device that is not the CPU, on a machine that has no other: tensors there refuse to be mixed with those here.

Its tensors hold real values and have real gradients, computed on the CPU, so results can be compared. What a GPU would
refuse is refused: operands on two devices, save for numbers (tensors without dimensions) and for indices on the CPU;
kernels of CPUs; and NumPy arrays of what was not brought back first. It goes by the name of PyTorch's ``meta``, which needs no
registering; unlike a real one's, its tensors have values.

    with stand_in.device():
        model.to(stand_in.NAME)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"

aten = torch.ops.aten

INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations that take indices on the CPU."""

MOVES = {aten._to_copy.default, aten.copy_.default}


class Elsewhere(torch.Tensor):
    """A tensor on the device; its values lie in ``here``."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=torch.device(NAME)
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, act: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(act, args, kwargs or {})

    def __repr__(self) -> str:
        return f"Elsewhere({self.here!r})"


class Device(TorchDispatchMode):
    """While active, tensors can be made and moved there."""

    def __torch_dispatch__(self, act: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(act, args, kwargs or {})


def dispatch(act: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation where its operands are, or where it is asked to put its result."""
    operands = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(operand, Elsewhere) for operand in operands)
    if there and act not in MOVES:
        own = args[:1] + args[2:] if act in INDEXED else args
        for operand in tree_flatten((own, kwargs))[0]:
            if isinstance(operand, torch.Tensor) and not isinstance(operand, Elsewhere) and operand.dim():
                raise RuntimeError(f"{act}: operands on {NAME} and on {operand.device}")
        if act.namespace == "mkldnn":
            raise RuntimeError(f"{act} is a kernel of CPUs")
    wanted = kwargs.get("device")
    if wanted is not None:
        there = torch.device(wanted).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu") if there else wanted}
    found = act(*tree_map(_here, args), **tree_map(_here, kwargs))
    if act is aten.copy_.default:
        return args[0]
    if act.__name__.split(".")[0].endswith("_") and not act.__name__.startswith("_"):
        return args[0]
    return tree_map(lambda leaf: Elsewhere(leaf) if isinstance(leaf, torch.Tensor) else leaf, found) if there else found


def _here(leaf: Any) -> Any:
    return leaf.here if isinstance(leaf, Elsewhere) else leaf


@contextmanager
def device() -> Iterator[None]:
    """Within, the device exists."""
    with (
        mock.patch.multiple(torch.inference_mode, __enter__=_no_grad, __exit__=_grad_again),
        mock.patch.multiple(torch, tensor=_tensor, autocast=_autocast),
        Device(),
    ):
        yield


def _no_grad(mode: Any) -> None:
    """Inference mode as its elder brother: its tensors have no versions, which a tensor in Python has to have."""
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(not mode.mode and mode.before)


def _grad_again(mode: Any, *_: Any) -> None:
    torch.set_grad_enabled(mode.before)


_made_here, _autocast_here = torch.tensor, torch.autocast


def _autocast(device: str, *given: Any, enabled: bool = True, **options: Any) -> Any:
    """``torch.autocast``, which does not know the device."""
    return _autocast_here(device, *given, enabled=enabled, **options) if enabled else nullcontext()


def _tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
    """``torch.tensor``, which would make a tensor of the device past all that listens, and so without its values."""
    made = _made_here(data, **options)
    return made if device is None else made.to(device)
