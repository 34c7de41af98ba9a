"""Synapse (BTCV), raw or preprocessed: `python -m datasets.synapse prepare RAW OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datasets.btcv import find_files, read_btcv
from datasets.cases import Dataset
from datasets.sources import check_root, no_data
from datasets.transunet import CLASSES, find_folders, read_transunet
from swin_unet.config import DataConfig


def read_synapse(config: DataConfig) -> Dataset:
    """List the cases of Synapse, preprocessed as by TransUNet's authors, or raw.

    Raises:
        UserError: Neither is there, or a fault of the files.
    """
    root = check_root(config)
    folders = find_folders(root)
    if folders is not None:
        dataset = read_transunet(config, folders)
    elif files := find_files(root):
        dataset = read_btcv(config, files)
    else:
        raise no_data("synapse", root, "raw BTCV or TransUNet's files", "neither")
    order = ", ".join(f"{value} {name}" for value, name in dataset.classes.items())
    note = f"label values are taken for {order}"
    if dataset.label_values is not None:
        note = f"label values of BTCV become {order}; other organs are background"
    return replace(dataset, notes=(note, *dataset.notes))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and prepare the data."""
    arguments = _parser().parse_args(argv)
    from datasets.synapse_prepare import prepare

    print(prepare(arguments.raw, arguments.out, arguments.classes))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datasets.synapse", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "prepare",
        help="write raw BTCV as TransUNet's authors distribute it",
        description="Clip raw BTCV to [-125, 275] HU, scale every volume to [0, 1], and write "
        "slices of the 18 training cases, volumes of the 12 test cases, and lists.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("raw", type=Path, help="folder with img0001.nii.gz, label0001.nii.gz, ...")
    command.add_argument("out", type=Path, help="folder to make")
    command.add_argument(
        "--classes", nargs="+", default=list(CLASSES), metavar="ORGAN", help="values 1, 2, ..."
    )
    return parser


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
