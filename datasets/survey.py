"""What is known when every case was examined, and what that says about labels and the split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.cases import PARTS, Case, Dataset, Split, few
from datasets.examination import MISSING, Examination
from datasets.facts import Array, ImageFacts
from datasets.label_order import check_label_order
from datasets.problems import Problem, Severity
from swin_unet.config import DataConfig
from swin_unet.imaging import Plane

# The names of a patient's cases, patient001_frame01 for instance; group 1 is the patient.
_PATIENT = re.compile(r"(.*?[A-Za-z].*?\d+)[-_. ]+.*\d.*")
FEWEST_PATIENTS = 3
FEW_CASES = 3
# Label maps that are measured for it: reading them a second time takes a moment.
ORDER_CASES = 5


@dataclass(frozen=True, eq=False)
class Survey:
    """All that is known when every case was examined.

    Attributes:
        config: The data section.
        plane: Of the slices; what `auto` stands for.
        dataset: Whose cases they are.
        split: None when none can be made.
        examinations: Of all cases, labelled or not, by case name.
    """

    config: DataConfig
    plane: Plane
    dataset: Dataset
    split: Split | None
    examinations: Mapping[str, Examination]

    @property
    def parts(self) -> dict[str, str]:
        """The part of every case that is in the split."""
        if self.split is None:
            return {}
        return {name: part for part in PARTS for name in getattr(self.split, part)}

    @property
    def images(self) -> dict[str, ImageFacts]:
        """Of the cases whose image can be read."""
        return {
            name: examination.image
            for name, examination in self.examinations.items()
            if examination.image is not None
        }

    def image_path(self, name: str) -> Path:
        """Return the first file of a case's image."""
        return self.examinations[name].case.images[0]

    def names(self, part: str) -> Sequence[str]:
        """Return the cases of a part; without a split all labelled ones are for training."""
        if self.split is not None:
            names: Sequence[str] = getattr(self.split, part)
            return names
        labelled = [case.name for case in self.dataset.cases if case.labels]
        return labelled if part == "train" else []

    def class_voxels(self, names: Sequence[str]) -> Array:
        """Return the voxels (cases, K) of every class value in those cases that have a label."""
        labels = (self.examinations[name].label for name in names)
        counts = [label.voxels for label in labels if label is not None]
        return np.array(counts, dtype=np.int64).reshape(len(counts), self.dataset.num_classes)


def case_problems(survey: Survey) -> Iterator[Problem]:
    """Yield the cases' own problems; what no part of the split uses stops nothing."""
    parts = survey.parts
    for name, examination in survey.examinations.items():
        is_used = survey.split is None or name in parts
        for problem in examination.problems:
            is_needed = problem.kind == MISSING or (is_used and examination.case.labels)
            is_minor = problem.severity == "error" and not is_needed
            yield replace(problem, severity="warning") if is_minor else problem


def label_problems(survey: Survey) -> Iterator[Problem]:
    """Yield empty label maps, and classes that do not occur where they are needed."""
    for name, examination in survey.examinations.items():
        if examination.label is not None and not examination.label.voxels[1:].any():
            yield Problem(
                kind="empty label map",
                severity="warning",
                case=name,
                file=str(examination.case.labels[0]),
                message="no voxel is labelled",
                fix="Check that it is the finished label map; an absent structure is fine.",
            )
    yield from _absent_classes(survey)


def _absent_classes(survey: Survey) -> Iterator[Problem]:
    """Yield the classes that no case has, else no training case, else no validation case."""
    kind, said = "class without voxels", set[int]()
    places: tuple[tuple[str, Sequence[str], Severity, str], ...] = (
        ("", list(survey.examinations), "warning", "Correct data.classes or the label maps."),
        ("training ", survey.names("train"), "warning", "Take another split: it cannot be learnt."),
        ("validation ", survey.names("val"), "info", "best.pt is chosen without it."),
    )
    for where, names, severity, fix in places:
        voxels = survey.class_voxels(names)
        absent = [v for v in survey.dataset.classes if not voxels[:, v].any() and v not in said]
        said |= set(absent)
        if absent and len(voxels):
            listed = ", ".join(f"{value} ({survey.dataset.classes[value]})" for value in absent)
            message = f"none of the {where}label maps ({len(voxels)} readable) has label {listed}"
            yield Problem(kind, severity, "", "", message, fix)


