"""The configuration: frozen dataclasses, their validation, and the error a user can mend."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
        self.subject, self.expected, self.found, self.fix = str(subject), expected, found, fix


@dataclass(frozen=True)
class ModelConfig:
    """The network; a field is an argument of its constructor, see `MODEL_OPTIONS` for which.

    Attributes:
        name: Which network. For segmentation ours, or one of MONAI's to compare with; for
            classification `swin_classifier`, `swin_resnet`, its twin `resnet50`, or the ViT
            `localizer`; for simmim the one whose encoder is to be pretrained.
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
        skip_fusion: `mgff` lets the skip connections know each other before they join the
            decoder, see docs/models.md.
        upsampling: Patch expanding (paper), bilinear or transposed convolution.
        head: Of a `swin_classifier`: `linear` on the last map, or `mgff` over those of all stages.
        importance: Of a `localizer`: how its attention becomes importance, see
            swin_unet.models.localizer.
        drop_path_rate: Stochastic depth of the deepest block, in [0, 1).
        checkpointing: Recompute blocks in the backward pass: less memory, more time.
        position_init: Initial biases of the attention: `random` (paper), or `local`, which learns
            much faster from random weights; version 1 only.
        conditional_positions: Before every block add to the tokens a depthwise convolution of
            them (CPVT; not in the paper): learns faster from random weights.
        pixel_refinement: Refine the decoder's pixels by convolutions that see the image (not in
            the paper): sharper borders of small structures.
        pretrained: Weights to start from, see swin_unet.models.weights.
        pretrained_decoder: Put the weights of an encoder into the mirrored decoder, too, as the
            original does.
    """

    name: Literal[
        "swin_unet", "basic_unet", "attention_unet", "swin_unetr", "dyn_unet",
        "swin_classifier", "swin_resnet", "resnet50", "localizer",
    ] = "swin_unet"  # fmt: skip
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
    skip_fusion: Literal["none", "mgff"] = "none"
    upsampling: Literal["expand", "bilinear", "transpose"] = "expand"
    head: Literal["linear", "mgff"] = "linear"
    importance: Literal["sum", "rollout", "product"] = "sum"
    drop_path_rate: float = 0.2
    checkpointing: bool = False
    position_init: Literal["random", "local"] = "random"
    conditional_positions: bool = False
    pixel_refinement: bool = False
    pretrained: Path | None = None
    pretrained_decoder: bool = True


# What each network takes of ModelConfig, beside its name; the rest is refused when given.
_SWIN = frozenset({
    "size", "version", "patch_size", "embed_dim", "depths", "num_heads", "window_size",
    "pretrained_window_sizes", "drop_path_rate", "checkpointing", "position_init", "pretrained",
})  # fmt: skip
MODEL_OPTIONS: dict[str, frozenset[str]] = {
    "swin_unet": _SWIN | {
        "skips", "skip_source", "skip_fusion", "upsampling", "conditional_positions",
        "pixel_refinement", "pretrained_decoder",
    },
    "basic_unet": frozenset({"embed_dim"}),
    "attention_unet": frozenset({"embed_dim"}),
    "swin_unetr": frozenset({
        "embed_dim", "depths", "num_heads", "window_size", "drop_path_rate", "checkpointing",
    }),
    "dyn_unet": frozenset({"embed_dim"}),
    "swin_classifier": _SWIN | {"head"},
    "swin_resnet": frozenset({"depths", "num_heads", "window_size"}),
    "resnet50": frozenset({"depths"}),
    "localizer": frozenset({"patch_size", "embed_dim", "depths", "num_heads", "importance"}),
}  # fmt: skip
# Which networks are made for which task; the encoder of a Swin is what simmim pretrains.
TASK_MODELS: dict[str, tuple[str, ...]] = {
    "segmentation": ("swin_unet", "basic_unet", "attention_unet", "swin_unetr", "dyn_unet"),
    "simmim": ("swin_unet", "swin_classifier"),
    "classification": ("swin_classifier", "swin_resnet", "resnet50", "localizer"),
}
# Kinds of data sets whose images have one class as a whole, and no label maps.
PICTURE_SETS = ("image_folder", "cifar10")


@dataclass(frozen=True)
class DataConfig:
    """The data, and how a volume becomes network input.

    Attributes:
        name: Kind of data set: `decathlon` reads MSD and nnU-Net folders, `synapse` and `acdc`
            theirs and the preprocessed files in circulation, `folder` anything else with label
            maps; `image_folder` pictures in a folder per class, `cifar10` its binary files.
        root: Folder of the data set.
        images: Folder or glob pattern of the images, relative to root; `folder` only.
        labels: Folder or glob pattern of the label maps, relative to root; `folder` only.
        list_file: CSV or JSON list of the cases, relative to root; `folder` only.
        group_pattern: Regular expression whose first group, or whole match, in a case's name is
            the patient: a patient's cases stay together in a split. `decathlon`, `folder` only.
        classes: Names of labels 1, 2, ... in order; None: what the data set says.
        on_mismatch: What to do with a label map on another grid than its image. A label map that
            only has its axes in other directions is always turned, exactly.
        split_file: A split.json to use; None: a new split by `seed`.
        val_fraction: Share of the cases that choose best.pt, without `folds`.
        test_fraction: Share of the cases that training never sees, where the data set has no
            published test part.
        train_fraction: Share of the training cases, or patients, that are used: how good is the
            network with fewer labels? Those of a smaller share are among those of a larger one.
        folds: Cross-validation: the cases that are not test cases in this many parts.
        fold: Which of the parts, from 0 on, chooses best.pt; with `folds` only.
        plane: Anatomical plane of the slices; `auto`: across the axis of the largest spacing.
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
        flip_axes: Directions that augmentation `default` may mirror; None: none.
        swap_classes: Pairs of classes that a left-right flip exchanges; None: those whose names
            differ by left and right. With `flip_axes` only.
        foreground_fraction: Share of the training samples drawn from slices, and with fit `crop`
            around pixels, of a class chosen at random; the others come as they are.
        cache_dir: Where preprocessed slices are kept.
    """

    name: Literal["decathlon", "synapse", "acdc", "folder", "image_folder", "cifar10"] = "decathlon"
    root: Path | None = None
    images: str | None = None
    labels: str | None = None
    list_file: Path | None = None
    group_pattern: str | None = None
    classes: list[str] | None = None
    on_mismatch: Literal["error", "copy_geometry", "resample"] = "error"
    split_file: Path | None = None
    val_fraction: float = 0.1
    test_fraction: float = 0.2
    train_fraction: float = 1.0
    folds: int | None = None
    fold: int | None = None
    plane: Literal["axial", "coronal", "sagittal", "auto"] = "axial"
    context_slices: Literal[1, 3, 5] = 1
    intensity: Literal["window", "percentile", "zscore"] = "zscore"
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    fit: Literal["resize", "crop"] = "resize"
    image_size: tuple[int, int] = (224, 224)
    spacing_mm: tuple[float, float] | None = None
    augmentation: Literal["paper", "default", "none"] = "default"
    flip_axes: list[Literal["left_right", "anterior_posterior", "superior_inferior"]] | None = None
    swap_classes: list[tuple[str, str]] | None = None
    foreground_fraction: float = 0.0
    cache_dir: Path = Path("runs/cache")


@dataclass(frozen=True)
class TrainConfig:
    """The recipe.

    Attributes:
        epochs: Passes over all training slices.
        batch_size: Slices per step, whatever `accumulation`.
        optimizer: SGD with momentum (paper) or AdamW.
        learning_rate: The peak of the schedule.
        momentum: Of SGD, default 0.9; refused with AdamW.
        weight_decay: As the optimizer defines it.
        schedule: (1 - t)^0.9 per step (paper) or half a cosine.
        warmup_epochs: Linear rise from zero before the schedule.
        loss: Soft Dice with cross-entropy (paper), or with focal loss as MONAI's DiceFocalLoss.
        ce_weight: Weight of the cross-entropy or focal loss.
        dice_weight: Weight of the Dice loss.
        class_weights: Of the cross-entropy or focal loss, one per class, background first; None:
            all 1.
        label_smoothing: Of the cross-entropy of a classification with one class per picture.
        deep_supervision: Train the decoder's coarser scales as well, with weights 1/2, 1/4, ... of
            the finest one's; nothing of it is left in best.pt. `model.name` swin_unet only.
        layer_decay: With `model.pretrained` only: every encoder block learns at this fraction of
            the rate of the block after it, 0.8 for instance; None: all at the same rate.
        gradient_clip: Largest gradient norm; None: no clipping.
        precision: `auto` is bf16 where the GPU or CPU has instructions for it, else fp32.
        device: `auto` takes the GPU if there is one.
        num_workers: Loader processes; None: chosen by machine and device.
        val_interval: Epochs between validations; the last epoch always validates.
        accumulation: Compute each batch in this many parts, one after the other: less memory, the
            same step. Equal for the cross-entropy; the Dice loss is that of each part.
        ema_decay: Validate and keep a running average of the weights, with this decay per step
            (0.999 for instance); None: the weights themselves.
        patience: Stop after this many epochs without a better validation; None: never.
        initial_weights: A file of tensors to start from instead of random ones, wherever a name
            and a shape agree, so that networks which differ in parts start alike in the others;
            `model.pretrained` goes on top. None: all random.
        max_minutes: Stop after this time, to be continued by --resume auto; None: no limit.
        save_minutes: Minutes between saves within an epoch; every epoch's end saves as well.
        test: Score the test cases once, after training, by best.pt and by the last weights.
        deterministic: On a GPU, too, use algorithms that give the same result every time;
            train.py also takes it as a bare `--deterministic`.
        compile: Compile the network before training; where that fails, it runs uncompiled.
    """

    epochs: int = 150
    batch_size: int = 24
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.05
    momentum: float | None = None
    weight_decay: float = 1e-4
    schedule: Literal["poly", "cosine"] = "poly"
    warmup_epochs: float = 0.0
    loss: Literal["ce_dice", "dice_focal"] = "ce_dice"
    ce_weight: float = 0.4
    dice_weight: float = 0.6
    class_weights: list[float] | None = None
    label_smoothing: float = 0.0
    deep_supervision: bool = False
    layer_decay: float | None = None
    gradient_clip: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    num_workers: int | None = None
    val_interval: int = 1
    accumulation: int = 1
    ema_decay: float | None = None
    patience: int | None = None
    initial_weights: Path | None = None
    max_minutes: float | None = None
    save_minutes: float = 10.0
    test: bool = True
    deterministic: bool = False
    compile: bool = False


@dataclass(frozen=True)
class SimMIMConfig:
    """Learning from images without labels, `task: simmim` only.

    Attributes:
        mask_patch_size: Side of what is hidden together, in pixels.
        mask_ratio: Share of these patches that is hidden.
        target_window: Predict pixels normalised by the mean and deviation of this odd window
            around them, 47 for instance; None: the pixels.
    """

    mask_patch_size: int = 32
    mask_ratio: float = 0.6
    target_window: int | None = None


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
    """Everything that makes a run.

    Attributes:
        task: What is learned: label maps; the classes of slices, which labels occur in them, or of
            pictures; or, before either, to fill in masked images without labels (simmim).
        seed: Of everything that is random.
        output_dir: The run folder; None: runs/ and the name of the configuration file.
    """

    task: Literal["segmentation", "classification", "simmim"] = "segmentation"
    seed: int = 0
    output_dir: Path | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    simmim: SimMIMConfig = field(default_factory=SimMIMConfig)
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
