"""Book what a network computes and keeps on the part of it that is running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode


class Meter:
    """Count operations and tensors kept for the backward pass, by the innermost running part.

    Args:
        rest: Name of what runs outside of all parts.
        known: Tensors that are there anyway and do not count as kept.

    Attributes:
        flops: Operations by part, two for each multiply-accumulate.
        kept_bytes: Memory that is kept for the backward pass by part.
    """

    def __init__(self, rest: str, *, known: Iterable[Tensor]) -> None:
        self.flops: Counter[str] = Counter()
        self.kept_bytes: Counter[str] = Counter()
        self._counter = FlopCounterMode(display=False)
        self._running = [rest]
        self._storages = {_storage(tensor) for tensor in known}

    @contextmanager
    def watching(self, parts: Mapping[str, Sequence[nn.Module]]) -> Iterator[None]:
        """Watch the modules of the parts; what runs in this block cannot be run backward."""
        with ExitStack() as stack:
            for part, modules in parts.items():
                for module in modules:
                    enter = module.register_forward_pre_hook(partial(self._enter, part))
                    leave = module.register_forward_hook(self._leave)
                    stack.callback(enter.remove)
                    stack.callback(leave.remove)
            stack.enter_context(self._counter)
            stack.enter_context(saved_tensors_hooks(self._keep, lambda nothing: nothing))
            yield
            self._book_flops()

    def _enter(self, part: str, *_: object) -> None:
        self._book_flops()
        self._running.append(part)

    def _leave(self, *_: object) -> None:
        self._book_flops()
        self._running.pop()

    def _book_flops(self) -> None:
        """Book what was computed since the last change of the part on the part so far."""
        new = self._counter.get_total_flops() - self.flops.total()
        self.flops[self._running[-1]] += new

    def _keep(self, tensor: Tensor) -> Tensor:
        """Book the memory that a kept tensor is a view of, once, and keep nothing in its place."""
        storage = _storage(tensor)
        if storage not in self._storages:
            self._storages.add(storage)
            self.kept_bytes[self._running[-1]] += tensor.untyped_storage().nbytes()
        return tensor.new_empty(0)


def _storage(tensor: Tensor) -> StorageWeakRef:
    """Identify the memory of a tensor for good; an address is used again when it is freed."""
    return StorageWeakRef(tensor.untyped_storage())
