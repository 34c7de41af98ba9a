"""Exports against torch: ONNX Runtime and MONAI's own commands give what the checkpoint gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from swin_unet import Segmenter, export
from swin_unet import checkpoint as checkpoints
from swin_unet.bundle import export_bundle, list_images
from swin_unet.cli import run
from swin_unet.config import UserError
from swin_unet.imaging import Volume
from swin_unet.models import build_model
from swin_unet.onnx_backend import load_segmenter

with warnings.catch_warnings(action="ignore"):
    import ignite.engine  # noqa: F401  torch's deprecations come with the first import only

ROOT = Path(__file__).resolve().parents[2]
PREPROCESSING = {
    "plane": "axial", "context_slices": 1, "intensity": "window", "window": [-125.0, 275.0],
    "percentiles": None, "fit": "resize", "image_size": [32, 24], "spacing_mm": None,
}  # fmt: skip
# Exporting takes its time per block.
SMALL = {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "skips": 1}


def write_checkpoint(
    path: Path, *, channels: int = 1, name: str = "swin_unet", model: Any = None, **changes: Any
) -> Path:
    """Save a network with random parameters, all of which show."""
    settings = {**PREPROCESSING, **changes}
    arguments = {"in_channels": channels * settings["context_slices"], "num_classes": 3}
    description = {"name": name, "arguments": {**arguments, **(SMALL if model is None else model)}}
    torch.manual_seed(0)
    network = build_model(description)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    content = {
        "model_description": description,
        "model": network.state_dict(),
        "preprocessing": settings,
        "classes": ["liver", "left kidney"],
        "config": {"inference": {"batch_size": 2, "overlap": 0.5, "precision": "fp32"}},
    }
    checkpoints.save(path, content)
    return path


def write_image(path: Path, codes: str = "RAS", channels: int = 1) -> Path:
    """Write a smooth volume with its axes in this order, so that its labels have structure."""
    grids = np.meshgrid(*(np.linspace(-3, 3, size) for size in (37, 30, 7)), indexing="ij")
    waves = [
        np.sin(grids[0] * (c + 1)) * np.cos(grids[1]) + 0.2 * grids[2] for c in range(channels)
    ]
    voxels = np.stack([(200 * wave + 75).astype(np.int16) for wave in waves], axis=-1)
    image = nib.Nifti1Image(
        voxels.squeeze(-1) if channels == 1 else voxels, np.diag([1, 1.5, 4, 1])
    )
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    nib.save(image.as_reoriented(turn), path)
    return path


def read_volume(path: Path) -> Volume:
    image = nib.load(path)
    return Volume(np.asarray(image.dataobj), image.affine)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint c.pt and its export c.onnx, for the tests that only read."""
    folder = tmp_path_factory.mktemp("exported")
    export.export_onnx(write_checkpoint(folder / "c.pt"), folder / "c.onnx")
    return folder


