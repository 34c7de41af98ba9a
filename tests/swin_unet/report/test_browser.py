"""The report in a headless Chromium, used by keys, clicks and wheel as a reader would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from swin_unet.report import ReportCase, Shown, write_report
from tests.browser import Browser

SHAPE = (40, 30, 21)  # in RAS
NONE = "\N{EN DASH}"
CLASSES = {1: "liver", 2: "spleen", 3: "cyst"}
SCORES = {"beta": 0.25, "alpha": 0.75, "gamma": None, "Delta 10": 0.5, "Delta 9": 0.125}


def body(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, prediction and reference of a case, in RAS."""
    generator = np.random.default_rng(len(name))
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    radius = np.sqrt(sum(grid**2 for grid in grids))
    image = np.where(radius < 0.9, 50 + 40 * grids[0] + 30 * grids[2], -1000)
    reference = np.zeros(SHAPE, np.uint8)
    reference[5:15, 6:20, 4:16] = 1
    reference[24:34, 10:18, 6:12] = 2
    prediction = np.roll(reference, (1, 2, 0), (0, 1, 2))
    prediction[30:32, 20:22, 9] = 3
    image += generator.normal(0, 5, SHAPE)
    return image.astype(np.int16), prediction, reference


def save(path: Path, array: np.ndarray, codes: str) -> Path:
    """Write an array given in RAS with its axes in another order and direction."""
    image = nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    nib.save(image.as_reoriented(turn), path)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of five cases in different orientations and one that failed."""
    folder = tmp_path_factory.mktemp("report")
    cases = []
    for (name, score), codes in zip(
        SCORES.items(), ("LPS", "RAS", "SAL", "PIR", "RAS"), strict=True
    ):
        image, prediction, reference = body(name)
        paths = [
            save(folder / f"{name}-{part}.nii", array, codes)
            for part, array in (("i", image), ("p", prediction), ("r", reference))
        ]
        metrics = {
            "liver": {"dice": score, "hd95_mm": None if score is None else 10 * score},
            "spleen": {"dice": score, "hd95_mm": 3.0},
        }
        reference_path = None if name == "gamma" else paths[2]
        cases.append(ReportCase(name, [paths[0]], paths[1], reference_path, metrics=metrics))
    cases.append(ReportCase("broken", error="broken.nii: expected a volume, found none. Mend it."))
    summary = {"protocol": "strict", "mean": {"dice": 0.5}, "per_class": {"liver": {"dice": 0.5}}}
    write_report(
        folder / "report.html",
        cases,
        Shown(CLASSES, window=(-125, 275)),
        summary=summary,
        settings={"preprocessing": {"fit": "resize", "image_size": [224, 224]}},
        provenance={"checkpoint": "RUN/best.pt", "git_commit": "0123abc"},
    )
    return folder / "report.html"


@pytest.fixture
def view(browser: Browser, page: Path) -> Browser:
    """The report, just opened, with its first case shown."""
    browser.problems.clear()
    browser.open(page)
    browser.wait_for("state.volume !== null")
    return browser


def select(view: Browser, name: str) -> None:
    view.click(f'tr[data-case="{name}"] button')
    view.wait_for(
        f"state.volume !== null && document.querySelector('#viewer-title').textContent === '{name}'"
    )


def picture(view: Browser) -> str:
    return str(view.evaluate("document.querySelector('#canvas').toDataURL()"))


def position(view: Browser) -> int:
    text = view.evaluate("document.querySelector('#position').textContent")
    return int(text.split(" / ")[0])


def column(view: Browser, key: str) -> list[str]:
    """Return a column of the table of cases as it stands."""
    keys = view.evaluate(
        "[...document.querySelectorAll('#case-table th')].map(cell => cell.dataset.key)"
    )
    rows = view.evaluate(
        "[...document.querySelectorAll('#case-table tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    index = keys.index(key)
    return [row[index] if index == 0 or len(row) == len(keys) else "error" for row in rows]


def colours(view: Browser) -> set[str]:
    """Return the colours of the picture that are not grey."""
    found = view.evaluate("""(() => {
        const canvas = document.querySelector('#canvas');
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const found = new Set();
        for (let i = 0; i < data.length; i += 4)
          if (data[i] !== data[i + 1] || data[i] !== data[i + 2])
            found.add([data[i], data[i + 1], data[i + 2]].join());
        return [...found];
    })()""")
    return set(found)


def test_it_opens_without_a_complaint_and_without_network(view: Browser) -> None:
    assert view.problems == []
    assert "6 cases, 1 failed · RUN/best.pt" in view.evaluate("document.body.innerText")
    assert "Protocol strict" in view.evaluate("document.querySelector('#protocol').textContent")
    facts = view.evaluate("document.querySelector('#about').textContent")
    assert "preprocessing.image_size224 224" in facts
    assert "git_commit0123abc" in facts


def test_complaints_and_requests_would_be_noticed(view: Browser) -> None:
    view.evaluate("console.error('wrong'); setTimeout(() => { throw new Error('thrown'); }, 0)")
    view.evaluate("fetch('https://example.invalid/').catch(() => 0)")
    view.wait_for("true")
    noticed = " ".join(view.problems)
    assert "wrong" in noticed
    assert "thrown" in noticed
    assert "example.invalid" in noticed


def test_every_control_has_a_name(view: Browser) -> None:
    nodes = view.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "combobox", "radio", "slider", "spinbutton", "image", "Canvas"}
    controls = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert len(controls) > 25
    for node in controls:
        assert node.get("name", {}).get("value"), node
    assert view.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ArrowUp", 11), ("ArrowRight", 11), ("ArrowDown", 9), ("ArrowLeft", 9),
        ("PageUp", 20), ("PageDown", 1), ("Home", 1), ("End", 21),
    ],
)  # fmt: skip
@pytest.mark.parametrize("focus", ["#stage", "#slice"])
def test_keys_leaf_through_the_slices(view: Browser, focus: str, key: str, expected: int) -> None:
    view.evaluate(f"moveTo(9), document.querySelector('{focus}').focus()")
    before = picture(view)
    view.press(key)
    assert position(view) == expected
    assert view.evaluate("document.querySelector('#slice').valueAsNumber") == expected - 1
    assert picture(view) != before
    assert view.problems == []


def test_keys_stop_at_both_ends(view: Browser) -> None:
    view.evaluate("document.querySelector('#stage').focus()")
    for key, expected in (("End", 21), ("ArrowUp", 21), ("PageUp", 21), ("PageDown", 11)):
        view.press(key)
        assert position(view) == expected
    for key in ("Home", "ArrowDown", "PageDown"):
        view.press(key)
        assert position(view) == 1


def test_the_slider_changes_the_picture(view: Browser) -> None:
    before = picture(view)
    view.click("#slice", x=0.2)
    first, there = position(view), picture(view)
    view.click("#slice", x=0.8)
    assert first < 8 < 14 < position(view)
    assert len({before, there, picture(view)}) == 3


def test_the_wheel_changes_the_slice_and_does_not_scroll(view: Browser) -> None:
    view.evaluate("moveTo(9)")
    view.hover("#canvas")
    scrolled = view.evaluate("scrollY")
    view.wheel("#canvas", -120)
    view.wait_for("state.index[0] > 9")
    there = position(view)
    view.wheel("#canvas", 120)
    view.wait_for(f"state.index[0] < {there - 1}")
    assert position(view) == 10
    assert view.evaluate("scrollY") == scrolled


@pytest.mark.parametrize("name", SCORES)
def test_all_planes_show_what_nibabel_reads(view: Browser, page: Path, name: str) -> None:
    """Radiological views: the patient's right on the left, anterior or superior up."""
    select(view, name)
    labels = nib.as_closest_canonical(nib.load(page.parent / f"{name}-p.nii"))
    array = np.asarray(labels.dataobj)  # x to the right, y to anterior, z to superior
    expected = {
        "axial": [array[::-1, ::-1, z].T for z in range(SHAPE[2])],
        "coronal": [array[::-1, ::-1, ::-1][:, y].T for y in range(SHAPE[1])],
        "sagittal": [array[::-1, ::-1, ::-1][x].T for x in range(SHAPE[0])],
    }
    for plane, slices in expected.items():
        view.click(f"input[value={plane}]")
        assert view.evaluate("state.plane") == plane
        last = len(slices) - 1
        for index in (0, len(slices) // 3, last):
            view.evaluate(f"moveTo({index})")
            shown = view.evaluate("""(() => {
                const cut = currentCut(), rows = [];
                for (let y = 0; y < cut.height; y++) {
                  rows.push([]);
                  for (let x = 0; x < cut.width; x++)
                    rows[y].push(state.volume.prediction[cut.start + y * cut.down + x * cut.right]);
                }
                return rows;
            })()""")
            np.testing.assert_array_equal(shown, slices[index], err_msg=f"{plane} {index}")
    assert view.problems == []


def test_the_plane_changes_the_picture_and_its_proportions(view: Browser) -> None:
    pictures, ratios = [], []
    for plane in ("axial", "coronal", "sagittal"):
        view.click(f"input[value={plane}]")
        pictures.append(picture(view))
        ratios.append(view.evaluate("canvas.width / canvas.height"))
        sides = view.evaluate(
            "[...document.querySelectorAll('#stage .side')].map(e => e.textContent)"
        )
        assert sides == {"axial": list("ALPR"), "coronal": list("SLIR")}.get(plane, list("SPIA"))
    assert len(set(pictures)) == 3
    assert ratios == pytest.approx([40 / 30, 40 / 42, 30 / 42], rel=0.01)


def test_opacity_goes_from_nothing_to_plain_colours(view: Browser) -> None:
    view.evaluate("document.querySelector('#opacity').focus()")
    view.press("Home")
    assert colours(view) == set()
    view.press("End")
    assert colours(view) == {"230,159,0", "86,180,233", "0,158,115"}
    view.press("PageDown")
    assert len(colours(view)) > 3


def test_the_outline_leaves_the_inside_free(view: Browser) -> None:
    count = "overlayPicture(currentCut(), marker(state.volume, 'prediction', new Set()), colourOf,"
    count = f"(flag => {count} flag).getContext('2d').getImageData(0, 0, 40, 30).data)"
    count = f"{count}(FLAG).reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0)"
    view.evaluate("moveTo(10)")
    assert view.evaluate(count.replace("FLAG", "false")) == 14 * 10 + 10 * 8
    assert view.evaluate(count.replace("FLAG", "true")) == (2 * 24 - 4) + (2 * 18 - 4)
    before = picture(view)
    view.click("#outline")
    assert picture(view) != before


def test_errors_are_those_of_the_label_maps(view: Browser) -> None:
    _, prediction, reference = body("beta")
    found, wanted = prediction[::-1, ::-1].T, reference[::-1, ::-1].T
    expected = np.select([found == wanted, found == 0, wanted == 0], [0, 1, 2], 3)
    view.click("input[value=errors]")
    marks = view.evaluate(
        "[...state.volume.prediction.keys()].map(marker(state.volume, 'errors', new Set()))"
    )
    np.testing.assert_array_equal(marks, expected.ravel())
    legend = view.evaluate("document.querySelector('#error-legend').innerText")
    assert re.findall(r"\w[\w ]+", legend) == ["missed", "invented", "confused classes"]
    view.evaluate("document.querySelector('#opacity').value = 100, moveTo(9)")
    assert colours(view) == {"86,180,233", "255,109,0"}
    view.click("input[value=none]")
    assert colours(view) == set()


def test_without_a_reference_there_are_no_errors_to_choose(view: Browser) -> None:
    view.click("input[value=errors]")
    select(view, "gamma")
    assert view.evaluate("state.overlay") == "prediction"
    disabled = "[...document.querySelectorAll('#overlays input:disabled')].map(e => e.value)"
    assert view.evaluate(disabled) == ["reference", "errors"]
    select(view, "beta")
    assert view.evaluate(disabled) == []


def test_a_class_can_be_hidden(view: Browser) -> None:
    view.evaluate("document.querySelector('#opacity').value = 100, moveTo(9)")
    assert "86,180,233" in colours(view)
    view.click("#class-table tbody tr:nth-child(2) input")
    assert colours(view) == {"230,159,0", "0,158,115"}


def test_volumes_are_those_of_the_files(view: Browser) -> None:
    rows = view.evaluate(
        "[...document.querySelectorAll('#class-table tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    _, prediction, reference = body("beta")
    index = {name: rows[0].index(name) for name in rows[0]}
    for value, name in CLASSES.items():
        row = rows[value]
        assert row[0] == name
        p, r = prediction == value, reference == value
        for title, mask in {
            "Volume mL": p, "Reference mL": r, "Missed mL": r & ~p, "Invented mL": p & ~r,
        }.items():  # fmt: skip
            assert row[index[title]] == f"{mask.sum() * 2 / 1000:.2f}"


def test_clicks_and_keys_sort_the_table(view: Browser) -> None:
    names = ["alpha", "beta", "broken", "Delta 9", "Delta 10", "gamma"]
    assert column(view, "case") == names
    view.click("th[data-key=case] button")
    assert column(view, "case") == names[::-1]
    view.click("th[data-key=dice] button")
    assert column(view, "dice") == ["0.1250", "0.2500", "0.5000", "0.7500", NONE, "error"]
    sort = "document.querySelector('th[data-key=dice]').ariaSort"
    assert view.evaluate(sort) == "ascending"
    view.press("Enter")  # the header keeps the focus
    assert column(view, "dice") == ["0.7500", "0.5000", "0.2500", "0.1250", NONE, "error"]
    assert view.evaluate(sort) == "descending"
    view.press("Tab")
    view.press(" ")
    assert view.evaluate("document.querySelector('th[data-key=hd95_mm]').ariaSort") == "ascending"
    assert view.problems == []


def test_the_scores_are_those_of_the_chosen_class(view: Browser) -> None:
    assert column(view, "hd95_mm")[:2] == ["5.25", "2.75"]  # the mean of both classes
    view.evaluate("document.querySelector('#class-select').focus()")
    view.press("ArrowDown")
    assert view.evaluate("state.className") == "liver"
    assert column(view, "hd95_mm")[:2] == ["7.50", "2.50"]


def test_cases_are_chosen_by_click_and_by_key(view: Browser) -> None:
    before = picture(view)
    view.evaluate("document.querySelector('tr[data-case=beta] button').focus()")
    view.press("Enter")
    view.wait_for("state.volume !== null && state.number === 0")
    assert picture(view) != before
    selected = "[...document.querySelectorAll('tr[aria-selected=true]')].map(r => r.dataset.case)"
    assert view.evaluate(selected) == ["beta"]
    assert "Mend it." in view.evaluate("document.querySelector('#case-table').textContent")


def test_keys_go_through_the_cases_as_sorted_past_those_that_failed(view: Browser) -> None:
    title = "document.querySelector('#viewer-title').textContent"
    assert view.evaluate(title) == "alpha"  # the first row
    view.evaluate("document.querySelector('#stage').focus()")
    for key, expected in (
        ("n", "beta"), ("n", "Delta 9"), ("n", "Delta 10"), ("n", "gamma"), ("n", "gamma"),
        ("p", "Delta 10"),
    ):  # fmt: skip
        view.press(key)
        assert view.evaluate(title) == expected
        view.wait_for("state.volume !== null")
    view.click("th[data-key=dice] button")
    view.press("p")
    assert view.evaluate(title) == "beta"
    view.evaluate("document.querySelector('#low').focus()")
    view.press("n")
    assert view.evaluate(title) == "beta"
    assert view.problems == []


def test_only_the_last_of_quick_choices_is_shown(view: Browser) -> None:
    view.evaluate("selectCase(1), selectCase(2), selectCase(3), 0")
    view.wait_for("state.volume !== null")
    same = "state.volume.sprites === undefined && state.number === 3"
    assert view.evaluate(same)
    assert view.evaluate("state.volume.windows.length > 5")
    assert view.evaluate("document.querySelector('#viewer-title').textContent") == "Delta 10"


def test_windows_by_preset_and_by_number(view: Browser) -> None:
    window = "[state.window.low, state.window.high]"
    choice = "document.querySelector('#window-select').selectedOptions[0].textContent"
    assert view.evaluate(choice) == "As the network sees it"
    assert view.evaluate(window) == [-125, 275]
    before = picture(view)
    view.evaluate("document.querySelector('#window-select').focus()")
    for _ in range(2):
        view.press("ArrowDown")
    assert view.evaluate(choice) == "Lung"
    lung = picture(view)
    view.evaluate("low.value = -1000; low.dispatchEvent(new Event('change'))")
    assert view.evaluate(choice) == "Custom"
    assert view.evaluate(window) == [-1000, 150]
    assert len({before, lung, picture(view)}) == 3
    view.evaluate("low.value = 500; low.dispatchEvent(new Event('change'))")
    assert view.evaluate(window) == [-1000, 150]


def test_the_picture_has_the_grey_of_the_image(view: Browser) -> None:
    """The middle of the body is 50 HU: in the window from -125 to 275 that is grey 111."""
    view.evaluate("document.querySelector('#opacity').value = 0, moveTo(10)")
    grey = view.evaluate("""(() => {
        const {width, height} = canvas;
        const box = canvas.getContext('2d').getImageData(width * .45, height * .45,
          width * .1, height * .1).data;
        return box.filter((_, i) => i % 4 === 0).reduce((a, b) => a + b) / (box.length / 4);
    })()""")
    assert grey == pytest.approx(255 * (50 + 125) / 400, abs=5)


@pytest.mark.parametrize("name", ["beta", "Delta 10"])
def test_the_pointer_reads_the_voxel_of_the_file(view: Browser, page: Path, name: str) -> None:
    select(view, name)
    image, prediction, reference = (
        np.asarray(nib.load(page.parent / f"{name}-{part}.nii").dataobj) for part in "ipr"
    )
    names = {0: "background", **CLASSES}
    for plane, x, y in (("axial", 0.3, 0.6), ("coronal", 0.71, 0.4), ("sagittal", 0.4, 0.55)):
        view.click(f"input[value={plane}]")
        view.hover("#canvas", 0.1, 0.1)
        view.hover("#canvas", x, y)
        text = view.evaluate("document.querySelector('#readout').textContent")
        numbers = re.match(r"voxel \((\d+), (\d+), (\d+)\)  ≈ (-?\d+) HU", text)
        assert numbers, text
        voxel = tuple(int(number) for number in numbers.groups()[:3])
        assert abs(int(numbers[4]) - image[voxel]) < 40
        assert f"prediction: {names[prediction[voxel]]}\n" in text
        assert text.endswith(f"reference: {names[reference[voxel]]}")


def test_a_click_takes_the_other_planes_along(view: Browser) -> None:
    view.evaluate("moveTo(12)")
    view.click("#canvas", 0.26, 0.76)
    assert view.evaluate("state.index") == [12, 22, 10]
    assert view.evaluate("document.activeElement.id") == "stage"


def test_a_single_slice_has_one_plane(browser: Browser, tmp_path: Path) -> None:
    image, prediction, _ = body("beta")
    paths = [
        save(tmp_path / f"{name}.nii", array[:, :, 10:11], "LPS")
        for name, array in (("i", image), ("p", prediction))
    ]
    case = ReportCase("single", [paths[0]], paths[1])
    write_report(tmp_path / "page.html", [case], Shown({}))
    browser.problems.clear()
    browser.open(tmp_path / "page.html")
    browser.wait_for("state.volume !== null")
    assert browser.evaluate("state.plane") == "axial"
    assert browser.evaluate("document.querySelectorAll('#planes input:disabled').length") == 2
    assert browser.evaluate("document.querySelector('#leaf').hidden")
    assert position(browser) == 1
    assert colours(browser)
    assert browser.problems == []


def test_a_picture_does_not_say_where_left_is(browser: Browser, tmp_path: Path) -> None:
    image, prediction, _ = body("beta")
    for name, array in (("i", np.clip(image, 0, 255)), ("p", prediction)):
        Image.fromarray(array[:, :, 10].T.astype(np.uint8)).save(tmp_path / f"{name}.png")
    case = ReportCase("picture", [tmp_path / "i.png"], tmp_path / "p.png")
    write_report(tmp_path / "page.html", [case], Shown({}))
    browser.problems.clear()
    browser.open(tmp_path / "page.html")
    browser.wait_for("state.volume !== null")
    letters = "[...document.querySelectorAll('#stage .side')].map(e => e.textContent).join('')"
    assert browser.evaluate(letters) == ""
    assert "orientation unknown" in browser.evaluate("document.querySelector('#storage').innerText")
    shown = browser.evaluate("[...state.volume.prediction]")
    np.testing.assert_array_equal(shown, prediction[:, :, 10].T.ravel())  # as the file has it
    assert browser.problems == []


def test_a_report_of_failures_only_opens(browser: Browser, tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", [ReportCase("a", error="Mend it.")], Shown({}))
    browser.problems.clear()
    browser.open(tmp_path / "page.html")
    assert "Mend it." in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelector('#viewer').hidden")
    assert browser.problems == []


def test_a_large_ct_stays_small_and_opens(browser: Browser, tmp_path: Path) -> None:
    """512 x 512 x 150 with prediction and reference: below 15 MB, noise and all."""
    generator = np.random.default_rng(0)
    shape = (512, 512, 150)
    image = np.full(shape, -1000, np.int16)
    labels = np.zeros(shape, np.uint8)
    y, x = np.ogrid[-1:1:512j, -1:1:512j]
    image[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40
    for value in range(1, 9):
        centre = generator.uniform(-0.5, 0.5, 2)
        labels[np.hypot(x - centre[0], y - centre[1]) < 0.15, 10 * value : 10 * value + 60] = value
    image += (10 * labels).astype(np.int16)
    noise = generator.normal(0, 25, (512, 512, 30)).astype(np.int16)
    image += np.concatenate([noise] * 5, axis=2)
    arrays: dict[str, Any] = {"i": image, "p": np.roll(labels, 4, axis=0), "r": labels}
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, np.diag([0.8, 0.8, 2.5, 1])), tmp_path / f"{name}.nii")
    paths = {name: tmp_path / f"{name}.nii" for name in arrays}
    case = ReportCase("large", [paths["i"]], paths["p"], paths["r"])
    write_report(tmp_path / "page.html", [case], Shown({}))
    size = (tmp_path / "page.html").stat().st_size
    assert 1_000_000 < size < 15_000_000
    browser.problems.clear()
    browser.open(tmp_path / "page.html")
    browser.wait_for("state.volume !== null")
    assert browser.evaluate("state.volume.size[0]") == 150
    before = picture(browser)
    browser.evaluate("document.querySelector('#stage').focus()")
    browser.press("PageUp")
    assert picture(browser) != before
    for plane in ("coronal", "sagittal"):
        browser.click(f"input[value={plane}]")
    browser.click("input[value=errors]")
    assert colours(browser)
    assert browser.problems == []
