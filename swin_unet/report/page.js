// The page: what is chosen, and what follows from it.

const report = readBlock("report");
const byId = (id) => document.getElementById(id);
const state = {
  className: MEAN_CLASS,
  order: { key: "case", descending: false },
  number: null, volume: null, request: 0,
  plane: "axial", overlay: "prediction", outline: false,
  index: [0, 0, 0], counts: null, window: null, hidden: new Set(),
};

function caseRows() {
  const rows = report.cases.map((record, number) => ({
    record, number, values: record.error ? {} : valuesOf(record, state.className) }));
  return sortRows(rows, state.order);
}

function drawCaseTable() {
  fillCaseTable(byId("case-table"), caseRows(), state.order, state.number, sortBy, selectCase);
}

// Go up or down in the table as it is sorted, past cases that failed.
function stepCase(step) {
  const numbers = caseRows().filter((row) => !row.record.error).map((row) => row.number);
  const target = numbers[numbers.indexOf(state.number) + step];
  if (target === undefined) return;
  selectCase(target);
  document.querySelector("tr[aria-selected=true]").scrollIntoView({ block: "nearest" });
}

function sortBy(key) {
  const { order } = state;
  state.order = { key, descending: order.key === key && !order.descending };
  drawCaseTable();
  byId("case-table").querySelector(`th[data-key="${key}"] button`).focus();
}

async function selectCase(number) {
  if (number === state.number) return;
  const request = ++state.request;
  const record = report.cases[number];
  state.number = number;
  state.volume = null;
  state.hidden.clear();
  drawCaseTable();
  byId("viewer-title").textContent = record.name;
  fillClassTable(byId("class-table"), record, state.hidden, toggleClass);
  const say = (share) => {
    if (request === state.request) byId("progress").textContent = `Unpacking ${Math.round(100 * share)} %`;
  };
  try {
    const volume = await loadVolume(number, say);
    if (request === state.request) showVolume(volume, record);
  } catch (error) {
    if (request !== state.request) return;
    byId("progress").textContent = `The pictures cannot be unpacked by this browser: ${error}`;
  }
}

function showVolume(volume, record) {
  state.volume = volume;
  byId("progress").textContent = "";
  if (!record.has_reference && ["reference", "errors"].includes(state.overlay))
    state.overlay = "prediction";
  for (const input of byId("overlays").querySelectorAll("input")) {
    input.disabled = !record.has_reference && ["reference", "errors"].includes(input.value);
    input.checked = input.value === state.overlay;
  }
  chooseFirstPlane(volume);
  fillWindows(volume);
  byId("storage").textContent = describeStorage(volume);
  recount();
  state.index = state.counts.map(indexOfLargest);
  showPlane();
}

// Start with the plane across the widest spacing, in which the volume was made.
function chooseFirstPlane(volume) {
  const keys = Object.keys(PLANES);
  const size = (key) => volume.size[PLANES[key].axis];
  const pitch = (key) => volume.spacing_mm[PLANES[key].axis];
  const flat = keys.filter((key) => size(key) === 1);
  const widest = keys.reduce((a, b) => (pitch(b) > 1.2 * pitch(a) ? b : a));
  state.plane = flat[0] ?? widest;
  for (const input of byId("planes").querySelectorAll("input")) {
    input.disabled = flat.length > 0 && input.value !== state.plane;
    input.checked = input.value === state.plane;
  }
}

function describeStorage(volume) {
  const names = ["slices", "rows", "columns"];
  const reduced = volume.factors
    .map((factor, i) => (factor > 1 ? `${names[i]} to 1/${factor}` : null)).filter(Boolean);
  const fileShape = [];
  volume.file_axes.forEach(({ axis }, place) => (fileShape[axis] = volume.full_size[place]));
  const parts = [`${fileShape.join(" × ")} voxels`];
  parts.push(reduced.length ? `shown reduced: ${reduced.join(", ")}` : "shown at full resolution");
  if (volume.num_channels > 1) parts.push(`channel 1 of ${volume.num_channels}`);
  if (!volume.has_spacing) parts.push("voxel size and orientation unknown");
  return `${parts.join("; ")}.`;
}

function recount() {
  const mark = marker(state.volume, state.overlay, state.hidden);
  state.counts = countMarked(state.volume, mark);
}

function showPlane() {
  const { axis, sides } = PLANES[state.plane];
  byId("slice").max = state.volume.size[axis] - 1;
  byId("leaf").hidden = state.volume.size[axis] === 1;
  const isPlaced = state.volume.has_spacing; // pictures and arrays do not say what is left
  ["top", "right", "bottom", "left"].forEach((name, i) => {
    document.querySelector(`#stage .${name}`).textContent = isPlaced ? sides[i] : "";
  });
  byId("readout").textContent = "";
  draw();
}

