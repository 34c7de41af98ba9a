"""infer.py for a checkpoint of a classification: predictions.csv, cases.csv and scores."""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet import checkpoint as checkpoints
from swin_unet.batch.arguments import OF_CLASSES, build_parser
from swin_unet.class_metrics import METRICS, decide, score_classes
from swin_unet.classifying import SliceClassifier
from swin_unet.config import UserError
from swin_unet.confusion import confusion_picture
from swin_unet.files import atomic_path, make_folder
from swin_unet.imaging import Volume, read_image, read_labels
from swin_unet.imaging.inputs import InputCase, find_label
from swin_unet.overlays import save_picture
from swin_unet.provenance import Provenance, write_json
from swin_unet.training.distributed import World
from swin_unet.training.tables import align
from swin_unet.two_looks import TwoLooks, load_two_looks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Classified:
    """A case that is done.

    Attributes:
        case: Its name.
        probabilities: (S, num_classes).
        labels: The true ones as `score_classes` takes them; None: not known.
        seconds: It took.
        error: Why it failed; then there is nothing else.
    """

    case: str
    probabilities: Array
    labels: Array | None = None
    seconds: float = 0.0
    error: str | None = None


def trained_task(path: Path, backend: str) -> str:
    """Return what a checkpoint or its export was trained for, of the tasks that infer.

    Raises:
        UserError: For an unreadable file, or a pretraining.
    """
    if backend == "onnx":
        from swin_unet.onnx_backend import trained_task as task_of_export

        return task_of_export(path)
    content = checkpoints.load(path)
    checkpoints.check_task(content, path, "segmentation", "classification")
    return checkpoints.task_of(content)


def classify_cases(arguments: argparse.Namespace, cases: list[InputCase], world: World) -> int:
    """Classify this process's share of the cases; the first process writes about all of them.

    Returns:
        The exit code: 0, 2 when all cases failed, 3 when some did.
    """
    classifier = _load(arguments)
    second = None if arguments.coarse is None else load_two_looks(classifier, arguments.coarse)
    make_folder(arguments.output)
    provenance = Provenance(checkpoint=str(arguments.checkpoint[0]), num_processes=world.size)
    done = world.merge(
        [_attempt(case, classifier, second, arguments, len(cases)) for case in world.shard(cases)]
    )
    good = [item for item in done if item.error is None]
    if world.is_first:
        provenance.write(arguments.output / "run.json", cases=[_outcome(item) for item in done])
        _write_predictions(arguments.output, good, classifier)
        if arguments.labels is not None and good:
            _report(arguments.output, good, classifier)
    failed = [item.case for item in done if item.error is not None]
    if failed and world.is_first:
        print(f"{len(failed)} of {len(cases)} cases failed: {', '.join(failed)}", file=sys.stderr)
    return (3 if good else 2) if failed else 0


def _load(arguments: argparse.Namespace) -> SliceClassifier:
    _refuse_options_of_label_maps(arguments)
    options = {"device": arguments.device, "precision": arguments.precision}
    size = arguments.batch_size
    if arguments.backend == "onnx":
        from swin_unet.onnx_backend import load_classifier

        return load_classifier(arguments.checkpoint[0], batch_size=size, **options)
    return SliceClassifier.load(arguments.checkpoint[0], batch_size=size, **options)


def _refuse_options_of_label_maps(arguments: argparse.Namespace) -> None:
    parser = build_parser()
    for name, value in vars(arguments).items():
        is_known = name in OF_CLASSES or name == "bars"
        if not is_known and value != parser.get_default(name):
            raise UserError(
                f"--{name}",
                expected="no value for a checkpoint of a classification",
                found=str(value),
                fix="Remove it: it is about label maps.",
            )
    if len(arguments.checkpoint) > 1:
        raise UserError(
            "--checkpoint",
            expected="one checkpoint of a classification",
            found=str(len(arguments.checkpoint)),
            fix="Give one.",
        )


def _attempt(
    case: InputCase,
    classifier: SliceClassifier,
    second: TwoLooks | None,
    arguments: argparse.Namespace,
    num_cases: int,
) -> Classified:
    """Classify a case; a fault of its files is reported and does not stop the others, if any."""
    started = time.monotonic()
    try:
        image = read_image(case.paths)
        labels = None
        if arguments.labels is not None:
            labels = _true_labels(arguments.labels, case, image, classifier)
        if second is None:
            probabilities = classifier.classify(image)
        else:
            looks = second.look(image)
            probabilities = looks.probabilities
            save_picture(arguments.output / f"{case.name}_look.png", looks.picture)
    except UserError as error:
        if num_cases == 1:
            raise
        print(f"{case.name}: error: {error}", file=sys.stderr)
        return Classified(case.name, np.zeros((0, 0)), error=str(error))
    seconds = time.monotonic() - started
    answer = describe(combine(probabilities, classifier.multi_label)[None], classifier)[0]
    print(f"{case.name}: {answer or 'none'} ({seconds:.1f} s)")
    return Classified(case.name, probabilities, labels, seconds)


