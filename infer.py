"""Segment volumes: python infer.py --checkpoint RUN/best.pt --input FILE|DIR --output DIR."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING, Any

from swin_unet.cli import EXIT_FAILURE, EXIT_PARTIAL, EXIT_USAGE, run
from swin_unet.config import UserError

if TYPE_CHECKING:
    from swin_unet.batch.run import Work
    from swin_unet.batch.stream import Outcome
    from swin_unet.imaging.inputs import InputCase
    from swin_unet.inference import Segmenter

    Ending = Outcome[InputCase, dict[str, Any]]


def main(argv: list[str]) -> int:
    """Segment as the command line says; return the exit code."""
    from swin_unet.batch.arguments import build_parser

    arguments = build_parser().parse_args(argv)
    from swin_unet.batch.inputs import select_cases
    from swin_unet.files import make_folder, remove_leftovers

    cases = select_cases(arguments)  # before the seconds that importing torch takes
    segmenter = _load_segmenter(arguments)

    from swin_unet.batch.record import check_same_settings, describe
    from swin_unet.batch.run import Work

    facts = describe(segmenter, arguments)
    if arguments.skip_existing:
        check_same_settings(arguments.output, facts)
    make_folder(arguments.output)
    remove_leftovers(arguments.output)
    work = Work(segmenter, arguments, cases)
    return _report(_segment(cases, work, facts), work)


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


def _segment(cases: list[InputCase], work: Work, facts: dict[str, Any]) -> list[Ending]:
    """Take all cases through; run.json tells after each what is done."""
    from swin_unet.batch.stream import process
    from swin_unet.provenance import Provenance

    if work.arguments.protocol == "paper":
        print("Protocol: paper (splines in, nearest labels out), to compare with published numbers")
    provenance = Provenance(**facts)
    endings: list[Ending] = []
    for ending in process(cases, work.stages()):
        if isinstance(ending.error, UserError) and len(cases) == 1:
            raise ending.error
        _tell(ending, work)
        endings.append(ending)
        provenance.write(
            work.arguments.output / "run.json",
            finished=len(endings) == len(cases),
            cases=[_record(each, work) for each in endings],
        )
    return endings


def _tell(ending: Ending, work: Work) -> None:
    """Print how a case ended; what is no fault of the user with its traceback."""
    title = work.titles[ending.case.name]
    if ending.error is None:
        is_done = ending.case.name in work.done
        how = "there already" if is_done else f"{ending.seconds:.1f} s"
        print(f"{title}: {work.path(ending.case)} ({how})", flush=True)
        return
    if not isinstance(ending.error, UserError):
        traceback.print_exception(ending.error)
    print(f"{title}: error: {ending.error}", file=sys.stderr, flush=True)


def _record(ending: Ending, work: Work) -> dict[str, Any]:
    """Return what run.json says of a case."""
    if ending.error is not None:
        return {"case": ending.case.name, "error": str(ending.error) or repr(ending.error)}
    record = {"case": ending.case.name, "output": str(work.path(ending.case))}
    if ending.case.name in work.done:
        return {**record, "skipped": True}
    return {**record, "seconds": round(ending.seconds, 2)}


def _report(endings: list[Ending], work: Work) -> int:
    """Write and print the scores, if there are any; return the exit code."""
    from swin_unet.evaluation import print_table, summarize, write_metrics

    arguments = work.arguments
    records = [
        {"case": ending.case.name, "metrics": ending.result["metrics"]}
        for ending in endings
        if ending.result
    ]
    if records:
        classes, tolerance_mm = work.segmenter.classes, arguments.tolerance_mm
        summary = summarize(records, classes, arguments.protocol, tolerance_mm=tolerance_mm)
        write_metrics(summary, arguments.output)
        print_table(summary)
    failed = [ending for ending in endings if ending.error is not None]
    if not failed:
        return 0
    names = ", ".join(ending.case.name for ending in failed)
    print(f"{len(failed)} of {len(endings)} cases failed: {names}", file=sys.stderr)
    if len(failed) < len(endings):
        return EXIT_PARTIAL
    is_usage = all(isinstance(ending.error, UserError) for ending in failed)
    return EXIT_USAGE if is_usage else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