function currentCut() {
  return cutSlice(state.volume, state.plane, state.index[PLANES[state.plane].axis]);
}

function draw() {
  if (!state.volume) return;
  const { axis, name } = PLANES[state.plane];
  const index = state.index[axis];
  const isErrors = state.overlay === "errors";
  drawSlice(byId("canvas"), state.volume, currentCut(), {
    ...state.window,
    mark: marker(state.volume, state.overlay, state.hidden),
    colour: isErrors ? (value) => ERRORS[value - 1].colour : colourOf,
    opacity: byId("opacity").valueAsNumber / 100,
    outline: state.outline,
  });
  const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  drawProfile(byId("profile"), state.counts[axis], index, accent);
  byId("slice").value = index;
  const text = `${index + 1} / ${state.volume.size[axis]}`;
  byId("position").textContent = text;
  byId("slice").setAttribute("aria-valuetext", text);
  byId("canvas").setAttribute("aria-label", `${name} slice ${text}, ${OVERLAYS[state.overlay]}`);
  byId("error-legend").hidden = !isErrors;
}

function nameOf(value) {
  if (value === 0) return "background";
  return report.classes.find((item) => item.value === value)?.name ?? String(value);
}

function toggleClass(value, isHidden) {
  if (isHidden) state.hidden.add(value);
  else state.hidden.delete(value);
  if (!state.volume) return;
  recount();
  draw();
}

function addRadios(fieldset, name, choices, chosen, onChoose) {
  for (const [value, text] of Object.entries(choices)) {
    const input = element("input", { type: "radio", name, value, checked: value === chosen,
      onchange: () => onChoose(value) });
    fieldset.append(element("label", {}, input, text));
  }
}

function addErrorLegend() {
  const items = ERRORS.map(({ name, colour }) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colour;
    return element("label", {}, swatch, name);
  });
  const legend = element("div", { id: "error-legend", className: "bar controls", hidden: true }, ...items);
  byId("leaf").after(legend);
}

function describeRun() {
  const count = report.cases.length;
  const failed = report.cases.filter((record) => record.error).length;
  const facts = report.provenance;
  const parts = [`${count} case${count === 1 ? "" : "s"}${failed ? `, ${failed} failed` : ""}`];
  if (facts.checkpoint) parts.push(facts.checkpoint);
  if (facts.started) parts.push(facts.started.replace("T", " ").replace("+00:00", " UTC"));
  byId("subtitle").textContent = parts.join(" · ");
  const protocols = {
    strict: "Protocol strict: HD95 in mm, a missed or invented class is penalised.",
    paper: "Protocol paper: for comparison with published Swin-Unet tables only.",
  };
  byId("protocol").textContent = protocols[report.protocol] ?? "";
}

function listen() {
  byId("class-select").onchange = (event) => {
    state.className = event.target.value;
    drawCaseTable();
  };
  byId("slice").oninput = (event) => moveTo(event.target.valueAsNumber);
  byId("slice").addEventListener("keydown", pressKey);
  byId("stage").addEventListener("keydown", pressKey);
  addEventListener("keydown", pressCaseKey);
  byId("stage").addEventListener("wheel", turnWheel, { passive: false });
  byId("canvas").addEventListener("pointermove", readOut);
  byId("canvas").addEventListener("pointerleave", () => (byId("readout").textContent = ""));
  byId("canvas").addEventListener("click", pickVoxel);
  byId("opacity").oninput = draw;
  byId("outline").onchange = (event) => {
    state.outline = event.target.checked;
    draw();
  };
  byId("window-select").onchange = (event) => {
    chooseWindow(Number(event.target.value));
    draw();
  };
  byId("low").onchange = byId("high").onchange = typeWindow;
  addEventListener("resize", draw);
}

function start() {
  const planes = Object.fromEntries(Object.entries(PLANES).map(([key, { name }]) => [key, name]));
  addRadios(byId("planes"), "plane", planes, state.plane, (value) => {
    state.plane = value;
    showPlane();
  });
  addRadios(byId("overlays"), "overlay", OVERLAYS, state.overlay, (value) => {
    state.overlay = value;
    if (value !== "none") recount();
    draw();
  });
  const names = report.classes.map(({ name }) => name);
  byId("class-select").append(
    element("option", { value: MEAN_CLASS, textContent: "all classes (mean)" }),
    ...names.map((name) => element("option", { value: name, textContent: name })));
  addErrorLegend();
  describeRun();
  if (report.summary) {
    byId("summary").hidden = false;
    fillSummary(byId("summary-table"), report.summary);
  }
  fillFacts(byId("settings"), report.settings);
  fillFacts(byId("provenance"), report.provenance);
  listen();
  drawCaseTable();
  const first = caseRows().find((row) => !row.record.error);
  if (first) selectCase(first.number);
  else byId("viewer").hidden = true;
}

start();
