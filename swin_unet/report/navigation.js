// Moving through the slices, and what lies under the pointer.

function moveTo(index) {
  if (!state.volume) return;
  const { axis } = PLANES[state.plane];
  const last = state.volume.size[axis] - 1;
  state.index[axis] = Math.max(0, Math.min(last, index));
  draw();
}

function pressKey(event) {
  if (!state.volume || event.ctrlKey || event.altKey || event.metaKey) return;
  const { axis } = PLANES[state.plane];
  const index = state.index[axis];
  const target = {
    ArrowUp: index + 1, ArrowRight: index + 1, ArrowDown: index - 1, ArrowLeft: index - 1,
    PageUp: index + 10, PageDown: index - 10, Home: 0, End: state.volume.size[axis] - 1,
  }[event.key];
  if (target === undefined) return;
  event.preventDefault();
  moveTo(target);
}

function pressCaseKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches("select, input[type=number]")) return; // letters are theirs
  const step = { n: 1, p: -1 }[event.key];
  if (step) stepCase(step);
}

let wheelTravel = 0; // trackpads send many small steps
function turnWheel(event) {
  if (event.ctrlKey) return; // zooms the page
  event.preventDefault();
  wheelTravel += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 60 : event.deltaY;
  const steps = Math.trunc(wheelTravel);
  if (steps === 0) return;
  wheelTravel -= steps;
  moveTo(state.index[PLANES[state.plane].axis] - Math.max(-3, Math.min(3, steps)));
}

// The voxel [s, r, c] under the pointer, or null beside the picture.
function voxelAt(event) {
  const canvas = byId("canvas");
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const x = (event.clientX - box.left - (box.width - canvas.width * scale) / 2) / scale;
  const y = (event.clientY - box.top - (box.height - canvas.height * scale) / 2) / scale;
  const cut = currentCut();
  const column = Math.floor((x / canvas.width) * cut.width);
  const row = Math.floor((y / canvas.height) * cut.height);
  const inside = row >= 0 && column >= 0 && row < cut.height && column < cut.width;
  return inside ? cut.voxel(row, column) : null;
}

function readOut(event) {
  const { volume } = state;
  const voxel = volume && voxelAt(event);
  if (!voxel) return void (byId("readout").textContent = "");
  const [, height, width] = volume.size;
  const i = (voxel[0] * height + voxel[1]) * width + voxel[2];
  const value = volume.table[volume.codes[i]];
  const text = volume.is_hu ? `${Math.round(value)} HU` : Number(value.toPrecision(4));
  const lines = [`voxel (${fileIndices(volume, voxel).join(", ")})  ≈ ${text}`];
  lines.push(`prediction: ${nameOf(volume.prediction[i])}`);
  if (volume.reference) lines.push(`reference: ${nameOf(volume.reference[i])}`);
  byId("readout").textContent = lines.join("\n");
}

function pickVoxel(event) {
  const voxel = state.volume && voxelAt(event);
  byId("stage").focus({ preventScroll: true });
  if (!voxel) return;
  state.index = voxel;
  draw();
}
