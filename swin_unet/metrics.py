"""Segmentation scores of one case: arrays in, plain records out.

A record holds, for one class:

| key                  | meaning                                                               |
|----------------------|-----------------------------------------------------------------------|
| `dice`               | 2 TP / (2 TP + FP + FN)                                               |
| `hd95_mm`            | the larger of the two directed 95th percentiles of surface distance   |
| `hd95_pooled_voxels` | 95th percentile of both directions' distances together, in voxels     |
| `surface_dice`       | share of both surfaces that lies within the tolerance of the other    |
| `precision`          | TP / (TP + FP); NaN without prediction                                |
| `recall`             | TP / (TP + FN); NaN without reference                                 |
| `volume_ml`          | predicted volume; `reference_volume_ml` is the true one               |
| `outcome`            | `both`, `missed`, `false_positive` or `absent`                        |

A surface is what medpy and MONAI take: the mask's voxels that have a face neighbour outside it, a
voxel beyond the edge of the volume being outside. NaN means undefined. Where the voxel spacing is
unknown, everything in mm or ml is NaN, surface Dice with its tolerance in mm too.

The two HD95 are different numbers (medpy pools, MONAI takes the larger direction) and must never be
compared with each other.

What the protocols make of a class that the prediction, the reference or both lack:

|                | strict: dice | hd95_mm  | hd95_pooled_voxels | paper: dice | ..._voxels |
|----------------|--------------|----------|--------------------|-------------|------------|
| missed         | 0            | diagonal | diagonal           | 0           | 0          |
| false_positive | 0            | diagonal | diagonal           | 1           | 0          |
| absent         | NaN          | NaN      | NaN                | 0           | 0          |

The diagonal is the whole volume's, the length of shape x spacing in mm, or of the shape in voxels:
no distance within is larger, so missing an organ is never better than finding it badly. Surface
Dice is 0 for the first two rows and NaN for the third. `paper` is what the original Swin-Unet did,
for comparison with published tables only; it changes these two numbers and no other. Its other
half, spline resizing of images and nearest resizing of predicted labels, is done in inference: here
both protocols compare voxel by voxel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

Protocol = Literal["strict", "paper"]
Record = dict[str, float | str]
Box = tuple[slice, ...]

SURFACE_METRICS = ("hd95_mm", "hd95_pooled_voxels", "surface_dice")
VOLUME_METRICS = ("volume_ml", "reference_volume_ml")
METRICS = ("dice", *SURFACE_METRICS, "precision", "recall", *VOLUME_METRICS)

_PAPER_CONVENTIONS: dict[str, Record] = {
    "both": {},
    "missed": {"dice": 0.0, "hd95_pooled_voxels": 0.0},
    "false_positive": {"dice": 1.0, "hd95_pooled_voxels": 0.0},
    "absent": {"dice": 0.0, "hd95_pooled_voxels": 0.0},
}
# Above this share of surface voxels in the box (noise, not organs) a feature transform of the
# whole box is faster than one tree query per surface voxel. Measured on 400 x 400 x 148.
_DENSE_SURFACE = 1 / 50
# Spacing comes from float32 headers: three voxels of 0.1 mm must count as within 0.3 mm.
_TOLERANCE_SLACK = 1 + 1e-6


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Sequence[float] | None,
    classes: Mapping[int, Any] | None = None,
    *,
    tolerance_mm: float = 1.0,
    protocol: Protocol = "strict",
    surfaces: bool = True,
) -> dict[Any, Record]:
    """Score every class of one predicted label volume against its reference.

    Args:
        prediction: Labels of any integer type, 0 is background; usually (X, Y, Z).
        reference: Labels of the same shape.
        spacing_mm: Voxel size along each axis; None: unknown.
        classes: Label values to score, and their names; None: every label present in either.
        tolerance_mm: Distance up to which two surfaces agree, for the surface Dice.
        protocol: Conventions for absent classes, see the module's text.
        surfaces: Compute surface distances, most of the time; False leaves their fields NaN.

    Returns:
        A record per class, by name, or by label value where `classes` is None.

    Raises:
        ValueError: For arrays that are no label volumes of one shape, or impossible spacing.
    """
    spacing = None if spacing_mm is None else np.asarray(spacing_mm, dtype=np.float64)
    _check_arguments(prediction, reference, spacing, classes)
    prediction, reference, spacing = _in_memory_order(prediction, reference, spacing)
    predicted_boxes, reference_boxes = _find_boxes(prediction), _find_boxes(reference)
    if classes is None:
        classes = {value: value for value in sorted(predicted_boxes | reference_boxes)}
    tolerance = tolerance_mm if surfaces else None
    records = {}
    for value, name in classes.items():
        box = _union(predicted_boxes.get(value), reference_boxes.get(value), prediction.ndim)
        # order="C": a strided copy once, contiguous work afterwards
        masks = [np.equal(labels[box], value, order="C") for labels in (prediction, reference)]
        record = _score_masks(masks[0], masks[1], prediction.shape, spacing, tolerance)
        if protocol == "paper":
            record |= _PAPER_CONVENTIONS[str(record["outcome"])]
        records[name] = record
    return records


def _check_arguments(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: np.ndarray | None,
    classes: Mapping[int, Any] | None,
) -> None:
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes {prediction.shape} and {reference.shape} differ")
    for labels in (prediction, reference):
        if labels.dtype.kind not in "bui":
            raise ValueError(f"labels must be integers, not {labels.dtype}")
        if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
            raise ValueError(f"labels must not be negative, found {labels.min()}")
    if classes is not None and min(classes, default=1) < 1:
        raise ValueError(f"classes start at label 1, found {min(classes)}")
    if spacing is not None and (spacing.shape != (prediction.ndim,) or not np.all(spacing > 0)):
        raise ValueError(f"spacing {spacing} does not fit an array of shape {prediction.shape}")


def _in_memory_order(
    prediction: np.ndarray, reference: np.ndarray, spacing: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Reverse the axes of Fortran-ordered volumes (NIfTI): no score changes, all get faster."""
    prediction, reference = _as_bytes(prediction), _as_bytes(reference)
    if not reference.flags.f_contiguous:
        return prediction, reference, spacing
    return prediction.T, reference.T, None if spacing is None else spacing[::-1]


