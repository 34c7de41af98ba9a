"""Compare settings: python ablate.py --config synapse.yaml --study skips [--seeds 0,1,2]."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from swin_unet.cli import CONFIG_FOLDER, EXIT_PARTIAL, build_parser, parse_config, run
from swin_unet.config import Config, UserError, to_plain

if TYPE_CHECKING:
    from argparse import Namespace

    from datasets import Dataset
    from swin_unet.ablation.execute import Outcome
    from swin_unet.ablation.output import Networks
    from swin_unet.ablation.overlays import LoadCase
    from swin_unet.ablation.plan import Fixed, Plain, PlannedRun
    from swin_unet.ablation.study import Setting, Study
    from swin_unet.imaging import Volume

RUNS_FOLDER = Path("runs/ablation/runs")
TRAIN = [sys.executable, str(Path(__file__).resolve().parent / "train.py")]


def main(argv: list[str]) -> int:
    """Run a study as the command line says; return the exit code."""
    parser = build_parser("ablate.py", "Train every setting of a study and compare them.")
    _add_flags(parser)
    config, arguments = parse_config(parser, argv)
    _check_task(config)
    study = _load_study(arguments, config.data.name)
    folder = _study_folder(config, arguments, study)
    seeds = _seeds(arguments.seeds, config.seed)

    from datasets import build_dataset, load_case
    from swin_unet.ablation.plan import plan_runs
    from swin_unet.ablation.probe import print_plan
    from swin_unet.files import make_folder

    dataset = build_dataset(config.data)
    make_folder(folder)
    base = to_plain(config)
    fixed = _hold_fixed(config, dataset, study, folder, seeds, arguments.folds)
    runs = plan_runs(study, base, fixed, Path(arguments.runs_dir).resolve(), _check)
    networks = _measure_networks(runs, dataset)
    _write_plan(folder, study, runs)
    if arguments.dry_run:
        print_plan(study, runs, TRAIN, arguments.jobs)
        return 0
    cases = {case.name: case for case in dataset.cases}

    def load(name: str) -> tuple[Volume, Volume]:
        return load_case(cases[name], dataset)

    return _run_study(study, base, runs, networks, folder, arguments.jobs, load)


def _add_flags(parser: Any) -> None:
    add = parser.add_argument
    add("--study", metavar="NAME", help="A file in configs/studies, or a path.")
    add("--vary", nargs="+", metavar="KEY=A,B", help="A grid instead: model.skips=0,1,2,3 ...")
    add("--seeds", metavar="0,1,2", help="Repeat every setting with these (default: the config's).")
    add("--folds", type=int, help="Repeat every setting on the parts of a cross-validation.")
    add("--jobs", type=int, default=1, help="Trainings at a time.")
    add("--dry-run", dest="dry_run", action="store_true", help="Show the plan and its time.")
    add("--runs_dir", default=str(RUNS_FOLDER), help="Trainings, shared by all studies.")


def _check_task(config: Config) -> None:
    if config.task != "segmentation":
        raise UserError(
            "task",
            expected="segmentation: studies compare the Dice of label maps",
            found=config.task,
            fix="Start the trainings one by one.",
        )


def _load_study(arguments: Namespace, data_name: str) -> Study:
    from swin_unet.ablation.study import grid_study, load_study

    if (arguments.study is None) == (arguments.vary is None):
        raise UserError(
            "command line",
            expected="--study or --vary",
            found="neither" if arguments.study is None else "both",
            fix="Give one: --study skips, or --vary model.skips=0,1,2,3.",
        )
    if arguments.jobs < 1 or (arguments.folds is not None and arguments.folds < 2):
        raise UserError(
            "--jobs and --folds",
            expected="at least one job and two folds",
            found=f"{arguments.jobs} and {arguments.folds}",
            fix="Correct them.",
        )
    if arguments.vary is not None:
        return grid_study(arguments.vary)
    study = load_study(arguments.study, CONFIG_FOLDER / "studies")
    is_published = study.published is not None and study.published.data == data_name
    return study if is_published else replace(study, published=None)


def _study_folder(config: Config, arguments: Namespace, study: Study) -> Path:
    """Return --output_dir, or runs/ablation/CONFIG-STUDY."""
    assert config.output_dir is not None
    default = Path("runs") / (Path(arguments.config).stem if arguments.config else "unnamed")
    if config.output_dir != default:
        return config.output_dir
    return Path("runs/ablation") / f"{default.name}-{study.name}"


def _seeds(text: str | None, default: int) -> list[int]:
    try:
        seeds = [default] if text is None else [int(part) for part in str(text).split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(
            "--seeds",
            expected="different whole numbers such as 0,1,2",
            found=str(text),
            fix="Correct it.",
        )
    return seeds


def _check(setting: Setting, config: Plain) -> Plain:
    """Complete and validate the configuration of a setting as train.py would."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf8")
        try:
            parsed, _ = parse_config(build_parser("train.py", ""), ["--config", str(path)])
        except UserError as error:
            message = str(error).replace(str(path), "the study")
            raise UserError(
                f"setting {setting.name}",
                expected="options that train.py takes",
                found=message,
                fix="Correct the study or the configuration.",
            ) from error
    return to_plain(parsed)


