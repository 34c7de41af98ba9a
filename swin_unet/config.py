"""The configuration: frozen dataclasses, their validation, and the error a user can mend."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal


class UserError(Exception):
    """Something a user caused and can mend: printed as one line, exit code 2, no traceback.

    Args:
        subject: The file, option or case at fault.
        expected: What would have been right.
        found: What is there instead.
        fix: What to do about it, a full sentence.
    """

    def __init__(self, subject: str | Path, *, expected: str, found: str, fix: str) -> None:
        super().__init__(f"{subject}: expected {expected}, found {found}. {fix}")


@dataclass(frozen=True)
class ModelConfig:
    """The network; every field but `name` and `pretrained` is an argument of `SwinUNet`.

    The baselines take fewer, see `MODEL_OPTIONS`.

    Attributes:
        name: Which network: ours, or one of MONAI's to compare with.
        size: Width, heads and depths by name; `embed_dim`, `depths`, `num_heads` override it.
        version: Of the Swin blocks: 1 (paper), or 2, which transfers better between sizes.
        patch_size: Pixels per token side at the first stage.
        embed_dim: Channels of the first stage; None: what the size says.
        depths: Blocks per stage, the last is the bottleneck; None: what the size says.
        num_heads: Attention heads per stage; None: what the size says.
        window_size: Tokens per window side, one number or one per stage.
        pretrained_window_sizes: Version 2: the windows that the pretrained weights were trained
            with, one per stage; None: `window_size`.
        skips: How many skip connections, finest first, or the list of their scales.
        skip_source: Skips leave the encoder before (original code) or after (paper) its blocks.
        upsampling: Patch expanding (paper), bilinear or transposed convolution.
        drop_path_rate: Stochastic depth of the deepest block, in [0, 1).
        checkpointing: Recompute blocks in the backward pass: less memory, more time.
        pretrained: Weights to start from, see swin_unet.models.weights.
    """

    name: Literal["swin_unet", "basic_unet", "attention_unet", "swin_unetr", "dyn_unet"] = (
        "swin_unet"
    )
    size: Literal["tiny", "small", "base", "large"] = "tiny"
    version: Literal[1, 2] = 1
    patch_size: int = 4
    embed_dim: int | None = None
    depths: list[int] | None = None
    num_heads: list[int] | None = None
    window_size: int | list[int] = 7
    pretrained_window_sizes: list[int] | None = None
    skips: int | list[int] = 3
    skip_source: Literal["pre_block", "post_block"] = "pre_block"
    upsampling: Literal["expand", "bilinear", "transpose"] = "expand"
    drop_path_rate: float = 0.2
    checkpointing: bool = False
    pretrained: Path | None = None


# What each network takes of ModelConfig, beside its name; the rest is refused when given.
MODEL_OPTIONS: dict[str, frozenset[str]] = {
    "swin_unet": frozenset(item.name for item in fields(ModelConfig)) - {"name"},
    "basic_unet": frozenset({"embed_dim"}),
    "attention_unet": frozenset({"embed_dim"}),
    "swin_unetr": frozenset({
        "embed_dim", "depths", "num_heads", "window_size", "drop_path_rate", "checkpointing",
    }),
    "dyn_unet": frozenset({"embed_dim"}),
}  # fmt: skip


@dataclass(frozen=True)
class DataConfig:
    """The data, and how a volume becomes network input.

    Attributes:
        name: Kind of data set; `decathlon` reads MSD and nnU-Net folders.
        root: Folder of the data set.
        classes: Expected names of labels 1, 2, ... in order; None: what the data set says.
        split_file: A split.json to use; None: a new split by `seed` and the two fractions.
        val_fraction: Share of the cases that choose best.pt.
        test_fraction: Share of the cases that training never sees.
        plane: Anatomical plane of the slices.
        context_slices: Neighbouring slices fed as channels (2.5D): 1, 3 or 5.
        intensity: `window` scales [low, high] to [0, 1]; `percentile` the volume's percentiles;
            `zscore` clips to the percentiles, then subtracts the mean and divides by the deviation.
        window: (low, high) in the image's units, HU for CT; with intensity `window` only.
        percentiles: (low, high) in percent; with intensity `percentile` and `zscore` only.
        fit: `resize` brings whole slices to `image_size`; `crop` trains on crops of that size at
            the native or given spacing and infers by sliding window.
        image_size: Height and width of the network's input in pixels.
        spacing_mm: In-plane spacing to resample to, with fit `crop` only; None: native.
        augmentation: Which recipe, see datasets.augment.
        cache_dir: Where preprocessed slices are kept.
    """

    name: Literal["decathlon", "synapse"] = "decathlon"
    root: Path | None = None
    classes: list[str] | None = None
    split_file: Path | None = None
    val_fraction: float = 0.1
    test_fraction: float = 0.2
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    context_slices: Literal[1, 3, 5] = 1
    intensity: Literal["window", "percentile", "zscore"] = "zscore"
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    fit: Literal["resize", "crop"] = "resize"
    image_size: tuple[int, int] = (224, 224)
    spacing_mm: tuple[float, float] | None = None
    augmentation: Literal["paper", "default", "none"] = "default"
    cache_dir: Path = Path("runs/cache")


@dataclass(frozen=True)
class TrainConfig:
    """The recipe.

    Attributes:
        epochs: Passes over all training slices.
        batch_size: Slices per step.
        optimizer: SGD with momentum (paper) or AdamW.
        learning_rate: The peak of the schedule.
        momentum: Of SGD, default 0.9; refused with AdamW.
        weight_decay: As the optimizer defines it.
        schedule: (1 - t)^0.9 per step (paper) or half a cosine.
        warmup_epochs: Linear rise from zero before the schedule.
        ce_weight: Weight of the cross-entropy.
        dice_weight: Weight of the Dice loss.
        gradient_clip: Largest gradient norm; None: no clipping.
        precision: `auto` is bf16 where the GPU or CPU has instructions for it, else fp32.
        device: `auto` takes the GPU if there is one.
        num_workers: Loader processes; None: chosen by machine and device.
        val_interval: Epochs between validations; the last epoch always validates.
    """

    epochs: int = 150
    batch_size: int = 24
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.05
    momentum: float | None = None
    weight_decay: float = 1e-4
    schedule: Literal["poly", "cosine"] = "poly"
    warmup_epochs: float = 0.0
    ce_weight: float = 0.4
    dice_weight: float = 0.6
    gradient_clip: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    num_workers: int | None = None
    val_interval: int = 1


@dataclass(frozen=True)
class InferenceConfig:
    """How volumes are segmented, in validation and by infer.py.

    Attributes:
        batch_size: Slices at a time; None: chosen by device.
        overlap: Of neighbouring sliding windows, in [0, 1), with fit `crop` only.
        precision: Of the network's matrix products.
    """

    batch_size: int | None = None
    overlap: float = 0.5
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


@dataclass(frozen=True)
class Config:
    """Everything that makes a run."""

    task: Literal["segmentation"] = "segmentation"
    seed: int = 0
    output_dir: Path | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)


def to_plain(config: Any) -> dict[str, Any]:
    """Return a configuration dataclass as nested dicts of lists, numbers and strings only."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def validate(config: Config) -> None:
    """Raise UserError for values that no type annotation can refuse."""
    for key, value, is_valid, expected in _range_rules(config):
        if not is_valid:
            raise UserError(key, expected=expected, found=repr(value), fix="Correct this option.")
    for key, value, applies, condition in _relevance_rules(config):
        if value is not None and not applies:
            raise UserError(
                key, expected=f"no value unless {condition}", found=repr(value), fix="Remove it."
            )


