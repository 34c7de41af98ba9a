"""What a check found, for the screen and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from datasets.cases import PARTS
from datasets.facts import PERCENTILES, Channel
from datasets.fingerprint import fingerprint, format_fingerprint
from datasets.problems import Problem, count_severities, format_table
from datasets.splits import describe_split
from datasets.suggestions import Suggestions, format_suggestions
from datasets.survey import Survey
from swin_unet.config import Config, to_plain

_TITLES = {"error": "error", "warning": "warning", "info": "remark"}


@dataclass(frozen=True, eq=False)
class Report:
    """What a check found.

    Attributes:
        config: Of the training that is to come.
        problems: The gravest first.
        survey: None when no case could be listed.
        suggestions: Options, from the training cases.
    """

    config: Config
    problems: Sequence[Problem]
    survey: Survey | None = None
    suggestions: Suggestions = field(default_factory=Suggestions)

    @property
    def is_refused(self) -> bool:
        """Whether there is an error."""
        return any(problem.severity == "error" for problem in self.problems)


def to_json(report: Report) -> dict[str, Any]:
    """Return everything that was found as plain dicts, lists, numbers, strings and None."""
    survey, suggestions = report.survey, report.suggestions
    content: dict[str, Any] = {
        "refused": report.is_refused,
        "counts": count_severities(report.problems),
        "problems": [asdict(problem) for problem in report.problems],
        "data": to_plain(report.config)["data"],
    }
    if survey is None:
        return content
    split = survey.split
    return {
        **content,
        "split": None if split is None else {part: list(getattr(split, part)) for part in PARTS},
        "fingerprint": fingerprint(survey),
        "suggestions": {item.option: item.value for item in suggestions.options},
        "class_weights": suggestions.class_weights,
        "cases": [_case_to_json(survey, name) for name in survey.examinations],
    }


def _case_to_json(survey: Survey, name: str) -> dict[str, Any]:
    examination = survey.examinations[name]
    content: dict[str, Any] = {
        "case": name,
        "part": survey.parts.get(name),
        "images": [str(path) for path in examination.case.images],
        "labels": [str(path) for path in examination.case.labels],
    }
    if (image := examination.image) is not None:
        content |= {
            "shape": list(image.header.shape),
            "spacing_mm": list(image.header.spacing_mm) if image.has_spacing else None,
            "axes": image.codes,
            "dtype": str(image.header.dtype),
            "voxels_hash": image.digest,
            "channels": [_channel_to_json(channel) for channel in image.channels],
        }
    if examination.label is not None:
        content["class_voxels"] = examination.label.voxels.tolist()
    return content


def _channel_to_json(channel: Channel) -> dict[str, Any]:
    percentiles = {f"{q:g}": v for q, v in zip(PERCENTILES, channel.percentiles, strict=True)}
    return {"minimum": channel.minimum, "maximum": channel.maximum, "percentiles": percentiles}


def format_report(report: Report) -> str:
    """Lay a report out for the screen, what matters most at the end, where it is seen."""
    blocks = [format_overview(report)] if report.survey is not None else []
    if report.problems:
        blocks.append(format_table(report.problems, report.config.data.root))
    return "\n\n".join([*blocks, format_verdict(report)])


def format_overview(report: Report) -> str:
    """Lay out what the data are like, and what that suggests."""
    if report.survey is None:
        return "No case could be listed."
    blocks = [_headline(report.survey, report.config)]
    blocks.append(format_fingerprint(fingerprint(report.survey)))
    if report.suggestions.options:
        lines = format_suggestions(report.suggestions)
        blocks.append(f"Suggested for your configuration:\n\n{lines}")
    return "\n\n".join(blocks)


def _headline(survey: Survey, config: Config) -> str:
    count = _counted(len(survey.examinations), "case")
    if survey.split is None:
        return count
    parts = ", ".join(f"{len(survey.names(part))} {part}" for part in PARTS)
    return f"{count}: {parts}; {describe_split(survey.split, survey.dataset, config)}"


def format_verdict(report: Report) -> str:
    """Say how many problems there are and whether training would start."""
    counts = count_severities(report.problems).items()
    listed = ", ".join(_counted(count, _TITLES[severity]) for severity, count in counts)
    end = "Training would be refused." if report.is_refused else "Training can start."
    return f"{listed}. {end}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