# Windows that do not fit, so that masks, shifts and paddings all take part.
NETWORKS: dict[str, dict[str, Any]] = {
    "v1": {"depths": [2, 2], "window_size": 5, "skips": [2], "upsampling": "bilinear"},
    "v2": {"depths": [2, 2], "version": 2, "window_size": 7, "upsampling": "transpose"},
    "expand": {"window_size": 4},
}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_onnx_runtime_computes_the_logits_of_torch(tmp_path: Path, options: dict) -> None:
    size = [26, 31]  # no multiple of the patch, the stride or the window
    path = write_checkpoint(tmp_path / "c.pt", model={**SMALL, **options}, image_size=size)
    parity = export.export_onnx(path, tmp_path / "c.onnx")
    assert 0 <= parity["difference"] < 1e-3 * parity["largest_logit"]
    onnx.checker.check_model(tmp_path / "c.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "c.onnx", providers=["CPUExecutionProvider"])
    network = checkpoints.load_model(checkpoints.load(path), path).eval()
    for batch in (1, 5):
        image = torch.randn(batch, 1, *size)
        with torch.no_grad():
            wanted = network(image).numpy()
        (found,) = session.run(None, {"image": image.numpy()})
        assert np.ptp(wanted) > 0.5
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
    # Masks are cached: what the exporter traced must not stay in the cache.
    assert type(network(image)) is torch.Tensor
    network(image).sum().backward()


def test_baselines_are_exported_too(tmp_path: Path) -> None:
    path = write_checkpoint(
        tmp_path / "c.pt", name="basic_unet", model={"embed_dim": 4}, image_size=[64, 64]
    )
    assert export.export_onnx(path, tmp_path / "c.onnx")["difference"] < 1e-3


def test_the_file_says_what_it_is(exported: Path) -> None:
    model = onnx.load(exported / "c.onnx")
    metadata = {item.key: json.loads(item.value) for item in model.metadata_props}
    assert metadata["classes"] == ["liver", "left kidney"]
    assert metadata["preprocessing"] == PREPROCESSING
    assert metadata["num_channels"] == 1
    assert metadata["checkpoint"] == "c.pt"
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param
    assert [axis.dim_value for axis in shape[1:]] == [1, 32, 24]


ZSCORE = {"intensity": "zscore", "window": None, "percentiles": [0.5, 99.5]}
CASES: dict[str, dict[str, Any]] = {
    "channels and context": {"channels": 2, "context_slices": 3, "plane": "coronal", **ZSCORE},
    "crop": {"fit": "crop", "image_size": [16, 12], "spacing_mm": [1.2, 1.7]},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_both_backends_segment_alike(tmp_path: Path, changes: dict) -> None:
    path = write_checkpoint(tmp_path / "c.pt", **changes)
    channels = changes.get("channels", 1)
    image = read_volume(write_image(tmp_path / "image.nii", "PIR", channels))
    export.export_onnx(path, tmp_path / "c.onnx")
    wanted = Segmenter(path, device="cpu").segment(image).array
    found = load_segmenter(tmp_path / "c.onnx", device="cpu").segment(image).array
    assert found.dtype == wanted.dtype
    assert np.count_nonzero(wanted) > 100
    assert np.count_nonzero(found != wanted) <= 2  # a tie may fall either way


def test_options_of_the_backend_win_over_those_of_training(exported: Path) -> None:
    segmenter = load_segmenter(exported / "c.onnx", device="cpu", batch_size=7)
    assert (segmenter.batch_size, segmenter.overlap) == (7, 0.5)
    with pytest.raises(UserError, match=r"fit resize, found 0\.25"):
        load_segmenter(exported / "c.onnx", device="cpu", overlap=0.25)
    segmenter = load_segmenter(exported / "c.onnx", device="cpu")
    assert (segmenter.batch_size, segmenter.overlap) == (2, 0.5)


def test_nothing_is_written_when_onnx_runtime_computes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "c.pt")
    write_onnx = export._write_onnx

    def write_other(network, *arguments):
        with torch.no_grad():
            next(network.parameters()).mul_(1.5)
        write_onnx(network, *arguments)
        with torch.no_grad():
            next(network.parameters()).div_(1.5)

    monkeypatch.setattr(export, "_write_onnx", write_other)
    with pytest.raises(UserError, match=r"expected logits within 0\.001"):
        export.export_onnx(path, tmp_path / "c.onnx")
    assert [item.name for item in tmp_path.iterdir()] == ["c.pt"]


def test_ties_are_no_other_class() -> None:
    wanted = np.zeros((1, 3, 2, 2), np.float32)
    wanted[0, 0] = 10
    wanted[0, 1] = [[9.99999, 9.9], [0, 0]]
    found = wanted.copy()
    found[0, 1] += [[2e-5, 0], [0, 0]]
    difference, num_other = export.compare_logits(found, wanted)
    assert difference == pytest.approx(2e-5, rel=0.1)
    assert num_other == 0
    found[0, 2, 1] = 11
    assert export.compare_logits(found, wanted) == (11, 2)


def call(*arguments: str | Path) -> int:
    return run(lambda: export.main([str(argument) for argument in arguments]))


def missing(tmp_path: Path, exported: Path) -> Path:
    return tmp_path / "missing.onnx"


def damaged(tmp_path: Path, exported: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"no protobuf at all")
    return tmp_path / "model.onnx"


def of_other_origin(tmp_path: Path, exported: Path) -> Path:
    torch.onnx.export(torch.nn.Identity(), (torch.zeros(1),), tmp_path / "m.onnx", verbose=False)
    return tmp_path / "m.onnx"


def of_the_future(tmp_path: Path, exported: Path) -> Path:
    model = onnx.load(exported / "c.onnx")
    next(item for item in model.metadata_props if item.key == "format").value = "2"
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.filterwarnings("ignore")  # torch's, of the foreign export
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, "no such file"),
        (damaged, "found"),
        (of_other_origin, "a file of other origin"),
        (of_the_future, "format 2, newer than 1"),
    ],
    ids=["missing", "damaged", "other origin", "newer"],
)
def test_files_that_are_no_export_are_refused(
    tmp_path: Path, exported: Path, make, words: str
) -> None:
    with pytest.raises(UserError, match=r"expected an ONNX file that .* wrote") as caught:
        load_segmenter(make(tmp_path, exported), device="cpu")
    assert words in str(caught.value)