def _range_rules(config: Config) -> list[tuple[str, Any, bool, str]]:
    """List (key, value, whether it is valid, what is) for every numeric option."""
    data, model, train = config.data, config.model, config.train
    overlap = config.inference.overlap
    at_least_one = {
        "train.epochs": train.epochs,
        "train.batch_size": train.batch_size,
        "train.val_interval": train.val_interval,
        "model.patch_size": model.patch_size,
        "inference.batch_size": config.inference.batch_size or 1,
    }
    at_least_zero = {
        "seed": config.seed,
        "train.ce_weight": train.ce_weight,
        "train.dice_weight": train.dice_weight,
        "train.momentum": train.momentum or 0,
        "train.num_workers": train.num_workers or 0,
        "train.warmup_epochs": train.warmup_epochs,
        "train.weight_decay": train.weight_decay,
    }
    clip = train.gradient_clip
    fractions = data.val_fraction + data.test_fraction
    rate = model.drop_path_rate
    return [
        *((key, value, value >= 1, "at least 1") for key, value in at_least_one.items()),
        *((key, value, value >= 0, "at least 0") for key, value in at_least_zero.items()),
        ("data.image_size", data.image_size, min(data.image_size) >= 1, "positive sizes"),
        ("data.val_fraction", data.val_fraction, 0 <= data.val_fraction < 1, "in [0, 1)"),
        ("data.test_fraction", data.test_fraction, 0 <= data.test_fraction < 1, "in [0, 1)"),
        ("data.val_fraction + data.test_fraction", fractions, fractions < 1, "below 1"),
        ("data.window", data.window, _ascends(data.window), "low < high"),
        ("data.percentiles", data.percentiles, _percentiles(data.percentiles), "0 <= low < high"),
        ("data.spacing_mm", data.spacing_mm, min(data.spacing_mm or (1,)) > 0, "positive mm"),
        ("model.drop_path_rate", rate, 0 <= rate < 1, "in [0, 1)"),
        ("train.learning_rate", train.learning_rate, train.learning_rate > 0, "above 0"),
        ("train.gradient_clip", clip, clip is None or clip > 0, "above 0"),
        ("inference.overlap", overlap, 0 <= overlap < 1, "in [0, 1)"),
    ]


def _ascends(pair: tuple[float, float] | None) -> bool:
    return pair is None or pair[0] < pair[1]


def _percentiles(pair: tuple[float, float] | None) -> bool:
    return pair is None or 0 <= pair[0] < pair[1] <= 100


def _relevance_rules(config: Config) -> list[tuple[str, Any, bool, str]]:
    """List (key, value, whether it applies, when it would) for every conditional option."""
    data, train = config.data, config.train
    windowed = data.intensity == "window"
    return [
        *_model_rules(config.model),
        ("data.window", data.window, windowed, "data.intensity is window"),
        ("data.percentiles", data.percentiles, not windowed, "data.intensity is not window"),
        ("data.spacing_mm", data.spacing_mm, data.fit == "crop", "data.fit is crop"),
        ("train.momentum", train.momentum, train.optimizer == "sgd", "train.optimizer is sgd"),
    ]


def _model_rules(model: ModelConfig) -> list[tuple[str, Any, bool, str]]:
    """List the model's options, each of which applies to some networks only.

    Configurations are written complete, so an option that equals its default is not one given.
    """
    rules = []
    for item in fields(ModelConfig):
        if item.name == "name":
            continue
        value = getattr(model, item.name)
        takers = [name for name, options in MODEL_OPTIONS.items() if item.name in options]
        given = None if value == item.default else value
        condition = f"model.name is {' or '.join(takers)}"
        rules.append((f"model.{item.name}", given, model.name in takers, condition))
    return rules
