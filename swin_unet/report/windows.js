// The display window: presets, or any two numbers.

function fillWindows(volume) {
  const options = volume.windows.map(({ name }, i) =>
    element("option", { value: i, textContent: name }));
  options.push(element("option", { value: "custom", textContent: "Custom", disabled: true }));
  const select = byId("window-select");
  const before = select.selectedOptions[0]?.textContent;
  select.replaceChildren(...options);
  chooseWindow(Math.max(0, volume.windows.findIndex(({ name }) => name === before)));
}

function chooseWindow(choice) {
  const { low, high } = state.volume.windows[choice];
  state.window = { low, high };
  byId("window-select").value = choice;
  byId("low").value = roundTo(low, high - low);
  byId("high").value = roundTo(high, high - low);
}

// Round a number to a thousandth of a width, or to a whole number where that is finer.
function roundTo(value, width) {
  const digits = 3 - Math.floor(Math.log10(width));
  return Number(value.toFixed(Math.max(0, Math.min(20, digits))));
}

function typeWindow() {
  const [low, high] = [byId("low").valueAsNumber, byId("high").valueAsNumber];
  const isValid = low < high;
  for (const id of ["low", "high"])
    byId(id).setCustomValidity(isValid ? "" : "from must be below to");
  if (!isValid) return void byId("high").reportValidity();
  state.window = { low, high };
  byId("window-select").value = "custom";
  draw();
}