def _hold_fixed(
    config: Config,
    dataset: Dataset,
    study: Study,
    folder: Path,
    seeds: Sequence[int],
    folds: int | None,
) -> Fixed:
    """Write the splits and the initial weights that the runs share; what exists stays."""
    from swin_unet.ablation.plan import Fixed

    numbers: list[int | None] = [None] if folds is None else list(range(folds))
    splits = {fold: _write_split(config, dataset, folder, folds, fold) for fold in numbers}
    weights = {
        seed: _write_initial(
            config, dataset, study, folder / f"initial-seed{seed}.safetensors", seed
        )
        for seed in seeds
    }
    return Fixed(splits, weights)


def _write_split(
    config: Config, dataset: Dataset, folder: Path, folds: int | None, fold: int | None
) -> Path:
    from datasets import make_split, save_split

    data = config.data if fold is None else replace(config.data, folds=folds, fold=fold)
    split = make_split(dataset, replace(config, data=data))
    if not split.test:
        raise UserError(
            "data.test_fraction",
            expected="test cases, which the settings are compared on",
            found="none in the split",
            fix="Set data.test_fraction above 0, or give a data.split_file with test cases.",
        )
    path = folder / ("split.json" if fold is None else f"split-fold{fold}.json")
    save_split(split, path)
    return path.resolve()


def _write_initial(config: Config, dataset: Dataset, study: Study, path: Path, seed: int) -> Path:
    """Write the baseline's weights of a seed."""
    from safetensors.torch import save_file

    from swin_unet.ablation.plan import apply
    from swin_unet.files import atomic_path
    from swin_unet.training.state import seed_everything

    setting = next(item for item in study.settings if item.name == study.baseline)
    plain = _check(setting, apply(to_plain(config), setting))
    seed_everything(seed)
    model = _build(setting.name, plain, dataset)
    with atomic_path(path) as temporary:
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()}, temporary
        )
    return path.resolve()


def _build(setting: str, plain: Plain, dataset: Dataset) -> Any:
    from swin_unet.config import ModelConfig
    from swin_unet.models import build_model, model_arguments

    in_channels = dataset.num_channels * plain["data"]["context_slices"]
    options = {**plain["model"], "pretrained": None}
    description = model_arguments(ModelConfig(**options), in_channels, dataset.num_classes)
    try:
        return build_model(description)
    except UserError as error:
        raise UserError(
            f"setting {setting}",
            expected="a network that can be built",
            found=error.found,
            fix="Change model's options, or name the settings: --vary model.skips=0,1,2.",
        ) from error


def _measure_networks(runs: Sequence[PlannedRun], dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Return parameters and MACs of every setting; building them finds impossible ones."""
    from swin_unet.models.complexity import measure, total

    costs: dict[str, tuple[int, int]] = {}
    for item in runs:
        if item.setting in costs:
            continue
        model = _build(item.setting, item.config, dataset).eval()
        data = item.config["data"]
        channels = dataset.num_channels * data["context_slices"]
        cost = total(measure(model, tuple(data["image_size"]), in_channels=channels))
        costs[item.setting] = cost.parameters, cost.macs
    return costs


def _write_plan(folder: Path, study: Study, runs: Sequence[PlannedRun]) -> None:
    """Write study.json: which run folder stands for which setting, seed and fold."""
    from swin_unet.provenance import write_json

    entries = [
        {"setting": item.setting, "seed": item.seed, "fold": item.fold, "folder": str(item.folder)}
        for item in runs
    ]
    content = {"study": study.name, "title": study.title, "baseline": study.baseline}
    settings = {setting.name: dict(setting.overrides) for setting in study.settings}
    write_json(folder / "study.json", {**content, "settings": settings, "runs": entries})


def _run_study(
    study: Study,
    base: Plain,
    runs: Sequence[PlannedRun],
    networks: Networks,
    folder: Path,
    jobs: int,
    load: LoadCase,
) -> int:
    """Train what is missing, tabulating after every run; return the exit code."""
    from swin_unet.ablation.execute import Executor, is_done
    from swin_unet.ablation.output import write_results
    from swin_unet.ablation.overlays import draw_overlays
    from swin_unet.ablation.plan import held_fixed, unique_runs

    todo = unique_runs(runs)
    done = sum(is_done(item) for item in todo)
    print(f"{study.title}: {len(todo)} trainings, {done} of them done; results in {folder}")
    notes = held_fixed(study, base)
    failures: list[str] = []

    def report(outcome: Outcome) -> None:
        _print_outcome(outcome)
        if outcome.error:
            failures.append(f"Failed: {outcome.run.name}: {outcome.error}")
        write_results(folder, study, runs, networks, [*notes, *failures], {})

    Executor(TRAIN, jobs, report).run(todo)
    overlays = draw_overlays(folder / "overlays", study, runs, load)
    print(write_results(folder, study, runs, networks, [*notes, *failures], overlays))
    print(f"{folder / 'index.html'}   tensorboard --logdir {folder / 'tensorboard'}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return EXIT_PARTIAL if failures else 0


def _print_outcome(outcome: Outcome) -> None:
    if outcome.error:
        print(f"{outcome.run.name}: failed, see {outcome.run.folder / 'output.txt'}", flush=True)
    elif outcome.seconds:
        print(f"{outcome.run.name}: done in {outcome.seconds / 60:.1f} min", flush=True)
    else:
        print(f"{outcome.run.name}: was done, {outcome.run.folder}", flush=True)


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
