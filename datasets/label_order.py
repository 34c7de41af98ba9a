"""Do the label values mean the organs that the classes say? Sizes and positions tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datasets.cases import Case, Dataset, load_label
from swin_unet.imaging import Volume

# Orders in which preprocessed Synapse data go round.
KNOWN_ORDERS = (
    ("aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen",
     "stomach"),
    ("spleen", "right_kidney", "left_kidney", "gallbladder", "liver", "stomach", "aorta",
     "pancreas"),
    ("spleen", "right_kidney", "left_kidney", "gallbladder", "pancreas", "liver", "stomach",
     "aorta"),
    ("spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach",
     "aorta", "inferior_vena_cava", "portal_and_splenic_veins", "pancreas",
     "right_adrenal_gland", "left_adrenal_gland"),
)  # fmt: skip


@dataclass(frozen=True)
class Organ:
    """One label value of a label map.

    Attributes:
        volume: In voxels.
        section: Its largest axial cross-section, in voxels.
        centre: (x, y) in mm, x towards the patient's right.
        knows_sides: Whether the file says which side is the patient's right.
    """

    volume: int
    section: int
    centre: tuple[float, float]
    knows_sides: bool


@dataclass(frozen=True)
class Rule:
    """What holds in nearly every patient.

    Attributes:
        names: Of the organs that it is about.
        fault: What to say when it does not hold.
        holds: Tells for the organs in this order.
    """

    names: tuple[str, ...]
    fault: str
    holds: Callable[..., bool]


def label_order_warning(labels: Iterable[Volume], classes: Mapping[int, str]) -> str | None:
    """Say how the label maps of a few abdomens contradict the names of their values.

    Args:
        labels: Axial label maps of class values.
        classes: Value to name.

    Returns:
        None: no contradiction in most of them, or classes of which nothing is known.
    """
    patients = [measure_organs(volume) for volume in labels]
    names = {value: _plain(name) for value, name in classes.items()}
    faults = contradictions(patients, names)
    if not faults:
        return None
    text = (
        f"the label values contradict data.classes ({', '.join(names.values())}): "
        f"{'; '.join(faults[:3])}{'; ...' if len(faults) > 3 else ''}, in most label maps of the "
        f"{len(patients)} looked at."
    )
    fitting = [
        order
        for order in KNOWN_ORDERS
        if len(order) == len(names) and not contradictions(patients, dict(enumerate(order, 1)))
    ]
    return f"{text} They fit the order {', '.join(fitting[0])}." if fitting else text


def check_label_order(dataset: Dataset, cases: Sequence[Case]) -> str | None:
    """Read the label maps of some cases and warn as `label_order_warning` does.

    Raises:
        UserError: A fault of the files.
    """
    known = {name for order in KNOWN_ORDERS for name in order}
    if len(known & {_plain(name) for name in dataset.classes.values()}) < 2:
        return None
    return label_order_warning((load_label(case, dataset) for case in cases), dataset.classes)


def contradictions(patients: Sequence[Mapping[int, Organ]], names: Mapping[int, str]) -> list[str]:
    """List what does not hold in most of the patients whom it can be tested on."""
    tested: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for organs in patients:
        named = {name: organs[value] for value, name in names.items() if value in organs}
        for rule in _rules(named):
            tested[rule.fault] += 1
            failed[rule.fault] += not rule.holds(*(named[name] for name in rule.names))
    return [fault for fault, count in failed.items() if 2 * count > tested[fault]]


def measure_organs(labels: Volume) -> dict[int, Organ]:
    """Measure every label value but 0."""
    from scipy.ndimage import find_objects

    slice_axis = int(np.abs(labels.affine[2, :3]).argmax())
    organs = {}
    for value, box in enumerate(find_objects(labels.array), start=1):
        if box is None:
            continue
        voxels = np.nonzero(labels.array[box] == value)
        middle = [axis.mean() + side.start for axis, side in zip(voxels, box, strict=True)]
        x_mm, y_mm = (labels.affine @ [*middle, 1])[:2].tolist()
        organs[value] = Organ(
            volume=voxels[0].size,
            section=int(np.bincount(voxels[slice_axis]).max()),
            centre=(x_mm, y_mm),
            knows_sides=labels.has_spacing,
        )
    return organs


def _rules(named: Mapping[str, Organ]) -> list[Rule]:
    """List the rules of which all organs are there."""
    kidneys = ("left_kidney", "right_kidney")
    smaller = [("liver", name) for name in named if name != "liver"]
    smaller += [(kidney, "gallbladder") for kidney in kidneys]
    rules = [
        Rule((large, small), f"{small} is larger than {large}", _is_larger)
        for large, small in smaller
    ]
    rules += [
        Rule((name, "aorta"), f"aorta has a larger cross-section than {name}", _is_wider)
        for name in ("spleen", *kidneys)
    ]
    rules += [
        Rule((*kidneys, "aorta"), "aorta is not between the kidneys", _is_between),
        Rule((*kidneys, "spleen"), "right_kidney is on the spleen's side", _is_nearer_first),
        Rule((*kidneys[::-1], "liver"), "left_kidney is on the liver's side", _is_nearer_first),
    ]
    rules += [
        Rule((right, left), f"{left} is on the patient's right of {right}", _is_right_of)
        for right, left in ((kidneys[1], kidneys[0]), ("liver", "spleen"))
        if all(name in named and named[name].knows_sides for name in (right, left))
    ]
    return [rule for rule in rules if all(name in named for name in rule.names)]


def _is_larger(large: Organ, small: Organ) -> bool:
    return large.volume > small.volume


def _is_wider(large: Organ, small: Organ) -> bool:
    return large.section > small.section


def _is_between(one: Organ, other: Organ, middle: Organ) -> bool:
    """Tell whether the middle's foot on the line between the two is inside, whatever its turn."""
    line = np.subtract(other.centre, one.centre)
    share = np.dot(np.subtract(middle.centre, one.centre), line) / max(float(line @ line), 1e-9)
    return bool(0.1 < share < 0.9)


def _is_nearer_first(first: Organ, second: Organ, place: Organ) -> bool:
    return _distance(first, place) < _distance(second, place)


def _is_right_of(right: Organ, left: Organ) -> bool:
    return right.centre[0] > left.centre[0]


def _distance(one: Organ, other: Organ) -> float:
    return float(np.hypot(*np.subtract(one.centre, other.centre)))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
