// Tables: the cases, sortable; the classes of a case; the means.

const COLUMNS = {
  dice: { name: "Dice", digits: 4 },
  hd95_mm: { name: "HD95 mm", digits: 2 },
  hd95_pooled_voxels: { name: "HD95 pooled, voxels", digits: 2 },
  surface_dice: { name: "Surface Dice", digits: 4 },
  precision: { name: "Precision", digits: 4 },
  recall: { name: "Recall", digits: 4 },
  volume_ml: { name: "Volume mL", digits: 2 },
  reference_volume_ml: { name: "Reference mL", digits: 2 },
  missed_ml: { name: "Missed mL", digits: 2 },
  invented_ml: { name: "Invented mL", digits: 2 },
  outcome: { name: "Outcome", digits: 0 },
  mean_intensity: { name: "Mean intensity", digits: 1 },
  std_intensity: { name: "Std intensity", digits: 1 },
  components: { name: "Components", digits: 0 },
  largest_component_share: { name: "Largest share", digits: 4 },
  touches_border: { name: "At border", digits: 0 },
};
const MEAN_CLASS = ""; // the mean over the classes

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function format(value, digits) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) && digits === 0 ? String(value) : value.toFixed(digits);
}

function meanOf(values) {
  const defined = values.filter((value) => typeof value === "number");
  return defined.length ? defined.reduce((a, b) => a + b) / defined.length : null;
}

// All that is known of a class in a case by column key; of all classes, the means.
function valuesOf(record, className) {
  if (className !== MEAN_CLASS) return valuesOfClass(record, className);
  const names = new Set(record.volumes.map((item) => item.name));
  for (const name of Object.keys(record.metrics ?? {})) names.add(name);
  const each = [...names].map((name) => valuesOfClass(record, name));
  const keys = new Set(each.flatMap((values) => Object.keys(values)));
  return Object.fromEntries([...keys].map((key) => [key, meanOf(each.map((v) => v[key]))]));
}

function valuesOfClass(record, className) {
  const item = record.volumes.find((entry) => entry.name === className);
  const measured = {};
  if (item && item.voxel_ml !== null) {
    const [predicted, wanted, common] = item.voxels;
    measured.volume_ml = predicted * item.voxel_ml;
    if (wanted !== undefined) {
      measured.reference_volume_ml = wanted * item.voxel_ml;
      measured.missed_ml = (wanted - common) * item.voxel_ml;
      measured.invented_ml = (predicted - common) * item.voxel_ml;
    }
  }
  return { ...measured, ...record.statistics?.[className], ...record.metrics?.[className] };
}

// The columns that some case has a value for, in order.
function columnsOf(rows) {
  return Object.keys(COLUMNS).filter((key) =>
    rows.some((row) => row.values[key] !== null && row.values[key] !== undefined));
}

function compareValues(a, b) {
  const missing = (value) => value === null || value === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b); // last in both directions
  return typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
}

function sortRows(rows, { key, descending }) {
  const value = (row) => (key === "case" ? row.record.name : row.values[key]);
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const isMissing = (v) => v === null || v === undefined;
    const sign = descending && !isMissing(x) && !isMissing(y) ? -1 : 1;
    return sign * compareValues(x, y) || a.number - b.number;
  });
}

// Fill the table of cases with sorted rows. `order` is {key, descending}; calls back on a click.
function fillCaseTable(table, rows, order, selected, onSort, onSelect) {
  const keys = columnsOf(rows);
  const heads = [["case", "Case"], ...keys.map((key) => [key, COLUMNS[key].name])];
  const head = element("tr", {}, ...heads.map(([key, name]) => {
    const cell = element("th", { scope: "col" },
      element("button", { type: "button", textContent: name, onclick: () => onSort(key) }));
    cell.dataset.key = key;
    const direction = order.descending ? "descending" : "ascending";
    cell.setAttribute("aria-sort", key === order.key ? direction : "none");
    return cell;
  }));
  const body = rows.map((row) => caseRow(row, keys, selected, onSelect));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

function caseRow(row, keys, selected, onSelect) {
  const { record, number } = row;
  if (record.error)
    return element("tr", {}, element("td", { textContent: record.name }),
      element("td", { className: "bad", colSpan: Math.max(1, keys.length),
        textContent: record.error }));
  const button = element("button", { type: "button", textContent: record.name });
  const line = element("tr", { onclick: () => onSelect(number) }, element("td", {}, button),
    ...keys.map((key) => element("td", {
      textContent: format(row.values[key], COLUMNS[key].digits) })));
  line.dataset.case = record.name;
  line.setAttribute("aria-selected", String(number === selected));
  return line;
}

// The classes of a case with their colours; a tick hides a class in the pictures.
function fillClassTable(table, record, hidden, onToggle) {
  const rows = record.volumes.map((item) => ({
    record, item, values: valuesOfClass(record, item.name) }));
  const keys = columnsOf(rows);
  const head = ["Class", ...keys.map((key) => COLUMNS[key].name)].map((name) =>
    element("th", { scope: "col", textContent: name }));
  const body = rows.map(({ item, values }) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colourOf(item.value);
    const tick = element("input", { type: "checkbox", checked: !hidden.has(item.value),
      onchange: (event) => onToggle(item.value, !event.target.checked) });
    const label = element("label", {}, tick, swatch, item.name);
    return element("tr", {}, element("td", {}, label), ...keys.map((key) =>
      element("td", { textContent: format(values[key], COLUMNS[key].digits) })));
  });
  table.replaceChildren(element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...body));
}

function fillSummary(table, summary) {
  const rows = [...Object.entries(summary.per_class), ["Mean of the classes", summary.mean]];
  const keys = Object.keys(COLUMNS).filter((key) => summary.mean[key] !== undefined);
  const counts = ["missed", "false_positive", "absent"];
  const head = ["Class", ...keys.map((key) => COLUMNS[key].name), "Missed", "Invented", "Absent"];
  const body = rows.map(([name, values]) => element("tr", {},
    element("td", { textContent: name }),
    ...keys.map((key) => element("td", { textContent: format(values[key], COLUMNS[key].digits) })),
    ...counts.map((key) => element("td", { textContent: format(values[key] ?? "", 0) }))));
  table.replaceChildren(
    element("thead", {}, element("tr", {}, ...head.map((name) =>
      element("th", { scope: "col", textContent: name })))),
    element("tbody", {}, ...body));
}

function fillFacts(list, facts, prefix = "") {
  for (const [key, value] of Object.entries(facts)) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      fillFacts(list, value, `${prefix}${key}.`);
      continue;
    }
    const text = String((Array.isArray(value) ? value.join(" ") : value) ?? "");
    list.append(element("dt", { textContent: prefix + key }),
      element("dd", { textContent: text || "–" }));
  }
}
