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
  byId("low").value = Number(low.toPrecision(6));
  byId("high").value = Number(high.toPrecision(6));
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
