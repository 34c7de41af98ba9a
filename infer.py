"""Segment volumes: python infer.py --checkpoint RUN/best.pt --input FILE|DIR --output DIR."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING, Any

from swin_unet.cli import EXIT_FAILURE, EXIT_PARTIAL, EXIT_USAGE, run
from swin_unet.config import UserError

if TYPE_CHECKING:
    from swin_unet.batch.record import Ending
    from swin_unet.batch.run import Work
    from swin_unet.batch.stream import Outcome
    from swin_unet.imaging.inputs import InputCase
    from swin_unet.inference import Segmenter
    from swin_unet.provenance import Provenance
    from swin_unet.training.distributed import World


def main(argv: list[str]) -> int:
    """Segment as the command line says; return the exit code."""
    from swin_unet.batch.arguments import build_parser

    arguments = build_parser().parse_args(argv)
    from swin_unet.batch.inputs import select_cases

    cases = select_cases(arguments)  # before the seconds that importing torch takes
    from swin_unet.training.distributed import choose_own_device, joined

    with joined() as world:
        arguments.device = choose_own_device(arguments.device, world)
        arguments.bars = world.is_first
        return _run(arguments, cases, world)


def _run(arguments: argparse.Namespace, cases: list[InputCase], world: World) -> int:
    """Segment this process's share of the cases; the first process reports on all of them."""
    from swin_unet.batch.record import check_same_settings, describe
    from swin_unet.batch.run import Work
    from swin_unet.files import make_folder, remove_leftovers
    from swin_unet.provenance import Provenance

    segmenter = _load_segmenter(arguments)
    facts = describe(segmenter, arguments)
    if arguments.skip_existing:
        check_same_settings(arguments.output, facts)
    make_folder(arguments.output)
    if world.size == 1:  # of several, another one may be writing
        remove_leftovers(arguments.output)
    provenance = Provenance(**facts, num_processes=world.size)
    work = Work(segmenter, arguments, cases)
    endings = world.merge(_segment(world.shard(cases), work, provenance, world))
    if world.is_first:
        _write_record(endings, work, provenance, finished=True)
        _report_scores(endings, work)
    return _exit_code(endings, world)


def _load_segmenter(arguments: argparse.Namespace) -> Segmenter:
    """Load the checkpoint and refuse options that do not apply to it."""
    from swin_unet.inference import Segmenter

    segmenter = Segmenter(
        arguments.checkpoint,
        device=arguments.device,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        overlap=arguments.overlap,
        flips=arguments.flips,
        scales=arguments.scales,
        largest_component=arguments.largest_component,
        min_volume_mm3=arguments.min_volume_mm3,
        protocol=arguments.protocol,
    )
    fit = segmenter.preprocessing.fit
    if arguments.fit not in (None, fit):
        raise UserError(
            arguments.checkpoint[0],
            expected=f"a checkpoint trained with fit {arguments.fit}",
            found=f"fit {fit}",
            fix=f"Leave out --fit, or train with --data.fit {arguments.fit}.",
        )
    return segmenter


def _segment(
    cases: list[InputCase], work: Work, provenance: Provenance, world: World
) -> list[Ending]:
    """Take cases through; run.json tells after each what is done."""
    from swin_unet.batch.record import Ending
    from swin_unet.batch.stream import process

    if work.arguments.protocol == "paper" and world.is_first:
        print("Protocol: paper (splines in, nearest labels out), to compare with published numbers")
    endings: list[Ending] = []
    for outcome in process(cases, work.stages()):
        if isinstance(outcome.error, UserError) and work.num_cases == 1:
            raise outcome.error
        _tell(outcome, work)
        endings.append(Ending.of(outcome, work.path(outcome.case), work.done))
        if world.is_first:
            _write_record(endings, work, provenance, finished=False)
    return endings


def _tell(outcome: Outcome[InputCase, dict[str, Any]], work: Work) -> None:
    """Print how a case ended; what is no fault of the user with its traceback."""
    title = work.titles[outcome.case.name]
    if outcome.error is None:
        is_done = outcome.case.name in work.done
        how = "there already" if is_done else f"{outcome.seconds:.1f} s"
        print(f"{title}: {work.path(outcome.case)} ({how})", flush=True)
        return
    if not isinstance(outcome.error, UserError):
        traceback.print_exception(outcome.error)
    print(f"{title}: error: {outcome.error}", file=sys.stderr, flush=True)


def _write_record(
    endings: list[Ending], work: Work, provenance: Provenance, *, finished: bool
) -> None:
    path = work.arguments.output / "run.json"
    provenance.write(path, finished=finished, cases=[ending.record for ending in endings])


def _report_scores(endings: list[Ending], work: Work) -> None:
    """Write and print the scores, if there are any."""
    from swin_unet.evaluation import print_table, summarize, write_metrics

    arguments, classes = work.arguments, work.segmenter.classes
    records = [
        {"case": ending.record["case"], "metrics": ending.metrics}
        for ending in endings
        if ending.metrics is not None
    ]
    if records:
        tolerance_mm = arguments.tolerance_mm
        summary = summarize(records, classes, arguments.protocol, tolerance_mm=tolerance_mm)
        write_metrics(summary, arguments.output)
        print_table(summary)


def _exit_code(endings: list[Ending], world: World) -> int:
    failed = [ending for ending in endings if "error" in ending.record]
    if not failed:
        return 0
    if world.is_first:
        names = ", ".join(ending.record["case"] for ending in failed)
        print(f"{len(failed)} of {len(endings)} cases failed: {names}", file=sys.stderr)
    if len(failed) < len(endings):
        return EXIT_PARTIAL
    return EXIT_USAGE if all(ending.is_users for ending in failed) else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
