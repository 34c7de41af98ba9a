"""What is done to each case: read, segment, write, score."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_unet.batch.stream import Stages
from swin_unet.evaluation import score_volumes
from swin_unet.imaging import (
    PreparedVolume,
    Volume,
    read_header,
    read_image,
    read_labels,
    write_labels,
)
from swin_unet.imaging.dicom_seg import check_series, write_dicom_seg
from swin_unet.imaging.inputs import InputCase, find_label
from swin_unet.inference import VolumeSegmenter
from swin_unet.inference.maps import MAPS, DiskMap
from swin_unet.inference.prediction import Prediction
from swin_unet.statistics import describe_labels

# A larger case is not read while the one before it is computed.
READ_AHEAD_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Loaded:
    """A case that was read.

    Attributes:
        image: Its voxels.
        prepared: The same in working orientation; None for a case that is done.
        reference: Its reference labels, if it is scored.
    """

    image: Volume
    prepared: PreparedVolume | None
    reference: Volume | None


@dataclass(frozen=True, eq=False)
class Computed:
    """A case that was segmented, but for what needs no network."""

    loaded: Loaded
    prediction: Prediction | None
    maps: tuple[DiskMap, ...]


class Work:
    """The three stages of a case.

    Args:
        segmenter: Segments.
        arguments: The command line.
        cases: All of the call.

    Attributes:
        num_cases: Of the call.
        titles: What to call each case, by name.
        done: Names of the cases that are left out.
    """

    def __init__(
        self, segmenter: VolumeSegmenter, arguments: argparse.Namespace, cases: Sequence[InputCase]
    ) -> None:
        self.segmenter = segmenter
        self.arguments = arguments
        self.num_cases = len(cases)
        self.titles = {
            case.name: f"[{number}/{len(cases)}] {case.name}"
            for number, case in enumerate(cases, start=1)
        }
        skips = arguments.skip_existing
        self.done = frozenset(case.name for case in cases if skips and self._is_there(case))

    def stages(self) -> Stages[InputCase, dict[str, Any]]:
        """Return them for `process`."""
        return Stages(self.read, self.compute, self.write, may_read_ahead)

    def read(self, case: InputCase) -> Loaded | None:
        """Read image and reference; of a case that is done, what its scores need, if anything."""
        is_done = case.name in self.done
        if is_done and self.arguments.labels is None and not self.arguments.statistics:
            return None
        image = read_image(case.paths)
        if self.arguments.dicom_seg and not is_done:
            check_series(case.paths[0])
        reference = None
        if self.arguments.labels is not None:
            reference = read_labels(
                find_label(self.arguments.labels, case),
                self.segmenter.num_classes,
                like=image,
                on_mismatch=self.arguments.on_mismatch,
            )
        return Loaded(image, None if is_done else self.segmenter.prepare(image), reference)

    def compute(self, case: InputCase, loaded: Loaded | None) -> Computed | None:
        """Run the network."""
        if loaded is None or loaded.prepared is None:
            return None if loaded is None else Computed(loaded, None, ())
        maps = self._open_maps(case, loaded.image, loaded.prepared)
        title = self.titles[case.name] if self.arguments.bars else None
        prediction = self.segmenter.predict(loaded.prepared, title, maps)
        return Computed(loaded, prediction, maps)

    def write(self, case: InputCase, computed: Computed | None) -> dict[str, Any]:
        """Write labels and maps, the labels last, and measure what was asked for."""
        if computed is None:
            return {}
        loaded, path = computed.loaded, self.path(case)
        if computed.prediction is None:
            labels = read_labels(path, self.segmenter.num_classes, like=loaded.image)
        else:
            labels = self.segmenter.finish(loaded.image, computed.prediction)
            for each in computed.maps:
                each.file.save()
            if self.arguments.dicom_seg:
                write_dicom_seg(self._seg_path(case), labels, case.paths[0], self.segmenter.classes)
            write_labels(path, labels.array, like=loaded.image)
        return self._measure(labels, loaded)

    def path(self, case: InputCase) -> Path:
        """Return where the label map of a case goes."""
        return Path(self.arguments.output / case.output_name)

    def _is_there(self, case: InputCase) -> bool:
        paths = [self.path(case), *self._map_paths(case).values()]
        if self.arguments.dicom_seg:
            paths.append(self._seg_path(case))
        return all(path.is_file() for path in paths)

    def _seg_path(self, case: InputCase) -> Path:
        return Path(self.arguments.output / f"{case.name}.dcm")

    def _map_paths(self, case: InputCase) -> dict[str, Path]:
        names = [name for name in MAPS if getattr(self.arguments, name)]
        return {name: self.arguments.output / name / f"{case.name}.nii.gz" for name in names}

    def _open_maps(
        self, case: InputCase, image: Volume, prepared: PreparedVolume
    ) -> tuple[DiskMap, ...]:
        num_classes = self.segmenter.num_classes
        return tuple(
            MAPS[name](path, image, prepared, num_classes)
            for name, path in self._map_paths(case).items()
        )

    def _measure(self, labels: Volume, loaded: Loaded) -> dict[str, Any]:
        """Return what was asked for of a case: scores and statistics."""
        measured: dict[str, Any] = {}
        arguments, image = self.arguments, loaded.image
        classes = dict(enumerate(self.segmenter.classes, start=1))
        if arguments.statistics:
            spacing_mm = image.spacing_mm if image.has_spacing else None
            statistics = describe_labels(labels.array, image.array, spacing_mm, classes)
            measured["statistics"] = statistics
        if loaded.reference is not None:
            measured["metrics"] = score_volumes(
                labels,
                loaded.reference,
                classes,
                arguments.protocol,
                tolerance_mm=arguments.tolerance_mm,
            )
        return measured


def may_read_ahead(case: InputCase) -> bool:
    """Tell whether a case is small enough to lie in memory beside the one before it.

    A file whose header cannot be read may be read: that is where the fault is reported.
    """
    try:
        size = sum(read_header(path).num_bytes for path in case.paths)
    except Exception:
        return True
    return size <= READ_AHEAD_BYTES
