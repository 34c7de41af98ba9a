"""Train a Swin-UNet: python train.py --config synapse.yaml [--data.root DIR] [--output_dir RUN]."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_unet.cli import build_parser, parse_config, run
from swin_unet.config import Config, UserError, to_plain

if TYPE_CHECKING:
    from datasets import Dataset, Split
    from swin_unet.imaging import Plane
    from swin_unet.training.engine import Progress, Trainer
    from swin_unet.training.tasks import SegmentationData


def main(argv: list[str]) -> int:
    """Train as the command line says; return the exit code."""
    parser = build_parser("train.py", "Train a Swin-UNet on a folder of volumes and label maps.")
    parser.add_argument(
        "--resume", metavar="auto|PATH", help="Continue the run folder's last.pt, or this one."
    )
    config, arguments = parse_config(parser, argv)
    folder = config.output_dir
    assert folder is not None
    resume_path = _resume_path(folder, arguments.resume)

    from datasets import build_dataset
    from swin_unet.files import make_folder, remove_leftovers
    from swin_unet.provenance import Provenance

    dataset = build_dataset(config.data)
    split = _make_split(config, dataset, resume_path)
    make_folder(folder)
    provenance = Provenance(config=to_plain(config))
    # Whatever can be refused is refused here, before anything is written to the run folder.
    trainer, notes = _prepare(config, dataset, split, resume_path)
    remove_leftovers(folder)
    _start_run_folder(folder, config, split)
    provenance.write(folder / "run.json", finished=False)
    progress = _train(trainer, notes)
    provenance.write(folder / "run.json", finished=True, **vars(progress))
    return 0


def _prepare(
    config: Config, dataset: Dataset, split: Split, resume_path: Path | None
) -> tuple[Trainer, list[str]]:
    """Build everything from the configuration.

    Returns:
        The trainer, and what the log is to say about it.
    """
    from swin_unet.devices import choose_device, choose_precision
    from swin_unet.models import build_model, model_arguments
    from swin_unet.training.engine import Trainer, seed_everything
    from swin_unet.training.tasks import SegmentationTask

    folder = config.output_dir
    assert folder is not None
    device = choose_device(config.train.device)
    precision = choose_precision(config.train.precision, device)
    seed_everything(config.seed)
    in_channels = dataset.num_channels * config.data.context_slices
    description = model_arguments(config.model, in_channels, dataset.num_classes)
    model = build_model(description)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    notes = [
        f"{config.model.name}: {num_parameters:,} parameters on {device} in {precision}; "
        f"cases: {len(split.train)} train, {len(split.val)} val, {len(split.test)} test"
    ]
    if config.model.pretrained is not None and resume_path is None:
        from swin_unet.models.weights import load_weights

        notes.append(str(load_weights(model, config.model.pretrained)))
    plane, data_notes = _survey_data(config, dataset, split, resume_path)
    notes += data_notes
    data = _build_data(config, dataset, split, plane, device.type)
    task = SegmentationTask(model.to(device), data, config)
    trainer = Trainer(config, task, folder, model_description=description, precision=precision)
    if resume_path is not None:
        trainer.resume(resume_path)
        notes.append(f"resumed {resume_path} after epoch {trainer.progress.epoch}")
    return trainer, notes


def _train(trainer: Trainer, notes: list[str]) -> Progress:
    """Train, and tell screen and log.txt about it."""
    from swin_unet.training.record import logger, logging_to

    with logging_to(trainer.folder / "log.txt"):
        for note in notes:
            logger.info(note)
        progress = trainer.train()
        if progress.best_epoch:
            score, epoch = progress.best_score, progress.best_epoch
            logger.info(f"best validation Dice {score:.4f}, epoch {epoch}")
        logger.info(f"done: {trainer.folder / 'best.pt'}")
    return progress


def _survey_data(
    config: Config, dataset: Dataset, split: Split, resume_path: Path | None
) -> tuple[Plane, list[str]]:
    """Choose the plane of the slices, and look at a few label maps.

    Returns:
        The plane, and what the log is to say about the data.
    """
    from datasets import check_label_order, choose_plane, describe_split, pairing_table
    from datasets.cases import few

    notes = [pairing_table(dataset), *dataset.notes]
    if resume_path is None:
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
    config: Config, dataset: Dataset, split: Split, plane: Plane, device_type: str
) -> SegmentationData:
    """Cache the training slices and put a loader over them."""
    from datasets import load_case
    from datasets.slices import build_loader, build_slices
    from swin_unet.imaging import Preprocessing
    from swin_unet.training.tasks import SegmentationData

    preprocessing = Preprocessing.from_config(config.data, plane)
    by_name = {case.name: case for case in dataset.cases}
    training = [by_name[name] for name in split.train]
    slices = build_slices(config, dataset, training, preprocessing)
    loader, sampler = build_loader(
        slices,
        batch_size=config.train.batch_size,
        num_workers=config.train.num_workers,
        pin_memory=device_type == "cuda",
        foreground_fraction=config.data.foreground_fraction,
    )

    def load(name: str) -> tuple[Any, Any]:
        return load_case(by_name[name], dataset)

    for name in split.val:  # a fault must show now, not after the first epoch
        load(name)
    return SegmentationData(
        loader=loader,
        set_epoch=sampler.set_epoch,
        validation=split.val,
        load_case=load,
        preprocessing=preprocessing,
        num_channels=dataset.num_channels,
        classes=tuple(dataset.classes.values()),
    )


def _make_split(config: Config, dataset: Dataset, resume_path: Path | None) -> Split:
    """Take the resumed run's split, the configured one, or make a new one."""
    from datasets import load_split, make_split

    if resume_path is not None:
        return load_split(resume_path.parent / "split.json", dataset.cases)
    return make_split(dataset, config)


def _resume_path(folder: Path, resume: str | None) -> Path | None:
    """Decide what to resume; a folder that holds a run is only touched to continue that run."""
    last = folder / "last.pt"
    if resume == "auto":
        return last if last.exists() else None
    path = Path(resume) if resume else None
    if path is not None and not path.is_file():
        raise UserError(
            path,
            expected="a checkpoint to resume",
            found="no such file",
            fix="Give the path of a last.pt, or --resume auto.",
        )
    holds_run = last.exists() or (folder / "best.pt").exists()
    if holds_run and (path is None or path.resolve().parent != folder.resolve()):
        raise UserError(
            folder,
            expected="a new run folder",
            found="a run",
            fix="Add --resume auto to continue it, or choose another --output_dir.",
        )
    return path


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
