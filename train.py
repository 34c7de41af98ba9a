"""Train a Swin-UNet: python train.py --config synapse.yaml [--data.root DIR] [--output_dir RUN]."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_unet.cli import build_parser, parse_config, run
from swin_unet.config import Config, UserError, to_plain

if TYPE_CHECKING:
    from torch import nn

    from datasets import Dataset, Split
    from swin_unet.imaging import Plane
    from swin_unet.provenance import Provenance
    from swin_unet.training.distributed import World
    from swin_unet.training.engine import Trainer
    from swin_unet.training.resume import Restart
    from swin_unet.training.task import TaskData


def main(argv: list[str]) -> int:
    """Train as the command line says; return the exit code."""
    parser = build_parser("train.py", "Train a Swin-UNet on a folder of volumes and label maps.")
    parser.add_argument(
        "--resume", metavar="auto|PATH", help="Continue the run folder's last.pt, or this one."
    )
    parser.add_argument(
        "--probe",
        type=int,
        metavar="STEPS",
        help="Time this many steps instead of training, print the time as JSON, and keep nothing.",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="The same as --train.deterministic true, whatever the file says.",
    )
    config, arguments = parse_config(parser, argv)
    if arguments.deterministic:
        config = replace(config, train=replace(config.train, deterministic=True))
    _check_probe(arguments.probe, arguments.resume)

    from swin_unet.training.distributed import joined

    with joined() as world:
        if arguments.probe is not None:
            return _probe(config, arguments.probe, world)
        return _run(config, arguments.resume, argv, world)


def _check_probe(num_steps: int | None, resume: str | None) -> None:
    if num_steps is not None and num_steps < 1:
        raise UserError(
            "--probe", expected="at least 1 step", found=str(num_steps), fix="Correct this option."
        )
    if num_steps is not None and resume is not None:
        raise UserError(
            "--probe",
            expected="a training from its start",
            found=f"--resume {resume}",
            fix="Remove one of the two.",
        )


def _probe(config: Config, num_steps: int, world: World) -> int:
    """Say how long a step takes; the run folder, if it is there, is not looked at."""
    from swin_unet.training.probe import measure_steps

    dataset, split = _find_data(config, None)
    trainer, _ = _prepare(config, dataset, split, {}, None, world)
    measured = measure_steps(trainer, num_steps)
    if world.is_first:
        print(json.dumps(measured))
    return 0


def _run(config: Config, resume: str | None, argv: list[str], world: World) -> int:
    """Check everything, then train; every process does, and the first one writes."""
    folder = config.output_dir
    assert folder is not None

    from swin_unet.files import make_folder, remove_leftovers
    from swin_unet.provenance import Provenance, sessions_before
    from swin_unet.training.resume import check_config, check_data, find_restart, resume_command

    restart = find_restart(folder, resume)
    if restart is not None:
        check_config(restart, config)
    dataset, split = _find_data(config, restart)
    facts = _facts(config, dataset, split, world)
    if restart is not None:
        check_data(restart, facts)
    make_folder(folder)
    sessions = [] if restart is None else sessions_before(folder / "run.json")
    provenance = Provenance(
        config=to_plain(config), data=facts, num_processes=world.size, sessions=sessions
    )
    # Whatever can be refused is refused here, before anything is written to the run folder.
    trainer, notes = _prepare(config, dataset, split, facts, restart, world)
    if world.is_first:
        remove_leftovers(folder)
        _start_run_folder(folder, config, split)
    return _train(trainer, notes, provenance, resume_command(argv, world.size))


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

    from datasets import survey_training
    from swin_unet.devices import choose_device, choose_precision
    from swin_unet.training.build import build_network, build_task
    from swin_unet.training.determinism import prepare_cublas
    from swin_unet.training.distributed import choose_own_device
    from swin_unet.training.engine import Trainer
    from swin_unet.training.memory import keep_freed_memory
    from swin_unet.training.state import seed_everything

    folder = config.output_dir
    assert folder is not None
    if config.train.deterministic:
        prepare_cublas()
    device = choose_device(choose_own_device(config.train.device, world))
    precision = choose_precision(config.train.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    seed_everything(config.seed)
    in_channels = dataset.num_channels * config.data.context_slices
    model, description = build_network(config, in_channels, len(dataset.classes))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    notes = [
        f"{config.task} by {config.model.name}: {num_parameters:,} parameters "
        f"on {device} in {precision}; "
        f"{f'{world.size} processes; ' if world.size > 1 else ''}"
        f"cases: {len(split.train)} train, {len(split.val)} val, {len(split.test)} test"
    ]
    if restart is None:
        notes += _load_start(model, config)
    plane, data_notes = survey_training(config, dataset, split, is_new=restart is None)
    notes += data_notes
    data, read_case = _build_data(config, dataset, split, plane, device.type, world)
    task = build_task(config, model.to(device), data, read_case, world)
    trainer = Trainer(
        config, task, folder, model_description=description, precision=precision, facts=facts
    )
    if world.rank > 0:  # for drop paths of its own; the weights are everybody's
        seed_everything(int(np.random.SeedSequence((config.seed, world.rank)).generate_state(1)[0]))
    if restart is not None:
        notes += trainer.resume(restart)
    return trainer, notes


def _load_start(model: nn.Module, config: Config) -> list[str]:
    """Load the weights that a new run starts from; return what the log is to say."""
    from swin_unet.models.initial import load_initial
    from swin_unet.models.weights import load_weights

    initial, pretrained = config.train.initial_weights, config.model.pretrained
    notes = [] if initial is None else [load_initial(model, initial)]
    if pretrained is not None:
        mirror = config.model.pretrained_decoder
        notes.append(str(load_weights(model, pretrained, mirror=mirror)))
    return notes


def _train(trainer: Trainer, notes: list[str], provenance: Provenance, command: str) -> int:
    """Train, and tell the screen, log.txt and run.json about it; return the exit code."""
    from swin_unet.provenance import told
    from swin_unet.training.record import logger, logging_to, silent
    from swin_unet.training.results import finish
    from swin_unet.training.signals import Stopped

    folder = trainer.folder
    with ExitStack() as stack:
        outcome: dict[str, Any] = {}
        if trainer.world.is_first:
            outcome = stack.enter_context(told(provenance, folder / "run.json"))
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


def _build_data(
    config: Config, dataset: Dataset, split: Split, plane: Plane, device_type: str, world: World
) -> tuple[TaskData, Callable[[str], Any]]:
    """Cache the training slices and put a loader over them.

    Returns:
        What every task is given, and what reads a case by name.
    """
    from datasets.samples import build_samples, case_reader
    from datasets.slices import build_loader
    from swin_unet.imaging import Preprocessing
    from swin_unet.training.task import TaskData

    preprocessing = Preprocessing.from_config(config.data, plane)
    by_name = {case.name: case for case in dataset.cases}
    training = [by_name[name] for name in split.train]
    with world.first_of_machine_first():
        samples = build_samples(config, dataset, training, preprocessing, progress=world.is_first)
    loader, sampler = build_loader(
        samples,
        batch_size=config.train.batch_size,
        num_workers=config.train.num_workers,
        pin_memory=device_type == "cuda",
        foreground_fraction=config.data.foreground_fraction,
        num_replicas=world.size,
        rank=world.rank,
    )
    read_case = case_reader(dataset)
    for name in world.shard(split.val):  # a fault must show now, not after the first epoch
        read_case(name)
    data = TaskData(
        loader=loader,
        set_epoch=sampler.set_epoch,
        validation=split.val,
        test=split.test,
        preprocessing=preprocessing,
        num_channels=dataset.num_channels,
        classes=tuple(dataset.classes.values()) if config.task != "simmim" else (),
    )
    return data, read_case


def _find_data(config: Config, restart: Restart | None) -> tuple[Dataset, Split]:
    """List the data set, and take the resumed run's split, the configured one, or make one."""
    from datasets import build_dataset, load_split, make_pretraining_split, make_split
    from datasets.pretraining import without_labels

    dataset = build_dataset(config.data)
    learns_labels = config.task != "simmim"
    task_set = dataset if learns_labels else without_labels(dataset)
    if restart is not None:
        return task_set, load_split(restart.path.parent / "split.json", task_set.cases)
    make = make_split if learns_labels else make_pretraining_split
    return task_set, make(dataset, config)


def _facts(config: Config, dataset: Dataset, split: Split, world: World) -> dict[str, Any]:
    """Return what makes the run beside its configuration, for run.json and the checkpoints."""
    from datasets.cases import files_of
    from datasets.contents import hash_contents
    from swin_unet.provenance import hash_plain

    parts = {part: list(names) for part, names in asdict(split).items()}
    used = [case for case in dataset.cases if case.name in {*split.train, *split.val}]
    with world.first_of_machine_first():
        contents = hash_contents(
            files_of(dataset, used), config.data.cache_dir, progress=world.is_first
        )
    return {"split": parts, "split_hash": hash_plain(parts), "contents": contents}


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
