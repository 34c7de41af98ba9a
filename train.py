"""Train a Swin-UNet: python train.py --config synapse.yaml [--data.root DIR] [--output_dir RUN]."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_unet.cli import build_parser, parse_config, run
from swin_unet.config import Config, UserError, to_plain

if TYPE_CHECKING:
    from datasets import Dataset, Split
    from swin_unet.imaging import Plane
    from swin_unet.provenance import Provenance
    from swin_unet.training.distributed import World
    from swin_unet.training.engine import Trainer
    from swin_unet.training.resume import Restart
    from swin_unet.training.tasks import SegmentationData


def main(argv: list[str]) -> int:
    """Train as the command line says; return the exit code."""
    parser = build_parser("train.py", "Train a Swin-UNet on a folder of volumes and label maps.")
    parser.add_argument(
        "--resume", metavar="auto|PATH", help="Continue the run folder's last.pt, or this one."
    )
    config, arguments = parse_config(parser, argv)

    from swin_unet.training.distributed import joined

    with joined() as world:
        return _run(config, arguments.resume, _resume_command(argv, world), world)


def _run(config: Config, resume: str | None, command: str, world: World) -> int:
    """Check everything, then train; every process does, and the first one writes."""
    folder = config.output_dir
    assert folder is not None

    from datasets import build_dataset
    from swin_unet.files import make_folder, remove_leftovers
    from swin_unet.provenance import Provenance
    from swin_unet.training.resume import check_config, check_data, find_restart

    restart = find_restart(folder, resume)
    if restart is not None:
        check_config(restart, config)
    dataset = build_dataset(config.data)
    split = _make_split(config, dataset, restart)
    facts = _facts(dataset, split)
    if restart is not None:
        check_data(restart, facts)
    make_folder(folder)
    sessions = [] if restart is None else _sessions(folder / "run.json")
    provenance = Provenance(
        config=to_plain(config), data=facts, num_processes=world.size, sessions=sessions
    )
    # Whatever can be refused is refused here, before anything is written to the run folder.
    trainer, notes = _prepare(config, dataset, split, facts, restart, world)
    if world.is_first:
        remove_leftovers(folder)
        _start_run_folder(folder, config, split)
    return _train(trainer, notes, provenance, command)


def _prepare(
    config: Config,
    dataset: Dataset,
    split: Split,
    facts: dict[str, Any],
    restart: Restart | None,
    world: World,
) -> tuple[Trainer, list[str]]:
    """Build everything from the configuration.

    Returns:
        The trainer, and what the log is to say about it.
    """
    import numpy as np

    from swin_unet.devices import choose_device, choose_precision
    from swin_unet.models import build_model, model_arguments
    from swin_unet.training.determinism import prepare_cublas
    from swin_unet.training.distributed import choose_own_device
    from swin_unet.training.engine import Trainer
    from swin_unet.training.state import seed_everything
    from swin_unet.training.tasks import SegmentationTask

    folder = config.output_dir
    assert folder is not None
    if config.train.deterministic:
        prepare_cublas()
    device = choose_device(choose_own_device(config.train.device, world))
    precision = choose_precision(config.train.precision, device)
    seed_everything(config.seed)
    in_channels = dataset.num_channels * config.data.context_slices
    description = model_arguments(config.model, in_channels, dataset.num_classes)
    model = build_model(description)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    notes = [
        f"{config.model.name}: {num_parameters:,} parameters on {device} in {precision}; "
        f"{f'{world.size} processes; ' if world.size > 1 else ''}"
        f"cases: {len(split.train)} train, {len(split.val)} val, {len(split.test)} test"
    ]
    if config.model.pretrained is not None and restart is None:
        from swin_unet.models.weights import load_weights

        notes.append(str(load_weights(model, config.model.pretrained)))
    plane, data_notes = _survey_data(config, dataset, split, restart)
    notes += data_notes
    data = _build_data(config, dataset, split, plane, device.type, world)
    task = SegmentationTask(model.to(device), data, config, world)
    trainer = Trainer(
        config, task, folder, model_description=description, precision=precision, facts=facts
    )
    if world.rank > 0:  # for drop paths of its own; the weights are everybody's
        seed_everything(int(np.random.SeedSequence((config.seed, world.rank)).generate_state(1)[0]))
    if restart is not None:
        notes += trainer.resume(restart)
    return trainer, notes


def _train(trainer: Trainer, notes: list[str], provenance: Provenance, command: str) -> int:
    """Train, and tell the screen, log.txt and run.json about it; return the exit code."""
    from swin_unet.training.record import logger, logging_to, silent
    from swin_unet.training.results import finish
    from swin_unet.training.signals import Stopped

    folder = trainer.folder
    with ExitStack() as stack:
        outcome: dict[str, Any] = {}
        if trainer.world.is_first:
            outcome = stack.enter_context(_told(provenance, folder / "run.json"))
            stack.enter_context(logging_to(folder / "log.txt"))
        else:
            stack.enter_context(silent())
        for note in notes:
            logger.info(note)
        try:
            trainer.train()
            finish(trainer)
            logger.info(f"done: {folder / 'best.pt'}")
        except Stopped as stopped:
            outcome |= {"status": str(stopped), "finished": False}
            logger.info(f"{stopped}; everything is saved. Continue with:\n  {command}")
            return stopped.exit_code
        finally:
            outcome |= asdict(trainer.progress)
    return 0


@contextmanager
def _told(provenance: Provenance, path: Path) -> Iterator[dict[str, Any]]:
    """Write run.json now and at the end, with what the block adds to the yielded outcome."""
    outcome: dict[str, Any] = {"status": "finished", "finished": True}
    provenance.write(path, status="running", finished=False)
    try:
        yield outcome
    except BaseException as error:
        outcome |= {"status": f"failed: {error}", "finished": False}
        with suppress(UserError):  # the disk may be full
            provenance.write(path, **outcome)
        raise
    provenance.write(path, **outcome)


def _survey_data(
    config: Config, dataset: Dataset, split: Split, restart: Restart | None
) -> tuple[Plane, list[str]]:
    """Choose the plane of the slices, and look at a few label maps.

    Returns:
        The plane, and what the log is to say about the data.
    """
    from datasets import check_label_order, choose_plane, describe_split, pairing_table
    from datasets.cases import few

    notes = [pairing_table(dataset), *dataset.notes]
    if restart is None:
        notes.append(describe_split(split, dataset, config))
    by_name = {case.name: case for case in dataset.cases}
    training = [by_name[name] for name in split.train]
    warning = check_label_order(dataset, training[:3])
    if warning is not None:
        notes.append(f"warning: {warning}")
    if config.data.plane != "auto":
        return config.data.plane, notes
    plane, odd = choose_plane(training)
    notes.append(f"data.plane auto: {plane}, by the spacing of the training cases")
    if odd:
        notes.append(f"warning: these have another thick axis, or none: {few(odd)}")
    return plane, notes


def _build_data(
    config: Config, dataset: Dataset, split: Split, plane: Plane, device_type: str, world: World
) -> SegmentationData:
    """Cache the training slices and put a loader over them."""
    from datasets import load_case
    from datasets.slices import build_loader, build_slices
    from swin_unet.imaging import Preprocessing
    from swin_unet.training.tasks import SegmentationData

    preprocessing = Preprocessing.from_config(config.data, plane)
    by_name = {case.name: case for case in dataset.cases}
    training = [by_name[name] for name in split.train]
    with world.first_of_machine_first():
        slices = build_slices(config, dataset, training, preprocessing, progress=world.is_first)
    loader, sampler = build_loader(
        slices,
        batch_size=config.train.batch_size,
        num_workers=config.train.num_workers,
        pin_memory=device_type == "cuda",
        foreground_fraction=config.data.foreground_fraction,
        num_replicas=world.size,
        rank=world.rank,
    )

    def load(name: str) -> tuple[Any, Any]:
        return load_case(by_name[name], dataset)

    for name in world.shard(split.val):  # a fault must show now, not after the first epoch
        load(name)
    return SegmentationData(
        loader=loader,
        set_epoch=sampler.set_epoch,
        validation=split.val,
        test=split.test,
        load_case=load,
        preprocessing=preprocessing,
        num_channels=dataset.num_channels,
        classes=tuple(dataset.classes.values()),
    )


def _make_split(config: Config, dataset: Dataset, restart: Restart | None) -> Split:
    """Take the resumed run's split, the configured one, or make a new one."""
    from datasets import load_split, make_split

    if restart is not None:
        return load_split(restart.path.parent / "split.json", dataset.cases)
    return make_split(dataset, config)


