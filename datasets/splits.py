"""Which cases train, which choose the best checkpoint, and which training never sees."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cases import PARTS, Case, Dataset, Split, few
from swin_unet.config import Config, UserError
from swin_unet.files import atomic_path, read_json

HASH_KEY = "sha256"
SETTINGS = ("seed", "folds", "fold")


def make_split(dataset: Dataset, config: Config) -> Split:
    """Split a data set: by the configured file, as published, in folds, or by fractions.

    A published split keeps its test cases whatever the options; an empty `val` is drawn from its
    training cases. Of these only `train_fraction` are kept.

    Raises:
        UserError: Too few cases, a group in two parts, or a fault of the file.
    """
    split = _whole_split(dataset, config)
    share = config.data.train_fraction
    return split if share == 1 else _with_share(split, dataset.cases, share, config.seed)


def _with_share(split: Split, cases: Sequence[Case], share: float, seed: int) -> Split:
    """Keep a share of the training groups, one at least; a smaller share is part of a larger."""
    training = set(split.train)
    groups = _groups(case for case in cases if case.name in training)
    kept = _shuffled(groups, seed)[: _share(share, len(groups))]
    return Split(_names(groups, kept), split.val, split.test)


def _whole_split(dataset: Dataset, config: Config) -> Split:
    data, seed = config.data, config.seed
    if data.split_file is not None:
        return load_split(data.split_file, dataset.cases)
    published = dataset.split
    if published is not None:
        subject = data.list_file or data.root or "the published split"
        check_split(
            subject, published, dataset.cases, "Correct its lists, or give data.split_file."
        )
    if data.folds is not None:
        free, test = _free_cases(dataset)
        share = 0.0 if test else data.test_fraction
        split = fold_cases(free, data.folds, data.fold or 0, share, seed)
        return Split(split.train, split.val, test or split.test)
    if published is None:
        return split_cases(dataset.cases, data.val_fraction, data.test_fraction, seed)
    if published.val or data.val_fraction == 0:
        return published
    wanted = set(published.train)
    training = [case for case in dataset.cases if case.name in wanted]
    drawn = split_cases(training, data.val_fraction, 0.0, seed)
    return Split(drawn.train, drawn.val, published.test)


def describe_split(split: Split, dataset: Dataset, config: Config) -> str:
    """Say where a split of `make_split` comes from."""
    share = config.data.train_fraction
    kept = "" if share == 1 else f"; {share:.0%} of its training part is used"
    return f"{_origin(split, dataset, config)}{kept}"


def _origin(split: Split, dataset: Dataset, config: Config) -> str:
    data, published = config.data, dataset.split
    drawn = f"drawn by seed {config.seed}"
    if data.split_file is not None:
        return f"split: {data.split_file}"
    if data.folds is not None:
        test = "the published test part" if published and published.test else f"test cases {drawn}"
        return f"split: fold {data.fold or 0} of {data.folds} {drawn}, {test} aside"
    if published is None:
        return f"split: {drawn}"
    if published.val or not split.val:
        return "split: the published one"
    names = few(split.val, limit=10)
    return f"split: the published one, validation cases {drawn} from its training part: {names}"


def split_cases(
    cases: Sequence[Case], val_fraction: float, test_fraction: float, seed: int
) -> Split:
    """Split the labelled cases by group; the same cases and seed give the same split.

    Every fraction above 0 gets at least one group.

    Raises:
        UserError: Too few groups for the parts that were asked for.
    """
    groups = _groups(cases)
    num_val, num_test = (
        _share(fraction, len(groups)) for fraction in (val_fraction, test_fraction)
    )
    if num_val + num_test >= len(groups):
        raise UserError(
            "data.val_fraction and data.test_fraction",
            expected=f"at least {num_val + num_test + 1} labelled cases (or patients)",
            found=str(len(groups)),
            fix="Add cases, set a fraction to 0, or give data.split_file.",
        )
    order = _shuffled(groups, seed)
    parts = order[num_val + num_test :], order[:num_val], order[num_val : num_val + num_test]
    return Split(*(_names(groups, part) for part in parts))


def fold_cases(
    cases: Sequence[Case], folds: int, fold: int, test_fraction: float, seed: int
) -> Split:
    """Split the labelled cases by group for one fold of a cross-validation.

    The test cases are the same in every fold; over all folds every other case is once in `val`.

    Raises:
        UserError: Fewer groups than folds.
    """
    groups = _groups(cases)
    num_test = _share(test_fraction, len(groups))
    if len(groups) - num_test < folds:
        raise UserError(
            "data.folds",
            expected=f"at most as many as labelled cases (or patients), less {num_test} for test",
            found=f"{folds} folds of {len(groups) - num_test}",
            fix="Take fewer folds or a smaller data.test_fraction, or add cases.",
        )
    order = _shuffled(groups, seed)
    test, free = order[:num_test], order[num_test:]
    val = free[fold::folds]
    train = [key for key in free if key not in set(val)]
    return Split(*(_names(groups, part) for part in (train, val, test)))


def save_split(
    split: Split,
    path: str | Path,
    *,
    seed: int | None = None,
    folds: int | None = None,
    fold: int | None = None,
) -> None:
    """Write split.json: what made the split, its parts, and a hash of the parts.

    The hash comes first, so that removing its line leaves valid JSON.
    """
    settings = {"seed": seed, "folds": folds, "fold": fold}
    content = {
        HASH_KEY: split_hash(split),
        **{key: value for key, value in settings.items() if value is not None},
        **asdict(split),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_split(path: str | Path, cases: Sequence[Case]) -> Split:
    """Read a split.json and check it against the cases of the data set.

    A name may be that of a group (a patient) and stands for all its labelled cases. A part that
    is not given is empty.

    Raises:
        UserError: Unreadable file, wrong hash, unknown or unlabelled cases, a case named twice,
            no training case, or a group in two parts.
    """
    path = Path(path)
    content = read_json(path)
    known = {*PARTS, *SETTINGS, HASH_KEY}
    parts = [content.get(part, []) for part in PARTS]
    if not set(content) <= known or "train" not in content or not all(map(_is_names, parts)):
        raise UserError(
            path,
            expected="lists of case names under train, val and test",
            found=f"the keys {sorted(content)}",
            fix="Take the split.json of an earlier run as a model.",
        )
    written = Split(*(tuple(part) for part in parts))
    _check_hash(path, written, content.get(HASH_KEY))
    split = _expand_groups(written, cases)
    check_split(path, split, cases, "Correct the split file.")
    return split


def split_hash(split: Split) -> str:
    """Return the SHA-256 of the parts as compact JSON, keys sorted."""
    text = json.dumps(asdict(split), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_split(subject: str | Path, split: Split, cases: Sequence[Case], fix: str) -> None:
    """Raise UserError unless the parts are labelled cases, each once, and groups are whole."""
    names = [*split.train, *split.val, *split.test]
    labelled = {case.name: case for case in cases if case.labels}
    unknown = [name for name in names if name not in labelled]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    problem = None
    if unknown:
        problem = "labelled cases of the data set", f"unknown names {few(unknown)}"
    elif repeated:
        problem = "every case once", f"{few(repeated)} more than once"
    elif not split.train:
        problem = "training cases", "none"
    elif torn := _torn_groups(split, labelled):
        problem = "every patient in one part", f"{few(torn)} in two"
    if problem:
        raise UserError(subject, expected=problem[0], found=problem[1], fix=fix)


def _free_cases(dataset: Dataset) -> tuple[list[Case], tuple[str, ...]]:
    """Return the cases to make folds of, and the published test cases."""
    if dataset.split is None:
        return list(dataset.cases), ()
    names = {*dataset.split.train, *dataset.split.val}
    return [case for case in dataset.cases if case.name in names], dataset.split.test


def _groups(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Return the labelled cases of each group; a case without one is a group of its own."""
    groups: dict[str, list[str]] = {}
    for case in cases:
        if case.labels:
            key = f"case {case.name}" if case.group is None else f"group {case.group}"
            groups.setdefault(key, []).append(case.name)
    return groups


