"""Parameters, MACs and activation memory of a network, part by part.

`python -m swin_unet.models.complexity --config X.yaml [--model.size base ...]` prints them.

The network runs forward once. What it would keep for the backward pass is counted and dropped, so
that measuring takes no more memory than inference.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_unet.config import Config, UserError
from swin_unet.files import atomic_path

if TYPE_CHECKING:
    from argparse import Namespace

    from jsonargparse import ArgumentParser
    from torch import nn

REST = "rest"  # what is in none of the parts
NOTE = (
    "MACs: linear layers, convolutions and the products of attention; not counted are norms, "
    "activations,\nsoftmax, additions and interpolation. Activations: what autograd keeps for the "
    "backward pass, in float32."
)


@dataclass(frozen=True)
class Cost:
    """What a part of a network costs.

    Attributes:
        part: Its name.
        parameters: Their number; one that several parts share is the first one's.
        macs: Multiply-accumulates of a forward pass of the whole batch.
        activation_bytes: What is kept for the backward pass of the whole batch, parameters
            excluded; what several parts keep is the first one's.
    """

    part: str
    parameters: int
    macs: int
    activation_bytes: int


def measure(
    model: nn.Module, image_size: tuple[int, int], *, in_channels: int, batch_size: int = 1
) -> list[Cost]:
    """Measure what the parts of a network cost, in the mode (training or not) that it is in.

    MACs are half of the operations that `torch.utils.flop_counter` counts: matrix products, those
    of attention included, and convolutions. Norms, activations, softmax, additions and
    interpolation are not counted. With `checkpointing`, a network in training mode keeps less;
    the MACs of the recomputation are not counted.

    Args:
        model: The network; it stays as it is, and so do the random states.
        image_size: Height and width of the images, in pixels.
        in_channels: Channels of the images.
        batch_size: Images in the batch.

    Returns:
        One record per part, see `split_parts`; parts that cost nothing are left out.
    """
    import torch

    from swin_unet.models.meter import Meter

    parts = split_parts(model)
    meter = Meter(REST, known=[*model.parameters(), *model.buffers()])
    device = next(model.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    images = torch.zeros(batch_size, in_channels, *image_size, device=device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(cuda), torch.enable_grad(), meter.watching(parts):
        torch.func.functional_call(model, buffers, (images,))
    parameters = _count_parameters(model, parts)
    costs = [
        Cost(part, count, meter.flops[part] // 2, meter.kept_bytes[part])
        for part, count in parameters.items()
    ]
    return [cost for cost in costs if cost.parameters or cost.macs or cost.activation_bytes]


def total(costs: Sequence[Cost]) -> Cost:
    """Add up the costs of all parts."""
    return Cost(
        "total",
        sum(cost.parameters for cost in costs),
        sum(cost.macs for cost in costs),
        sum(cost.activation_bytes for cost in costs),
    )


def split_parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Name the parts of a network and list the modules of each.

    Swin encoders and decoders are split into their stages, any other network into its top-level
    modules. A module around a single other one, such as the padding of the baselines, is skipped.
    """
    from torch import nn

    from swin_unet.models.decoder import SwinDecoder
    from swin_unet.models.encoder import SwinEncoder

    prefix = ""
    while len(children := dict(model.named_children())) == 1:
        if list(model.parameters(recurse=False)):
            break
        ((name, model),) = children.items()
        prefix += f"{name}."
    parts: dict[str, list[nn.Module]] = {}
    for name, child in children.items():
        if isinstance(child, SwinEncoder):
            parts.update(_encoder_parts(child))
        elif isinstance(child, SwinDecoder):
            parts.update(_decoder_parts(child))
        else:  # nobody calls a ModuleList, but its modules
            parts[prefix + name] = list(child) if isinstance(child, nn.ModuleList) else [child]
    return parts


def _encoder_parts(encoder: Any) -> dict[str, list[nn.Module]]:
    parts: dict[str, list[nn.Module]] = {"patch embedding": [encoder.patch_embed]}
    ends = [*encoder.merges, encoder.norm]
    for number, (stage, end) in enumerate(zip(encoder.stages, ends, strict=True), start=1):
        parts[f"encoder stage {number}"] = [stage, end]
    return parts