def _facts(dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return what makes the run beside its configuration, for run.json and the checkpoints."""
    from swin_unet.imaging import source_files
    from swin_unet.provenance import hash_files, hash_plain

    parts = {part: list(names) for part, names in asdict(split).items()}
    used = {*split.train, *split.val}
    files = {
        case.name: hash_files(
            file
            for path in dict.fromkeys((*case.images, *case.labels))
            for file in source_files(path)
        )
        for case in dataset.cases
        if case.name in used
    }
    return {"split": parts, "split_hash": hash_plain(parts), "files": files}


def _sessions(path: Path) -> list[dict[str, Any]]:
    """Return what an interrupted run's run.json tells about the time before."""
    try:
        before = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return []
    keys = ("started", "seconds", "status", "command", "git_commit")
    return [*before.get("sessions", []), {key: before.get(key) for key in keys}]


def _resume_command(argv: list[str], world: World) -> str:
    """Return the command that continues the run."""
    start = "python" if world.size == 1 else "torchrun [as before]"
    words, skip = [], False
    for word in argv:
        if not (skip or word == "--resume" or word.startswith("--resume=")):
            words.append(word)
        skip = word == "--resume"
    return f"{start} train.py {shlex.join([*words, '--resume', 'auto'])}"


def _start_run_folder(folder: Path, config: Config, split: Split) -> None:
    """Write config.yaml and split.json."""
    import yaml

    from datasets import save_split
    from swin_unet.files import atomic_path

    with atomic_path(folder / "config.yaml") as path:
        path.write_text(yaml.safe_dump(to_plain(config), sort_keys=False), encoding="utf8")
    data = config.data
    seed = config.seed if data.split_file is None else None
    save_split(split, folder / "split.json", seed=seed, folds=data.folds, fold=data.fold)


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