def test_calls_that_cannot_be_done_are_refused(tmp_path: Path, capsys, monkeypatch) -> None:
    path = write_checkpoint(tmp_path / "c.pt")
    before = sorted(tmp_path.rglob("*"))
    onnx_call = ("--checkpoint", path, "--format", "onnx")
    bundle_call = ("--checkpoint", path, "--format", "bundle")
    assert call(tmp_path / "c", *onnx_call) == 2
    assert "ends in .onnx" in capsys.readouterr().err
    assert call(tmp_path, *bundle_call) == 2
    assert "a new folder" in capsys.readouterr().err
    assert call(path / "bundle", *bundle_call) == 2
    assert "found a file" in capsys.readouterr().err
    monkeypatch.setattr("swin_unet.onnx_backend.find_spec", lambda name: None)
    assert call(tmp_path / "c.onnx", *onnx_call) == 2
    assert "no onnx, onnxscript, onnxruntime. Install them" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_says_how_close_the_export_is(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    parity = {"difference": 2.5e-6, "largest_logit": 11.0}
    monkeypatch.setattr(export, "export_onnx", lambda checkpoint, path: parity)
    assert call(tmp_path / "c.onnx", "--checkpoint", tmp_path / "c.pt", "--format", "onnx") == 0
    expected = "c.onnx: logits within 2.5e-06 of torch's (largest logit 11), same classes\n"
    assert capsys.readouterr().out.endswith(expected)


def monai(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of MONAI's bundles outside of the checkout, without network."""
    code = (
        "import runpy, socket, sys\n"
        "def refuse(*arguments): raise AssertionError('the network was used')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "sys.argv[0] = 'monai.bundle'\n"
        "runpy.run_module('monai.bundle', run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=os.path.sep,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf8",
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    export_bundle(write_checkpoint(folder / "c.pt"), folder / "bundle")
    return folder / "bundle"


def test_a_bundle_has_its_files_and_nothing_else(bundle: Path) -> None:
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    configs = {"configs/metadata.json", "configs/inference.json"}
    assert found == {*configs, "models/model.pt", "docs/README.md"}
    assert {path.name for path in bundle.parent.iterdir()} == {"bundle", "c.pt"}
    text = (bundle / "docs" / "README.md").read_text(encoding="utf8")
    assert "| 2 | left kidney |" in text
    assert "{{" not in text
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == [32, 24]
    assert formats["outputs"]["pred"]["channel_def"]["2"] == "left kidney"


def test_monai_verifies_the_network(bundle: Path) -> None:
    paths = {name: bundle / "configs" / f"{name}.json" for name in ("metadata", "inference")}
    common = ("--net_id", "network_def", "--meta_file", paths["metadata"], "--device", "cpu")
    done = monai("verify_net_in_out", *common, "--config_file", paths["inference"])
    assert done.returncode == 0, done.stderr
    assert "verified with no error" in done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore")  # MONAI's, of any bundle
def test_monai_would_notice_another_network(bundle: Path, tmp_path: Path) -> None:
    from monai.bundle import verify_net_in_out

    wrong = json.loads((bundle / "configs" / "inference.json").read_text())
    wrong["network_def"]["description"]["arguments"]["num_classes"] = 5
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="output channel number `5`"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=str(tmp_path / "wrong.json"),
            device="cpu",
        )


def test_monai_runs_the_bundle_as_infer_does(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, codes in (("a", "RAS"), ("b", "SPL")):
        write_image(tmp_path / "images" / f"{name}.nii.gz", codes)
    done = monai(
        "run", "--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle,
        "--dataset_dir", tmp_path / "images", "--output_dir", tmp_path / "labels",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    segmenter = Segmenter(bundle.parent / "c.pt", device="cpu")
    for name in "ab":
        image = read_volume(tmp_path / "images" / f"{name}.nii.gz")
        written = nib.load(tmp_path / "labels" / f"{name}.nii.gz")
        wanted = segmenter.segment(image).array
        assert written.get_data_dtype() == np.uint8
        assert np.count_nonzero(wanted) > 100
        np.testing.assert_array_equal(np.asarray(written.dataobj), wanted)
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # MONAI's, of any bundle
def test_a_bundle_takes_channels_and_windows_that_slide(tmp_path: Path) -> None:
    from monai.bundle import run as run_bundle

    changes = {**CASES["crop"], "channels": 2}
    path = write_checkpoint(tmp_path / "c.pt", **changes)
    export_bundle(path, tmp_path / "bundle")
    (tmp_path / "images").mkdir()
    image = read_volume(write_image(tmp_path / "images" / "a.nii.gz", "LSA", channels=2))
    for channel in range(2):
        array = image.array[..., channel]
        nib.save(
            nib.Nifti1Image(array, image.affine), tmp_path / "images" / f"b_000{channel}.nii.gz"
        )
    run_bundle(
        config_file=str(tmp_path / "bundle" / "configs" / "inference.json"),
        bundle_root=str(tmp_path / "bundle"),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "labels"),
        device="$torch.device('cpu')",
    )
    wanted = Segmenter(path, device="cpu").segment(image).array
    assert np.count_nonzero(wanted) > 100
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {"a.nii.gz", "b_0000.nii.gz"}
    for name in ("a", "b_0000"):
        written = nib.load(tmp_path / "labels" / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), wanted)
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-6)


def test_a_bundle_leaves_other_formats_to_infer(tmp_path: Path) -> None:
    (tmp_path / "a.mha").touch()
    with pytest.raises(UserError, match="expected NIfTI files only"):
        list_images(str(tmp_path))
