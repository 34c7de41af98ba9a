"""MONAI bundles: writing one, and the parts that its configuration names.

A bundle runs where this package and MONAI are installed, by MONAI's own commands. Its network,
preprocessing and postprocessing are the ones of infer.py, so it gives the same label maps.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.files import make_folder, writable

if TYPE_CHECKING:
    import torch
    from monai.data import MetaTensor
    from torch import nn


class VolumeInferer:
    """Segment whole volumes with a network for slices: the `inferer` of the bundle.

    Args:
        preprocessing: Settings, as a checkpoint holds them.
        classes: Names of labels 1, 2, ...
        batch_size: Slices at a time; None: as many as suit the device and the size.
        overlap: Of sliding windows, in [0, 1), with fit `crop`.
        precision: `fp32`, `bf16` or `fp16`.
    """

    def __init__(
        self,
        preprocessing: Mapping[str, Any],
        classes: Sequence[str],
        batch_size: int | None = None,
        overlap: float = 0.5,
        precision: str = "fp32",
    ) -> None:
        self.preprocessing = dict(preprocessing)
        self.classes = tuple(classes)
        self.batch_size = batch_size
        self.overlap = overlap
        self.precision = precision

    def __call__(self, inputs: MetaTensor, network: nn.Module) -> torch.Tensor:
        """Segment a batch of volumes.

        Args:
            inputs: MetaTensor (B, C, X, Y, Z) in the files' own axis order and intensities.
            network: From slices (n, C * context_slices, h, w) to logits.

        Returns:
            Labels (B, 1, X, Y, Z) with the metadata of the input.
        """
        import torch
        from monai.utils import convert_to_dst_type

        affines = np.asarray(inputs.affine.cpu(), dtype=np.float64).reshape(-1, 4, 4)
        segmenter = self._segmenter(inputs, network)
        labels = np.stack([
            segmenter.segment(_volume(image, affine)).array[None]
            for image, affine in zip(inputs.cpu().numpy(), affines, strict=True)
        ])  # fmt: skip
        dtype = torch.uint8 if labels.dtype == np.uint8 else torch.int32
        result = convert_to_dst_type(labels.astype(np.int32), inputs, dtype=dtype)[0]
        # The label map has no channel axis, whatever the image has: MONAI's writer of NIfTI files
        # takes the last axis for channels otherwise.
        result.meta["original_channel_dim"] = float("nan")
        return result

    def _segmenter(self, inputs: torch.Tensor, network: nn.Module) -> Any:
        from swin_unet.imaging import Preprocessing
        from swin_unet.inference import VolumeSegmenter

        return VolumeSegmenter(
            network,
            Preprocessing.from_dict(self.preprocessing),
            num_channels=inputs.shape[1],
            classes=self.classes,
            device=inputs.device,
            precision=self.precision,
            batch_size=self.batch_size,
            overlap=self.overlap,
        )


def _volume(image: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> Any:
    """Make a volume of channels-first voxels (C, X, Y, Z)."""
    from swin_unet.imaging import Volume

    return Volume(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1), affine)


def list_images(folder: str) -> list[dict[str, str | list[str]]]:
    """List the cases of a folder as MONAI's datasets take them: a path, or one per channel.

    Raises:
        UserError: For formats other than NIfTI, of which MONAI's axes would not be those of ours.
    """
    from swin_unet.imaging.formats import family_of
    from swin_unet.imaging.inputs import find_cases

    cases = find_cases([Path(folder)])
    others = [path for case in cases for path in case.paths if family_of(path) != "nifti"]
    if others:
        raise UserError(
            others[0],
            expected="NIfTI files only, in the folder that a bundle segments",
            found=f"{others[0].name}",
            fix="Segment other formats with infer.py, which reads and writes them.",
        )
    paths = [[str(path) for path in case.paths] for case in cases]
    return [{"image": found if len(found) > 1 else found[0]} for found in paths]


def export_bundle(checkpoint_path: Path, folder: Path) -> None:
    """Write the bundle of a checkpoint.

    Args:
        checkpoint_path: A best.pt or last.pt.
        folder: A new folder; its parents are made.

    Raises:
        UserError: When the folder exists or cannot be written.
    """
    from swin_unet import checkpoint as checkpoints

    if folder.exists():
        raise UserError(
            folder,
            expected="a new folder for the bundle",
            found="that it exists",
            fix="Choose another name, or move it away.",
        )
    content = checkpoints.load(checkpoint_path)
    checkpoints.check_task(content, checkpoint_path, "segmentation")
    network = checkpoints.load_model(content, checkpoint_path)
    make_folder(folder.parent)
    temporary = folder.with_name(f".{secrets.token_hex(8)}")
    try:
        with writable(folder):
            _write_bundle(content, checkpoint_path, temporary)
            _check_bundle(temporary, network)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_bundle(content: dict[str, Any], checkpoint_path: Path, folder: Path) -> None:
    import torch

    template = files("swin_unet").joinpath("bundle_readme.md").read_text("utf8")
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    torch.save({"model": content["model"]}, folder / "models" / "model.pt")
    configs = {"metadata": metadata(content, checkpoint_path.name), "inference": inference(content)}
    for name, config in configs.items():
        text = json.dumps(config, indent=4, allow_nan=False) + "\n"
        (folder / "configs" / f"{name}.json").write_text(text, encoding="utf8")
    classes = "\n".join(f"| {value} | {name} |" for value, name in enumerate(content["classes"], 1))
    text = template.replace("{{classes}}", classes).replace("{{checkpoint}}", checkpoint_path.name)
    (folder / "docs" / "README.md").write_text(text, encoding="utf8")


def metadata(content: dict[str, Any], checkpoint_name: str) -> dict[str, Any]:
    """Return the content of configs/metadata.json in the layout of MONAI's schema."""
    from importlib.metadata import version

    from swin_unet import __version__

    settings, arguments = content["preprocessing"], content["model_description"]["arguments"]
    names = ["background", *content["classes"]]
    common = {
        "type": "image",
        "spatial_shape": list(settings["image_size"]),
        "dtype": "float32",
        "is_patch_data": settings["fit"] == "crop",
    }
    channels = arguments["in_channels"]
    image = {
        **common,
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": channels,
        "value_range": [0, 1] if settings["intensity"] != "zscore" else [],
        "channel_def": {str(channel): "image" for channel in range(channels)},
    }
    prediction = {
        **common,
        "format": "segmentation",
        "num_channels": arguments["num_classes"],
        "value_range": [],
        "channel_def": {str(value): name for value, name in enumerate(names)},
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/"
        "0.8.1/meta_schema_20240725.json",
        "version": __version__,
        "changelog": {__version__: f"exported from {checkpoint_name}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "nibabel": version("nibabel"),
            "pytorch-ignite": version("pytorch-ignite"),
            "swin-unet": __version__,
        },
        "name": "Swin-UNet",
        "task": f"Segmentation of {', '.join(content['classes'])}",
        "description": "Swin-UNet for slices, applied to volumes; needs the package swin_unet",
        "authors": "see docs/README.md",
        "copyright": "see docs/README.md",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": prediction}},
    }