def _decoder_parts(decoder: Any) -> dict[str, list[nn.Module]]:
    parts: dict[str, list[nn.Module]] = {
        f"decoder level {number}": [level] for number, level in enumerate(decoder.levels, start=1)
    }
    return {**parts, "final upsampling": [decoder.norm, decoder.final_upsample]}


def _count_parameters(model: nn.Module, parts: dict[str, list[nn.Module]]) -> dict[str, int]:
    """Count the parameters of every part, and those of no part, each of them once."""
    seen: set[nn.Parameter] = set()
    counts = {}
    for part, modules in {**parts, REST: [model]}.items():
        owned = {parameter for module in modules for parameter in module.parameters()} - seen
        counts[part] = sum(parameter.numel() for parameter in owned)
        seen |= owned
    return counts


def format_table(costs: Sequence[Cost]) -> str:
    """Lay out the costs, and their total, as a table."""
    lines = [f"{'part':20}{'parameters':>13}{'MMACs':>12}{'activations, MiB':>20}"]
    for cost in [*costs, total(costs)]:
        macs, mebibytes = cost.macs / 1e6, cost.activation_bytes / 2**20
        lines.append(f"{cost.part:20}{cost.parameters:13,}{macs:12,.1f}{mebibytes:20,.2f}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Measure the network of a configuration as the command line says."""
    from swin_unet.cli import build_parser, parse_config

    parser = build_parser(
        "python -m swin_unet.models.complexity",
        "Print parameters, MACs and activation memory of a network, part by part.",
    )
    _add_flags(parser)
    config, arguments = parse_config(parser, argv)
    if config.task == "simmim":
        raise UserError(
            "task",
            expected="segmentation or classification",
            found="simmim, whose network is an encoder of these and one convolution",
            fix="Give the configuration that will be pretrained for.",
        )
    shape = _shape(config, arguments)

    from swin_unet.models import build_model, model_arguments

    num_classes = shape.pop("num_classes")
    channels, size = shape["in_channels"], shape["image_size"]
    model = build_model(model_arguments(config.model, channels, num_classes, size))
    costs = measure(model, **shape)
    height, width = shape["image_size"]
    batch = f"{shape['batch_size']} x {shape['in_channels']} x {height} x {width}"
    print(f"{config.model.name}: {num_classes} classes, images {batch}")
    print(format_table(costs))
    print(NOTE)
    if arguments.json:
        content = {"model": config.model.name, "num_classes": num_classes, **shape}
        _write_json(Path(arguments.json), content, costs)
    return 0


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--image_size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="Height and width in pixels (default: data.image_size).",
    )
    parser.add_argument(
        "--in_channels",
        type=int,
        help="Channels of the image (default: data.context_slices, as of one-channel images).",
    )
    parser.add_argument(
        "--num_classes",
        type=int,
        help="Classes, in a segmentation with the background (default: data.classes, or 8).",
    )
    parser.add_argument("--batch_size", type=int, default=1, help="Images in the batch.")
    parser.add_argument("--json", metavar="PATH", help="Write the table to this file, too.")


def _shape(config: Config, arguments: Namespace) -> dict[str, Any]:
    """Return what is measured: the flags or, by default, what the data section says.

    Raises:
        UserError: For a number below 1.
    """
    classes = config.data.classes
    defaults = {
        "image_size": tuple(config.data.image_size),
        "in_channels": config.data.context_slices,
        "num_classes": (8 if classes is None else len(classes)) + (config.task == "segmentation"),
    }
    shape = {"batch_size": arguments.batch_size}
    for name, default in defaults.items():
        given = getattr(arguments, name)
        shape[name] = default if given is None else given
    for name, value in shape.items():
        if min(value if name == "image_size" else (value,)) < 1:
            raise UserError(
                f"--{name}", expected="at least 1", found=str(value), fix="Correct this option."
            )
    return shape


def _write_json(path: Path, content: dict[str, Any], costs: Sequence[Cost]) -> None:
    content = {**content, "parts": [asdict(cost) for cost in costs], "total": asdict(total(costs))}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(lambda: main(sys.argv[1:])))