def _shuffled(groups: dict[str, list[str]], seed: int) -> list[str]:
    keys = sorted(groups)
    return [keys[index] for index in np.random.default_rng(seed).permutation(len(keys))]


def _names(groups: dict[str, list[str]], keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name for key in keys for name in groups[key]))


def _share(fraction: float, total: int) -> int:
    return max(1, round(fraction * total)) if fraction > 0 else 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_hash(path: Path, split: Split, found: Any) -> None:
    if found is not None and found != split_hash(split):
        raise UserError(
            path,
            expected=f"the parts that the line {HASH_KEY} was written for",
            found="others: the file was edited by hand",
            fix=f"Remove the line {HASH_KEY} to accept the changes, or restore the file.",
        )


def _expand_groups(split: Split, cases: Sequence[Case]) -> Split:
    """Replace the names of groups by those of their labelled cases."""
    names = {case.name for case in cases}
    members: dict[str, list[str]] = {}
    for case in cases:
        if case.group is not None and case.labels:
            members.setdefault(case.group, []).append(case.name)

    def expand(part: tuple[str, ...]) -> tuple[str, ...]:
        lists = ([name] if name in names else members.get(name, [name]) for name in part)
        return tuple(name for found in lists for name in found)

    return Split(expand(split.train), expand(split.val), expand(split.test))


def _torn_groups(split: Split, cases: dict[str, Case]) -> list[str]:
    """List the groups that have cases in more than one part."""
    parts: dict[str, set[str]] = {}
    for part in PARTS:
        for name in getattr(split, part):
            group = cases[name].group
            if group is not None:
                parts.setdefault(group, set()).add(part)
    return [group for group, where in parts.items() if len(where) > 1]