def inference(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of configs/inference.json, which `monai.bundle run` executes."""
    options = content["config"]["inference"]
    return {
        "imports": ["$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/predictions'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "datalist": {"_target_": "swin_unet.bundle.list_images", "folder": "@dataset_dir"},
        "network_def": {
            "_target_": "swin_unet.models.build_model",
            "description": content["model_description"],
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "LoadImaged",
            "keys": "image",
            "ensure_channel_first": True,
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "@datalist",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {
            "_target_": "swin_unet.bundle.VolumeInferer",
            "preprocessing": content["preprocessing"],
            "classes": list(content["classes"]),
            "batch_size": options["batch_size"],
            "overlap": options["overlap"],
            "precision": options["precision"],
        },
        "postprocessing": {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "",
            "output_dtype": "$numpy.uint8 if len(@inferer.classes) < 256 else numpy.uint16",
            "resample": False,
            "separate_folder": False,
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _check_bundle(folder: Path, network: nn.Module) -> None:
    """Build the network as MONAI will and compare its weights with the checkpoint's."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    rebuilt = parser.get_parsed_content("network_def")
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)["model"]
    rebuilt.load_state_dict(weights)
    for (name, found), wanted in zip(
        rebuilt.state_dict().items(), network.state_dict().values(), strict=True
    ):
        assert torch.equal(found, wanted), name
