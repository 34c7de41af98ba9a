"""Where the data of each kind come from, and what to say when they are not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swin_unet.config import DataConfig, UserError


@dataclass(frozen=True)
class Source:
    """What a user without data needs to know.

    Attributes:
        origin: Where to get them.
        layout: What the folder looks like.
        stand_in: Layouts of `python -m datasets.phantom` that are read as these data.
        command: What makes a stand-in where those do not.
    """

    origin: str
    layout: str
    stand_in: tuple[str, ...] = ()
    command: str = "python -m datasets.phantom DIR --layout"


SOURCES = {
    "decathlon": Source(
        "`python -m datasets.decathlon download Task04_Hippocampus DIR`, or your own volumes",
        "DIR/dataset.json, imagesTr/CASE.nii.gz, labelsTr/CASE.nii.gz (Decathlon or nnU-Net raw)",
        ("msd", "nnunet"),
    ),
    "synapse": Source(
        "BTCV, free after registration: https://www.synapse.org/Synapse:syn3193805, RawData.zip",
        "DIR/**/img0001.nii.gz with label0001.nii.gz, or TransUNet's DIR/train_npz/*.npz with "
        "DIR/test_vol_h5/*.h5",
        ("btcv", "transunet"),
    ),
    "acdc": Source(
        "ACDC, free after registration: https://humanheart-project.creatis.insa-lyon.fr/database",
        "DIR/training/patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz, or "
        "DIR/slices/patient001_frame01_slice_1.h5 with DIR/patient001_frame01.h5",
        ("acdc",),
    ),
    "folder": Source(
        "your own volumes or pictures with label maps",
        "DIR/images and DIR/labels with files of the same names, or name others by --data.images "
        "and --data.labels (folders or patterns) or --data.list_file (CSV or JSON)",
        ("folder",),
    ),
    "image_folder": Source(
        "your own pictures, sorted into a folder per class",
        "DIR/CLASS/*.png, or DIR/train/CLASS/*.png with DIR/val and DIR/test (.jpg, .tif as well)",
        command="python -m datasets.cifar10 DIR --as_folders",
    ),
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/cifar.html, cifar-10-binary.tar.gz",
        "DIR/data_batch_1.bin to data_batch_5.bin and test_batch.bin",
        command="python -m datasets.cifar10 DIR",
    ),
}


def check_root(config: DataConfig) -> Path:
    """Return the root of the data set.

    Raises:
        UserError: There is none, or it is no folder, or it is empty.
    """
    root = config.root
    if root is None:
        expected, found = "the folder of the data set", "no value"
        raise no_data(config.name, "data.root", expected, found, "Give --data.root DIR.")
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing there"
        raise no_data(config.name, root, "a data set folder", found)
    try:
        is_empty = next(root.iterdir(), None) is None
    except PermissionError as error:
        raise no_data(config.name, root, "a readable folder", "no permission") from error
    if is_empty:
        raise no_data(config.name, root, "a data set", "an empty folder")
    return root


def no_data(
    name: str,
    subject: str | Path,
    expected: str,
    found: str,
    fix: str = "Give the right folder as --data.root DIR.",
) -> UserError:
    """Make the error that says in three lines where data of this kind come from."""
    source = SOURCES[name]
    layout, *others = source.stand_in or ("",)
    also = f" (or {', '.join(others)})" if others else ""
    stand_in = f"{source.command} {layout}".rstrip()
    lines = (
        fix,
        f"  the data:   {source.origin}",
        f"  the layout: {source.layout}",
        f"  a stand-in: {stand_in}{also}",
    )
    return UserError(subject, expected=expected, found=found, fix="\n".join(lines))
