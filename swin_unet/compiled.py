"""A network behind torch.compile, where that works."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from swin_unet.devices import is_out_of_memory


class CompiledForward:
    """Calls a compiled network; once that fails, the network itself.

    The network stays as it is, and so do the names in its state dict.

    Args:
        model: The network to compile.
        tell: Takes the message when it fails.
    """

    def __init__(self, model: nn.Module, tell: Callable[[str], None]) -> None:
        self._model = model
        self._tell = tell
        self._compiled: Callable[..., Any] | None = None
        # Cached are pure functions of sizes only, which may as well be traced.
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
        try:
            self._compiled = torch.compile(model)
        except Exception as error:  # whatever the compiler finds missing on this machine
            self.give_up(error)

    def __call__(self, *tensors: Tensor) -> Any:
        """Compute what the network makes of a batch of images, and of masks if it takes some."""
        if self._compiled is None:
            return self._model(*tensors)
        try:
            return self._compiled(*tensors)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.give_up(error)
        return self._model(*tensors)

    def give_up(self, error: Exception) -> None:
        """Use the network itself from now on, and say why."""
        self._compiled = None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._tell(f"torch.compile failed ({reason}); going on without it")