def _true_labels(
    folder: Path, case: InputCase, image: Volume, classifier: SliceClassifier
) -> Array:
    """Return the true labels of a case's slices: by its label map, or by the folder it is in.

    Raises:
        UserError: There is none, or several.
    """
    if not classifier.multi_label:
        found = [
            number
            for number, name in enumerate(classifier.classes)
            if (folder / name / case.paths[0].name).is_file()
        ]
        if len(found) != 1:
            raise UserError(
                folder,
                expected=f"{case.paths[0].name} in the folder of one class",
                found=", ".join(classifier.classes[number] for number in found) or "none",
                fix="Give the folder whose folders are the classes as --labels.",
            )
        return np.array(found)
    label = read_labels(find_label(folder, case), len(classifier.classes) + 1, like=image)
    prepared = classifier.prepare(image)
    maps = prepared.labels_slab(prepared.to_working(label), 0, prepared.num_slices)
    values = np.arange(1, len(classifier.classes) + 1)
    return np.array([np.isin(values, picture) for picture in maps]).astype(np.int64)


def combine(probabilities: Array, multi_label: bool) -> Array:
    """Return the probabilities of a case by those of its slices (S, num_classes).

    What occurs in a slice occurs in the case; of the one class of a case all slices tell.
    """
    combined: Array = probabilities.max(axis=0) if multi_label else probabilities.mean(axis=0)
    return combined


def describe(probabilities: Array, classifier: SliceClassifier) -> list[str]:
    """Name the predicted classes of every slice (S, num_classes), with semicolons between them."""
    predicted = decide(probabilities, multi_label=classifier.multi_label)
    return [
        ";".join(name for name, yes in zip(classifier.classes, row, strict=True) if yes)
        for row in predicted
    ]


def _write_predictions(
    folder: Path, done: Sequence[Classified], classifier: SliceClassifier
) -> None:
    """Write a row per slice, and a row per case."""
    columns = [f"probability_{name}" for name in classifier.classes]
    _write_csv(
        folder / "predictions.csv", ["case", "slice", "prediction", *columns],
        _slice_rows(done, classifier),
    )  # fmt: skip
    _write_csv(
        folder / "cases.csv", ["case", "slices", "prediction", *columns],
        _case_rows(done, classifier),
    )  # fmt: skip


def _slice_rows(done: Sequence[Classified], classifier: SliceClassifier) -> Iterator[list[Any]]:
    for item in done:
        answers = describe(item.probabilities, classifier)
        for number, (answer, row) in enumerate(zip(answers, item.probabilities, strict=True)):
            yield [item.case, number, answer, *_rounded(row)]


def _case_rows(done: Sequence[Classified], classifier: SliceClassifier) -> Iterator[list[Any]]:
    for item in done:
        row = combine(item.probabilities, classifier.multi_label)
        answer = describe(row[None], classifier)[0]
        yield [item.case, len(item.probabilities), answer, *_rounded(row)]


def _rounded(row: Array) -> list[float]:
    return [round(float(value), 6) for value in row]


def _write_csv(path: Path, header: list[str], rows: Iterator[list[Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _report(folder: Path, done: Sequence[Classified], classifier: SliceClassifier) -> None:
    """Score all slices, write metrics.json and confusion.png, and print a table."""
    labels = [item.labels for item in done if item.labels is not None]
    summary = score_classes(
        np.concatenate(labels),
        np.concatenate([item.probabilities for item in done]),
        classifier.classes,
        multi_label=classifier.multi_label,
    )
    write_json(folder / "metrics.json", {**summary, "cases": [{"case": d.case} for d in done]})
    save_picture(folder / "confusion.png", confusion_picture(summary))
    rows = [["class", "slices", *METRICS]]
    for name, scores in {**summary["per_class"], "mean": summary["mean"]}.items():
        rows.append([name, str(scores.get("support", "")), *(_number(scores[k]) for k in METRICS)])
    heads = [
        f"{key} {summary[key]:.4f}"
        for key in ("accuracy", "top5", "exact")
        if summary.get(key) is not None
    ]
    print("\n".join([f"{summary['num_samples']} slices, {', '.join(heads)}", *align(rows)]))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _outcome(item: Classified) -> dict[str, Any]:
    """Return what run.json says of a case."""
    if item.error is not None:
        return {"case": item.case, "error": item.error}
    slices = len(item.probabilities)
    return {"case": item.case, "slices": slices, "seconds": round(item.seconds, 2)}