def _as_bytes(labels: np.ndarray) -> np.ndarray:
    """View a mask as labels 0 and 1."""
    return labels.view(np.uint8) if labels.dtype == np.bool_ else labels


def _find_boxes(labels: np.ndarray) -> dict[int, Box]:
    """Find the bounding box of every label in one pass."""
    boxes = ndimage.find_objects(labels)
    return {value: box for value, box in enumerate(boxes, start=1) if box is not None}


def _union(first: Box | None, second: Box | None, num_dims: int) -> Box:
    """Return the smallest box around two, either of which may be missing.

    Surfaces and distances within it are exactly those of the whole volume.
    """
    boxes = [box for box in (first, second) if box is not None]
    if not boxes:
        return (slice(0, 0),) * num_dims
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )


def _score_masks(
    prediction: np.ndarray,
    reference: np.ndarray,
    volume_shape: tuple[int, ...],
    spacing: np.ndarray | None,
    tolerance_mm: float | None,
) -> Record:
    """Score one class by the strict protocol, from its masks cropped to one box around both.

    Without a tolerance the surfaces are not compared.
    """
    num_predicted, num_reference, num_common = (
        int(np.count_nonzero(mask)) for mask in (prediction, reference, prediction & reference)
    )
    outcome = _outcome(num_predicted, num_reference)
    if tolerance_mm is None:
        surface_scores = dict.fromkeys(SURFACE_METRICS, math.nan)
    elif outcome == "both":
        surface_scores = _surface_scores(prediction, reference, spacing, tolerance_mm)
    else:
        surface_scores = _empty_surface_scores(outcome, volume_shape, spacing)
    scores = {
        "dice": _ratio(2 * num_common, num_predicted + num_reference),
        **surface_scores,
        "precision": _ratio(num_common, num_predicted),
        "recall": _ratio(num_common, num_reference),
        "volume_ml": _volume_ml(num_predicted, spacing),
        "reference_volume_ml": _volume_ml(num_reference, spacing),
    }
    return {**scores, "outcome": outcome}


