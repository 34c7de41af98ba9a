"""Rows, tables, plots and the page of a study, from made-up results."""

import csv
import io
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from swin_unet.ablation.execute import Executor
from swin_unet.ablation.output import write_results
from swin_unet.ablation.plan import PlannedRun
from swin_unet.ablation.results import Cost, case_means, collect
from swin_unet.ablation.study import Published, Setting, Study
from swin_unet.ablation.tables import csv_text, latex_text, markdown_text

CLASSES = ("liver", "spleen")
STUDY = Study("s", "Skips", (Setting("0", {}), Setting("3", {})), "3")


def summary(dice: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Make a summary as evaluation writes it, of Dice (cases, classes); NaN is undefined."""
    records = [
        {
            "case": f"c{number}",
            "metrics": {
                name: {"dice": None if np.isnan(value) else float(value), "hd95_mm": 4.0}
                for name, value in zip(CLASSES, row, strict=True)
            },
        }
        for number, row in enumerate(dice)
    ]
    means = np.nanmean(dice, axis=0)
    per_class = {
        name: {"dice": float(value), "hd95_mm": 4.0}
        for name, value in zip(CLASSES, means, strict=True)
    }
    mean = {"dice": float(means.mean()), "hd95_mm": 4.0}
    return {"classes": list(CLASSES), "cases": records, "mean": mean, "per_class": per_class}


@pytest.fixture
def scores() -> dict[str, np.ndarray[Any, Any]]:
    """Dice (seeds, cases, classes) of two settings."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.6, 0.9, (1, 12, 2)) + rng.normal(0, 0.01, (3, 12, 2))
    return {"0": base - 0.05 + rng.normal(0, 0.02, (3, 12, 2)), "3": base}


@pytest.fixture
def summaries(scores: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [{"best": summary(run), "last": summary(run - 0.1)} for run in runs]
        for name, runs in scores.items()
    }


def test_a_row_against_numpy_and_scipy(
    scores: dict[str, np.ndarray[Any, Any]], summaries: dict[str, list[dict[str, Any]]]
) -> None:
    rows = collect(summaries, {"0": 3, "3": 4}, {"0": Cost(parameters=7)}, "3")
    row, baseline = rows
    assert (row.setting, row.num_runs, row.num_planned, row.num_cases) == ("0", 3, 3, 12)
    assert baseline.num_planned == 4
    score = row.scores["best", "dice"]
    assert score.mean == pytest.approx(scores["0"].mean())
    assert score.deviation == pytest.approx(scores["0"].mean(axis=(1, 2)).std(ddof=1))
    assert score.per_class["spleen"] == pytest.approx(scores["0"][..., 1].mean())
    cases = {name: runs.mean(axis=(0, 2)) for name, runs in scores.items()}
    assert score.p_value == pytest.approx(wilcoxon(cases["0"], cases["3"]).pvalue)
    assert baseline.scores["best", "dice"].p_value is None
    assert score.low is not None
    assert score.high is not None
    assert score.low < cases["0"].mean() < score.high
    assert row.scores["last", "dice"].mean == pytest.approx(scores["0"].mean() - 0.1)
    assert row.cost.parameters == 7


def test_undefined_classes_are_left_out_of_a_case() -> None:
    dice = np.array([[0.5, np.nan], [0.7, 0.9]])
    means = case_means([{"best": summary(dice)}], "best", "dice")
    assert means == pytest.approx({"c0": 0.5, "c1": 0.8})


def test_a_setting_without_a_finished_run_has_no_row(
    summaries: dict[str, list[dict[str, Any]]],
) -> None:
    rows = collect({**summaries, "3": []}, {"0": 3, "3": 3}, {}, "3")
    assert [row.setting for row in rows] == ["0"]
    assert rows[0].scores["best", "dice"].p_value is None


def test_the_three_tables_say_the_same(summaries: dict[str, list[dict[str, Any]]]) -> None:
    published = Published("a paper", "synapse", {"3": {"mean": 0.79, "liver": 0.9}})
    study = Study("s", "Skips", STUDY.settings, "3", published)
    rows = collect(summaries, {"0": 3, "3": 4}, {}, "3")
    mean = f"{rows[0].scores['best', 'dice'].mean:.4f}"
    markdown, latex = markdown_text(study, rows, ["a note"]), latex_text(study, rows)
    assert f"| 0 | 3 | 12 | {mean} ± " in markdown
    assert "| 3 (baseline) | 3 of 4 | 12 |" in markdown
    assert "| 3, published (a paper) | 1 | 12 | 0.7900 |" in markdown
    assert "- a note" in markdown
    assert rf"0 & 3 & 12 & {mean} $\pm$ " in latex
    table = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert len(table) == 2 * 2 * 2
    assert float(table[0]["mean"]) == rows[0].scores["best", "dice"].mean
    assert table[0]["liver"] != table[0]["spleen"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.cells: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_a_study_folder(tmp_path: Path, train: Path, runs: list[PlannedRun]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from tests.swin_unet.ablation.conftest import STUDY as SKIPS

    Executor([sys.executable, str(train)], 4, lambda _: None).run(runs)
    networks = {str(skips): (10 + skips, 10**9 * (1 + skips)) for skips in range(4)}
    picture = tmp_path / "picture.png"
    folder = tmp_path / "study"
    folder.mkdir()
    assert write_results(folder, SKIPS, runs, networks, [], {})
    picture.write_bytes((folder / "dice.png").read_bytes())
    write_results(folder, SKIPS, runs, networks, ["all <else> equal"], {"case": picture})
    for name in ("dice.png", "classes.png", "macs.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    text = (folder / "index.html").read_text()
    page = _Page()
    page.feed(text)
    assert len(page.links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "0.6755 ± 0.0007" in page.cells
    assert "1.0" in page.cells  # minutes of training
    assert "all &lt;else&gt; equal" in text
    boards = sorted(path.name for path in (folder / "tensorboard").iterdir())
    assert boards == [f"{skips}-seed{seed}" for skips in range(4) for seed in (0, 1)]
    events = EventAccumulator(str(folder / "tensorboard" / boards[0])).Reload()
    assert events.Scalars("test/dice_best")[0].value == pytest.approx(0.525)
    assert "_hparams_/session_start_info" in events.summary_metadata
