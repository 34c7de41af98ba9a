"""One test case as every setting segments it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet.ablation.execute import is_done, measured
from swin_unet.ablation.plan import PlannedRun, replicates
from swin_unet.ablation.results import case_means
from swin_unet.ablation.study import Study
from swin_unet.files import atomic_path, make_folder

if TYPE_CHECKING:
    from swin_unet.imaging import Volume

Array = np.ndarray[Any, Any]
LoadCase = Callable[[str], "tuple[Volume, Volume]"]


def draw_overlays(
    folder: Path, study: Study, runs: Sequence[PlannedRun], load_case: LoadCase
) -> dict[str, Path]:
    """Segment the baseline's median test case by the best checkpoint of every setting.

    Args:
        folder: For the pictures.
        study: Gives the settings and the baseline.
        runs: All planned runs; the first finished one of a setting is shown.
        load_case: Reads image and label of a case by name.

    Returns:
        Title to picture; empty without a finished baseline.
    """
    finished = {
        setting.name: [run for run in replicates(runs, setting.name) if is_done(run)]
        for setting in study.settings
    }
    if not finished[study.baseline]:
        return {}
    case = _median_case(finished[study.baseline])
    image, label = load_case(case)
    make_folder(folder)
    pictures: dict[str, Path] = {}
    for number, group in enumerate(finished.values(), start=1):
        if group:
            panel, reference = _panels(group[0], image, label)
            if not pictures:
                pictures[f"{case}: reference"] = _save(folder / "0-reference.png", reference)
            title = f"{group[0].name}: Dice {_dice(group[0], case):.3f}"
            pictures[title] = _save(folder / f"{number}.png", panel)
    return pictures


def _median_case(runs: Sequence[PlannedRun]) -> str:
    means = case_means([measured(run) for run in runs], "best", "dice")
    ordered = sorted(means, key=lambda name: (means[name], name))
    return ordered[len(ordered) // 2]


def _dice(run: PlannedRun, case: str) -> float:
    return case_means([measured(run)], "best", "dice").get(case, float("nan"))


def _panels(run: PlannedRun, image: Volume, label: Volume) -> tuple[Array, Array]:
    """Return the slice with most reference pixels: prediction and errors; the reference."""
    from swin_unet.inference import Segmenter
    from swin_unet.overlays import overlay_panel

    segmenter = Segmenter(run.folder / "best.pt")
    prepared = segmenter.preprocessing.prepare(image)
    reference = prepared.to_working(label)
    predicted = prepared.to_working(segmenter.segment(image))
    number = int(np.count_nonzero(reference, axis=(0, 1)).argmax())
    panel = overlay_panel(
        prepared.native_slice(number), reference[..., number], predicted[..., number]
    )
    _, with_reference, with_prediction, errors = np.split(panel, 4, axis=1)
    return np.concatenate([with_prediction, errors], axis=1), with_reference


def _save(path: Path, picture: Array) -> Path:
    from matplotlib.image import imsave

    with atomic_path(path) as temporary:
        imsave(temporary, picture)
    return path
