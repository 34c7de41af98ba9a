"""Segment volumes: python infer.py --checkpoint RUN/best.pt --input FILE|DIR --output DIR."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_unet.cli import EXIT_PARTIAL, EXIT_USAGE, run
from swin_unet.config import UserError

if TYPE_CHECKING:
    from swin_unet.imaging.inputs import InputCase
    from swin_unet.inference import Segmenter
    from swin_unet.provenance import Provenance
    from swin_unet.training.distributed import World

# What run.json says of a case, and what was measured of it: its scores, its statistics.
Result = tuple[dict[str, Any], dict[str, Any] | None]


def main(argv: list[str]) -> int:
    """Segment as the command line says; return the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.backend is None:
        arguments.backend = "onnx" if arguments.checkpoint.suffix.lower() == ".onnx" else "torch"
    cases = _find_cases(arguments)  # before the seconds that importing torch takes
    from swin_unet.training.distributed import choose_own_device, joined

    with joined() as world:
        arguments.device = choose_own_device(arguments.device, world)
        arguments.bars = world.is_first
        return _run(arguments, cases, world)


def _run(arguments: argparse.Namespace, cases: list[InputCase], world: World) -> int:
    """Segment this process's share of the cases; the first process reports on all of them."""
    from swin_unet.class_inference import classify_cases, trained_task
    from swin_unet.files import make_folder
    from swin_unet.provenance import Provenance

    if trained_task(arguments.checkpoint, arguments.backend) == "classification":
        return classify_cases(arguments, cases, world)
    segmenter = _with_coarse(_load_segmenter(arguments), arguments.coarse)
    make_folder(arguments.output)
    provenance = Provenance(
        checkpoint=str(arguments.checkpoint.resolve()),
        classes=list(segmenter.classes),
        settings=_settings(segmenter, arguments),
        num_processes=world.size,
    )
    results = []
    for number, case in world.shard(list(enumerate(cases, start=1))):
        title = f"[{number}/{len(cases)}] {case.name}"
        results.append(_attempt(segmenter, case, arguments, title, len(cases) == 1))
    results = world.merge(results)
    outcomes = [outcome for outcome, _ in results]
    failed = [outcome["case"] for outcome in outcomes if "error" in outcome]
    if world.is_first:
        provenance.write(arguments.output / "run.json", cases=outcomes)
        _report(cases, results, provenance, arguments)
        if failed:
            names = ", ".join(failed)
            print(f"{len(failed)} of {len(cases)} cases failed: {names}", file=sys.stderr)
    if failed:
        return EXIT_PARTIAL if len(failed) < len(cases) else EXIT_USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="infer.py", description="Segment volumes.")
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="best.pt, last.pt or an .onnx export")
    input_help = "files, patterns or folders of volumes; FOLDER#SERIES for one DICOM series"
    add("--coarse", type=Path, help="checkpoint that finds where --checkpoint is to look")
    add("--input", type=Path, nargs="+", required=True, help=input_help)
    add("--output", type=Path, required=True, help="folder for the label maps")
    add(
        "--labels",
        type=Path,
        help="folder of reference label maps, or of a folder per class, to score against",
    )
    add("--protocol", choices=("strict", "paper"), default="strict", help="of the scores")
    add("--part", choices=("train", "val", "test"), help="only this part of the run's split.json")
    add("--statistics", action="store_true", help="write statistics.csv: volumes, parts, ...")
    add("--report", action="store_true", help="write report.html: look at every case, offline")
    backend_help = "what computes the network; by the ending of --checkpoint if not given"
    add("--backend", choices=("torch", "onnx"), help=backend_help)
    add("--fit", choices=("resize", "crop"), help="refuse a checkpoint of the other fit")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", choices=("fp32", "bf16", "fp16"), help="as trained if not given")
    add("--batch_size", type=_positive_integer, help="slices at a time; by device if not given")
    add("--overlap", type=_fraction, help="of sliding windows, in [0, 1); fit crop only")
    return parser


def _positive_integer(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1), not {value}")
    return value


def _find_cases(arguments: argparse.Namespace) -> list[InputCase]:
    """List the cases, checking the whole call before anything takes time."""
    from swin_unet.imaging.dicom import split_selector
    from swin_unet.imaging.inputs import find_cases, find_label, holds_classes

    cases = find_cases(arguments.input)
    if arguments.part is not None:
        cases = _select_part(cases, arguments.checkpoint.parent / "split.json", arguments.part)
    output = arguments.output.resolve()
    paths = [path for case in cases for path in case.paths]
    folders = {path.parent.resolve(): "the input" for path in paths}
    folders |= {split_selector(path)[0].resolve(): "the input" for path in paths}  # DICOM series
    folders[arguments.checkpoint.resolve().parent] = "the checkpoint"  # holds a run.json as well
    if arguments.labels is not None:
        folders[arguments.labels.resolve()] = "the labels"
    if output in folders:
        raise UserError(
            arguments.output,
            expected="an output folder of its own",
            found=f"the folder of {folders[output]}",
            fix="Choose another --output; files there would be overwritten.",
        )
    if arguments.labels is not None and not holds_classes(arguments.labels):
        for case in cases:
            find_label(arguments.labels, case)
    return cases


