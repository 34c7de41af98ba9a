"""Find everything that is wrong with a data set in one pass: `python -m datasets.check --config X`.

Prints a fingerprint, options to paste and a table of problems; writes all of it as JSON.
Exit code 2 when training, or the test of what it makes, would be refused, and 0 otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from datasets import list_dataset, make_split
from datasets.appearance import geometry_problems, intensity_problems
from datasets.augment import build_augmentation
from datasets.build import require_label_maps
from datasets.cases import Dataset, Split
from datasets.check_report import Report, format_report, to_json
from datasets.examination import Examination, examine, examine_file
from datasets.problems import Problem, sort_problems
from datasets.suggestions import suggest
from datasets.survey import (
    Survey,
    case_problems,
    label_order_problems,
    label_problems,
    split_problems,
)
from swin_unet.config import Config, UserError
from swin_unet.files import atomic_path, make_folder
from swin_unet.imaging import Plane, Preprocessing, split_name, thick_plane

if TYPE_CHECKING:
    from argparse import Namespace

    from jsonargparse import ArgumentParser

# A process takes a second to start: it should have some cases to look at.
CASES_PER_JOB, MOST_JOBS = 8, 8
EXIT_REFUSED = 2

CHECKS = (
    case_problems,
    split_problems,
    label_problems,
    label_order_problems,
    intensity_problems,
    geometry_problems,
)

S = TypeVar("S")
T = TypeVar("T")


def check(config: Config, jobs: int | None = None) -> Report:
    """Examine every case of a data set, and all of them together.

    Args:
        config: Of the training that is to come.
        jobs: Processes; None: by the number of cores and cases.
    """
    problems: list[Problem] = []
    dataset = _attempt(lambda: list_dataset(config.data), "data set", problems)
    if dataset is None:
        problems += _examine_files(config.data.root, jobs)
        return Report(config, problems)
    survey = survey_dataset(config, dataset, problems, jobs)
    problems += chain.from_iterable(find(survey) for find in CHECKS)
    problems += (Problem("note", "info", "", "", note, "") for note in dataset.notes)
    return Report(config, sort_problems(problems), survey, suggest(survey, config))


def survey_dataset(
    config: Config, dataset: Dataset, problems: list[Problem], jobs: int | None
) -> Survey:
    """Examine the cases and split them; note what the options refuse."""
    split = _attempt(lambda: make_split(dataset, config), "split", problems)
    examinations = examine_cases(dataset, jobs)
    plane = _plane(config, split, examinations)
    _attempt(lambda: Preprocessing.from_config(config.data, plane), "options", problems)
    _attempt(lambda: build_augmentation(config.data, plane, dataset.classes), "options", problems)
    by_name = {examination.case.name: examination for examination in examinations}
    return Survey(config.data, plane, dataset, split, by_name)


def _attempt(function: Callable[[], T], kind: str, problems: list[Problem]) -> T | None:
    """Return what the function returns, or note what it refuses."""
    try:
        return function()
    except UserError as error:
        problems.append(Problem.from_error(error, kind))
        return None


def _plane(config: Config, split: Split | None, examinations: Sequence[Examination]) -> Plane:
    """Return the configured plane, or what `auto` stands for in training."""
    if config.data.plane != "auto":
        return config.data.plane
    return thick_plane(
        item.image.header
        for item in examinations
        if item.image is not None and (split is None or item.case.name in split.train)
    )


def examine_cases(dataset: Dataset, jobs: int | None = None) -> list[Examination]:
    """Examine all cases, several at a time, with a progress bar.

    Raises:
        UserError: A process was killed, for lack of memory as a rule.
    """
    look = partial(examine, dataset=replace(dataset, cases=(), split=None))
    return _for_all(look, dataset.cases, jobs)


def _examine_files(root: Path | None, jobs: int | None) -> list[Problem]:
    """Look for damaged files in a folder that no data set can be made of."""
    if root is None or not root.is_dir():
        return []
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and split_name(path)[1]]
    visible = [path for path in files if not path.name.startswith(".")]
    return list(chain.from_iterable(_for_all(examine_file, visible, jobs)))


def _for_all(look: Callable[[S], T], items: Sequence[S], jobs: int | None) -> list[T]:
    """Look at everything, several at a time, with a progress bar."""
    from tqdm import tqdm

    cores = min(os.cpu_count() or 1, MOST_JOBS)
    jobs = jobs or max(1, min(cores, len(items) // CASES_PER_JOB))
    with _mapping(jobs) as mapping:
        results = mapping(look, items)
        return list(
            tqdm(results, "checking", len(items), unit="case", file=sys.stderr, disable=None)
        )


@contextmanager
def _mapping(jobs: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Give `map`, in so many processes."""
    if jobs == 1:
        yield map
        return
    # Started anew, as on every system: a copy of this process could inherit locked locks.
    executor = ProcessPoolExecutor(jobs, get_context("spawn"))
    try:
        yield executor.map
    except BrokenProcessPool as error:
        raise UserError(
            "--jobs",
            expected=f"{jobs} processes at work",
            found="one that was killed, for lack of memory as a rule",
            fix="Give a smaller number, such as --jobs 1.",
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Check the data set of a configuration."""
    from swin_unet.cli import build_parser, parse_config

    parser = build_parser("python -m datasets.check", __doc__ or "")
    add_options(parser)
    config, arguments = parse_config(parser, sys.argv[1:] if argv is None else argv)
    return run_check(config, arguments, format_report)


def add_options(parser: ArgumentParser) -> None:
    """Add the command's own flags."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="(default: OUTPUT_DIR/check.json)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="Processes (default: by cores).")


def run_check(config: Config, arguments: Namespace, show: Callable[[Report], str]) -> int:
    """Check the data, write the JSON file and print.

    Args:
        config: Of the training that is to come.
        arguments: The command's own flags, `json` and `jobs`.
        show: What to print.

    Returns:
        The exit code.
    """
    assert config.output_dir is not None
    require_label_maps(config.data)
    path = arguments.json or config.output_dir / "check.json"
    _check_jobs(arguments.jobs)
    make_folder(path.parent)  # that it cannot be written must show now, not after an hour
    report = check(config, arguments.jobs)
    with atomic_path(path) as temporary:
        text = json.dumps(to_json(report), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    print(show(report))
    print(f"All of it, with every case: {path}")
    return EXIT_REFUSED if report.is_refused else 0


def _check_jobs(jobs: int | None) -> None:
    if jobs is not None and jobs < 1:
        raise UserError("--jobs", expected="at least 1", found=str(jobs), fix="Correct it.")


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
