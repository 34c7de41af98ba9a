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
    from swin_unet.provenance import Provenance
    from swin_unet.training.distributed import World


def main(argv: list[str]) -> int:
    """Segment as the command line says; return the exit code."""
    from swin_unet.batch.arguments import build_parser

    arguments = build_parser().parse_args(argv)
    if arguments.backend is None:
        is_export = arguments.checkpoint[0].suffix.lower() == ".onnx"
        arguments.backend = "onnx" if is_export else "torch"
    from swin_unet.batch.inputs import select_cases

    cases = select_cases(arguments)  # before the seconds that importing torch takes
    from swin_unet.training.distributed import choose_own_device, joined

    with joined() as world:
        arguments.device = choose_own_device(arguments.device, world)
        arguments.bars = world.is_first
        return _run(arguments, cases, world)


def _run(arguments: argparse.Namespace, cases: list[InputCase], world: World) -> int:
    """Segment this process's share of the cases; the first process reports on all of them."""
    from swin_unet.batch.load import load_segmenter
    from swin_unet.batch.record import check_same_settings, describe
    from swin_unet.batch.run import Work
    from swin_unet.class_inference import classify_cases, trained_task
    from swin_unet.files import make_folder, remove_leftovers
    from swin_unet.provenance import Provenance

    if trained_task(arguments.checkpoint[0], arguments.backend) == "classification":
        return classify_cases(arguments, cases, world)
    segmenter = load_segmenter(arguments)
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
        _report(cases, endings, work, provenance)
    return _exit_code(endings, world)


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
        endings.append(Ending.of(outcome, work.path(outcome.case), work.done))
        if world.is_first:
            _write_record(endings, work, provenance, finished=False)
        _tell(outcome, work)
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


def _report(
    cases: list[InputCase], endings: list[Ending], work: Work, provenance: Provenance
) -> None:
    """Write and print what was asked for beside the label maps."""
    from swin_unet.report import write_run_report
    from swin_unet.statistics import write_statistics

    arguments = work.arguments
    records = [
        {"case": ending.record["case"], **ending.measured} for ending in endings if ending.measured
    ]
    summary = _report_scores(records, work)
    if arguments.statistics:
        write_statistics(arguments.output / "statistics.csv", records)
    if arguments.report:
        path = write_run_report(
            arguments.output,
            cases,
            arguments.labels,
            outcomes=[ending.record for ending in endings],
            records=records,
            summary=summary,
            facts=provenance.facts,
        )
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def _report_scores(records: list[dict[str, Any]], work: Work) -> dict[str, Any] | None:
    """Write and print the scores, if there are any."""
    from swin_unet.evaluation import print_table, summarize, write_metrics

    arguments, classes = work.arguments, work.segmenter.classes
    if arguments.labels is None or not records:
        return None
    tolerance_mm = arguments.tolerance_mm
    summary = summarize(records, classes, arguments.protocol, tolerance_mm=tolerance_mm)
    write_metrics(summary, arguments.output)
    print_table(summary)
    return summary


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
