// The picture: a slice in grey, labels or errors over it.

// Okabe and Ito's colours without white, told apart by colour-blind readers too, then others.
const COLOURS = [
  "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ff4fd8",
  "#3cb44b", "#e6194b", "#4363d8", "#42d4f4", "#f032e6", "#bfef45", "#fabed4", "#9a6324",
];
const ERRORS = [
  { name: "missed", colour: "#56b4e9" },
  { name: "invented", colour: "#ff6d00" },
  { name: "confused classes", colour: "#f0e442" },
];
const OVERLAYS = { prediction: "Prediction", reference: "Reference", errors: "Errors", none: "None" };
const LONGEST_SIDE = 900; // of the drawing, in pixels

function colourOf(value) {
  if (value <= COLOURS.length) return COLOURS[value - 1];
  return hslToHex((value * 137.508) % 360); // golden angle: neighbours differ
}

function hslToHex(hue) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const level = 0.6 - 0.36 * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * level).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

// Grey levels of the 256 codes under a display window.
function greyLevels(table, low, high) {
  return Uint8ClampedArray.from(table, (value) => (255 * (value - low)) / (high - low));
}

// What is marked at a voxel: a label value, an error 1..3, or 0.
function marker(volume, overlay, hidden) {
  const { prediction, reference } = volume;
  const shown = (value) => (hidden.has(value) ? 0 : value);
  if (overlay === "prediction") return (i) => shown(prediction[i]);
  if (overlay === "reference") return (i) => shown(reference[i]);
  if (overlay === "none") return () => 0;
  return (i) => {
    const found = shown(prediction[i]);
    const wanted = shown(reference[i]);
    if (found === wanted) return 0;
    return found === 0 ? 1 : wanted === 0 ? 2 : 3;
  };
}

function makeCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function greyPicture(volume, cut, levels) {
  const canvas = makeCanvas(cut.width, cut.height);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(cut.width, cut.height);
  const pixels = picture.data;
  for (let y = 0, p = 0; y < cut.height; y++) {
    let i = cut.start + y * cut.down;
    for (let x = 0; x < cut.width; x++, i += cut.right, p += 4) {
      pixels[p] = pixels[p + 1] = pixels[p + 2] = levels[volume.codes[i]];
      pixels[p + 3] = 255;
    }
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

function overlayPicture(cut, mark, colour, outline) {
  const marks = new Uint16Array(cut.width * cut.height);
  for (let y = 0, p = 0; y < cut.height; y++) {
    let i = cut.start + y * cut.down;
    for (let x = 0; x < cut.width; x++, p++, i += cut.right) marks[p] = mark(i);
  }
  const canvas = makeCanvas(cut.width, cut.height);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(cut.width, cut.height);
  const cache = new Map();
  for (let p = 0; p < marks.length; p++) {
    const value = marks[p];
    if (value === 0 || (outline && !isEdge(marks, p, cut.width))) continue;
    if (!cache.has(value)) cache.set(value, channels(colour(value)));
    picture.data.set(cache.get(value), 4 * p);
    picture.data[4 * p + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

function isEdge(marks, p, width) {
  const value = marks[p];
  const column = p % width;
  return (
    column === 0 || column === width - 1 || p < width || p >= marks.length - width ||
    marks[p - 1] !== value || marks[p + 1] !== value ||
    marks[p - width] !== value || marks[p + width] !== value
  );
}

// Draw a slice in its true proportions.
function drawSlice(canvas, volume, cut, options) {
  const heightMm = cut.height * cut.heightMm;
  const widthMm = cut.width * cut.widthMm;
  const scale = LONGEST_SIDE / Math.max(heightMm, widthMm);
  canvas.width = Math.max(1, Math.round(widthMm * scale));
  canvas.height = Math.max(1, Math.round(heightMm * scale));
  const context = canvas.getContext("2d");
  const grey = greyPicture(volume, cut, greyLevels(volume.table, options.low, options.high));
  context.drawImage(grey, 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  context.globalAlpha = options.opacity;
  const labels = overlayPicture(cut, options.mark, options.colour, options.outline);
  context.drawImage(labels, 0, 0, canvas.width, canvas.height);
}

// Bars over the slider: how much is marked in each slice.
function drawProfile(canvas, counts, index, colour) {
  canvas.width = Math.max(1, canvas.clientWidth - 16);
  const context = canvas.getContext("2d");
  const largest = counts.reduce((a, b) => Math.max(a, b), 1);
  const step = canvas.width / counts.length;
  counts.forEach((count, i) => {
    const height = count ? Math.max(2, (canvas.height * count) / largest) : 0;
    context.fillStyle = colour;
    context.globalAlpha = i === index ? 1 : 0.45;
    context.fillRect(i * step, canvas.height - height, Math.max(1, step - 0.5), height);
  });
}
