"""The weights that a training starts from, so that different networks can start alike."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from swin_unet.config import UserError
from swin_unet.models.weight_files import read_state_dict


def load_initial(model: nn.Module, path: Path) -> str:
    """Take every tensor of a file that the model has under the same name and in the same shape.

    That may be none, where every tensor has another width.

    Unlike `weights.load_weights`, this knows no foreign names, resizes nothing, and asks for no
    least share: the rest of the model keeps its random start.

    Args:
        model: Any network; unchanged when an error is raised.
        path: A state dict or a checkpoint, as .pt, .pth, .bin or .safetensors.

    Returns:
        How many tensors and parameters were taken, for the log.

    Raises:
        UserError: An unreadable file, or one of another kind of network: no name agrees.
    """
    target = model.state_dict()
    known = {name: value for name, value in read_state_dict(path).items() if name in target}
    if not known:
        raise UserError(
            path,
            expected="tensors with names of this network's",
            found="not one",
            fix="Give weights of a similar network, or remove train.initial_weights.",
        )
    taken = {name: value for name, value in known.items() if target[name].shape == value.shape}
    model.load_state_dict(taken, strict=False)
    num_taken = sum(value.numel() for value in taken.values())
    num_all = sum(value.numel() for value in target.values())
    return (
        f"{path}: {len(taken)} of {len(target)} tensors taken as they are, "
        f"{num_taken:,} of {num_all:,} numbers; the others start at random"
    )