def _select_part(cases: list[InputCase], path: Path, part: str) -> list[InputCase]:
    """Keep the cases of one part of a split file."""
    from datasets.cases import read_json

    if not path.is_file():
        raise UserError(
            path,
            expected="the split.json of the run, beside the checkpoint",
            found="no such file",
            fix="Leave out --part, or give the checkpoint in its run folder.",
        )
    names = set(read_json(path).get(part, []))
    kept = [case for case in cases if case.name in names]
    if not kept:
        raise UserError(
            path,
            expected=f"cases of the {part} part among the inputs",
            found="none",
            fix="Give the folder that the run was trained on as --input.",
        )
    if len(kept) < len(names):
        print(f"{len(kept)} of {len(names)} {part} cases are among the inputs", file=sys.stderr)
    return kept


def _load_segmenter(arguments: argparse.Namespace) -> Segmenter:
    """Load the checkpoint and refuse options that do not apply to it."""
    from swin_unet.devices import choose_device, choose_precision
    from swin_unet.inference import Segmenter
    from swin_unet.onnx_backend import load_segmenter

    if arguments.precision is not None:
        choose_precision(arguments.precision, choose_device(arguments.device))
    load = load_segmenter if arguments.backend == "onnx" else Segmenter.load
    segmenter = load(
        arguments.checkpoint,
        device=arguments.device,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        overlap=arguments.overlap,
    )
    fit = segmenter.preprocessing.fit
    if arguments.fit not in (None, fit):
        raise UserError(
            arguments.checkpoint,
            expected=f"a checkpoint trained with fit {arguments.fit}",
            found=f"fit {fit}",
            fix=f"Leave out --fit, or train with --data.fit {arguments.fit}.",
        )
    if arguments.overlap is not None and fit != "crop":
        raise UserError(
            "--overlap",
            expected="no value for a checkpoint of fit resize",
            found=str(arguments.overlap),
            fix="Remove it: whole slices are resized, nothing slides.",
        )
    return segmenter


def _with_coarse(fine: Segmenter, path: Path | None) -> Segmenter:
    if path is None:
        return fine
    from swin_unet.two_stage import load_two_stage

    return load_two_stage(fine, path)


def _settings(segmenter: Segmenter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was used, whoever chose it, for run.json and the report."""
    return {
        "preprocessing": segmenter.preprocessing.to_dict(),
        "backend": arguments.backend,
        "device": str(segmenter.device),
        "precision": segmenter.precision,
        "batch_size": segmenter.batch_size or "by device",
        "overlap": segmenter.overlap if segmenter.preprocessing.fit == "crop" else None,
        "protocol": arguments.protocol,
        "coarse": None if arguments.coarse is None else str(arguments.coarse.resolve()),
    }


def _attempt(
    segmenter: Segmenter,
    case: InputCase,
    arguments: argparse.Namespace,
    title: str,
    is_only: bool,
) -> Result:
    """Segment a case; a fault of its files is reported and does not stop the others, if any."""
    import time

    started = time.monotonic()
    try:
        record = _segment(segmenter, case, arguments, title)
    except UserError as error:
        if is_only:
            raise
        print(f"{title}: error: {error}", file=sys.stderr)
        return {"case": case.name, "error": str(error)}, None
    seconds = time.monotonic() - started
    path = arguments.output / case.output_name
    print(f"{title}: {path} ({seconds:.1f} s)")
    return {"case": case.name, "output": str(path), "seconds": round(seconds, 2)}, record


def _segment(
    segmenter: Segmenter, case: InputCase, arguments: argparse.Namespace, title: str
) -> dict[str, Any]:
    """Read, segment and write a case; return what was asked to be measured of it."""
    from swin_unet.evaluation import score_volumes
    from swin_unet.imaging import read_image, read_labels, write_labels
    from swin_unet.imaging.inputs import find_label
    from swin_unet.statistics import describe_labels

    image = read_image(case.paths)
    reference = None
    if arguments.labels is not None:
        label_path = find_label(arguments.labels, case)
        reference = read_labels(label_path, segmenter.num_classes, like=image)
    prediction = segmenter.segment(image, progress=title if arguments.bars else None)
    write_labels(arguments.output / case.output_name, prediction.array, like=image)
    record: dict[str, Any] = {}
    classes = dict(enumerate(segmenter.classes, start=1))
    if arguments.statistics:
        spacing_mm = image.spacing_mm if image.has_spacing else None
        record["statistics"] = describe_labels(prediction.array, image.array, spacing_mm, classes)
    if reference is not None:
        record["metrics"] = score_volumes(
            prediction, reference, classes, protocol=arguments.protocol
        )
    return record


def _report(
    cases: list[InputCase],
    results: list[Result],
    provenance: Provenance,
    arguments: argparse.Namespace,
) -> None:
    """Write and print what was asked for beside the label maps."""
    from swin_unet.evaluation import print_table, summarize, write_metrics
    from swin_unet.report import write_run_report
    from swin_unet.statistics import write_statistics

    records = [{"case": outcome["case"], **record} for outcome, record in results if record]
    output, summary = arguments.output, None
    if arguments.labels is not None and records:
        summary = summarize(records, provenance.facts["classes"], arguments.protocol)
        write_metrics(summary, output)
        print_table(summary)
    if arguments.statistics:
        write_statistics(output / "statistics.csv", records)
    if arguments.report:
        path = write_run_report(
            output,
            cases,
            arguments.labels,
            outcomes=[outcome for outcome, _ in results],
            records=records,
            summary=summary,
            facts=provenance.facts,
        )
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