def _outcome(num_predicted: int, num_reference: int) -> str:
    if num_reference:
        return "both" if num_predicted else "missed"
    return "false_positive" if num_predicted else "absent"


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _volume_ml(num_voxels: int, spacing: np.ndarray | None) -> float:
    return math.nan if spacing is None else float(num_voxels * spacing.prod() / 1000)


def _empty_surface_scores(
    outcome: str, volume_shape: tuple[int, ...], spacing: np.ndarray | None
) -> dict[str, float]:
    if outcome == "absent":
        return dict.fromkeys(SURFACE_METRICS, math.nan)
    shape = np.asarray(volume_shape)
    return {
        "hd95_mm": math.nan if spacing is None else float(np.linalg.norm(shape * spacing)),
        "hd95_pooled_voxels": float(np.linalg.norm(shape)),
        "surface_dice": math.nan if spacing is None else 0.0,
    }


def _surface_scores(
    prediction: np.ndarray, reference: np.ndarray, spacing: np.ndarray | None, tolerance_mm: float
) -> dict[str, float]:
    """Compare the surfaces of two masks, neither of them empty."""
    surfaces = _surface(prediction), _surface(reference)
    unit = np.ones(prediction.ndim)
    in_voxels = _surface_distances(*surfaces, unit)
    scores = {
        "hd95_mm": math.nan,
        "hd95_pooled_voxels": float(np.percentile(np.concatenate(in_voxels), 95)),
        "surface_dice": math.nan,
    }
    if spacing is None:
        return scores
    if np.all(spacing == spacing[0]):
        in_mm = in_voxels[0] * spacing[0], in_voxels[1] * spacing[0]
    else:  # the nearest surface voxel is another one
        in_mm = _surface_distances(*surfaces, spacing)
    pooled = np.concatenate(in_mm)
    scores["hd95_mm"] = float(max(np.percentile(distances, 95) for distances in in_mm))
    within = int(np.count_nonzero(pooled <= tolerance_mm * _TOLERANCE_SLACK))
    scores["surface_dice"] = _ratio(within, pooled.size)
    return scores


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the mask's voxels that have a face neighbour outside it."""
    interior = mask.copy()
    for axis in range(mask.ndim):
        inner, outer = np.moveaxis(interior, axis, 0), np.moveaxis(mask, axis, 0)
        inner[1:] &= outer[:-1]
        inner[:-1] &= outer[1:]
        inner[0] = inner[-1] = False
    return mask ^ interior


def _surface_distances(
    first: np.ndarray, second: np.ndarray, spacing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances from each surface's voxels to the other surface, in units of spacing."""
    points = np.argwhere(first), np.argwhere(second)
    distances = []
    for queries, targets, target_mask in (
        (points[0], points[1], second),
        (points[1], points[0], first),
    ):
        if len(queries) > _DENSE_SURFACE * target_mask.size:
            nearest = _nearest_by_transform(queries, target_mask, spacing)
        else:
            nearest = _nearest_by_tree(queries, targets, spacing)
        # Voxel differences before scaling: exact where the spacing is
        distances.append(np.linalg.norm((queries - nearest) * spacing, axis=1))
    return distances[0], distances[1]


def _nearest_by_tree(queries: np.ndarray, targets: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Find the nearest target of each query; (N, dims) and (M, dims) voxel indices -> (N, dims)."""
    tree = cKDTree(targets * spacing, leafsize=32, compact_nodes=False, balanced_tree=False)
    _, positions = tree.query(queries * spacing)
    return targets[positions]


def _nearest_by_transform(
    queries: np.ndarray, target_mask: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """Do what `_nearest_by_tree` does, at a cost that is set by the box instead of the queries."""
    nearest = ndimage.distance_transform_edt(
        ~target_mask, sampling=spacing, return_distances=False, return_indices=True
    )  # (dims, *box)
    return nearest[(slice(None), *queries.T)].T