def split_problems(survey: Survey) -> Iterator[Problem]:
    """Yield what is wrong or worth knowing about who trains and who tests."""
    yield from _duplicates(survey)
    yield from _torn_patients(survey)
    labelled = [case.name for case in survey.dataset.cases if case.labels]
    unused = [name for name in labelled if survey.split is not None and name not in survey.parts]
    if unused:
        message = f"{len(unused)} labelled cases are in no part of the split: {few(unused)}"
        yield _information("unused cases", message, "Add them to the split file to use them.")
    if survey.split is not None and 0 < len(survey.split.val) < FEW_CASES:
        message = f"best.pt is chosen by {len(survey.split.val)} of {len(labelled)} cases"
        fix = "Take a larger data.val_fraction, or data.folds: so few make it a matter of luck."
        yield _information("few validation cases", message, fix)


def label_order_problems(survey: Survey) -> Iterator[Problem]:
    """Yield organs that are not as large, or not where, their classes would be."""
    names = [name for name in survey.names("train") if survey.examinations[name].label is not None]
    cases = [survey.examinations[name].case for name in names[:ORDER_CASES]]
    warning = check_label_order(survey.dataset, cases) if cases else None
    if warning is not None:
        fix = "Name the classes in the order of the label values in data.classes."
        yield Problem("order of the labels", "warning", "", "data.classes", warning, fix)


def _information(kind: str, message: str, fix: str) -> Problem:
    return Problem(kind, "info", "", "", message, fix)


def _duplicates(survey: Survey) -> Iterator[Problem]:
    """Yield the images that equal an earlier one; constant images are another problem."""
    first: dict[str, Case] = {}
    for name, image in survey.images.items():
        case = survey.examinations[name].case
        if image.is_constant:
            continue
        original = first.setdefault(image.digest, case)
        if original is not case:
            yield _duplicate(survey, original, case)


def _duplicate(survey: Survey, original: Case, case: Case) -> Problem:
    parts = [survey.parts.get(item.name) for item in (original, case)]
    is_leak = None not in parts and parts[0] != parts[1]
    where = f", which is in `{parts[0]}`, this one in `{parts[1]}`" if is_leak else ""
    return Problem(
        kind="duplicate image across the split" if is_leak else "duplicate image",
        severity="error" if is_leak else "warning",
        case=case.name,
        file=str(case.images[0]),
        message=f"the same voxels as {original.name} ({original.images[0].name}){where}",
        fix="Remove one of them, or put both into one part by a data.split_file.",
    )


def _torn_patients(survey: Survey) -> Iterator[Problem]:
    """Yield patients on both sides where only the names of the cases tell who they are."""
    members: dict[str, dict[str, str]] = defaultdict(dict)
    for name, part in survey.parts.items():
        match = _PATIENT.fullmatch(name)
        if match and survey.examinations[name].case.group is None:
            members[match[1]].setdefault(part, name)
    torn = {patient: parts for patient, parts in members.items() if len(parts) > 1}
    if torn and len(members) >= FEWEST_PATIENTS:
        patient, parts = next(iter(torn.items()))
        example = ", ".join(f"{name} in `{part}`" for part, name in parts.items())
        yield Problem(
            kind="patient on both sides",
            severity="warning",
            case="",
            file="",
            message=f"by the names, {len(torn)} of {len(members)} patients are in several parts of "
            f"the split, {patient} for instance: {example}",
            fix="If that is one patient, give --data.group_pattern, for example '^[^_]+'.",
        )
