// Where the pixels of a slice lie in a volume [S, H, W] whose axes run up, back and left.
// `axis` is the axis of the volume that the slider moves along.

const PLANES = {
  axial: { name: "Axial", axis: 0, sides: ["A", "L", "P", "R"] },
  coronal: { name: "Coronal", axis: 1, sides: ["S", "L", "I", "R"] },
  sagittal: { name: "Sagittal", axis: 2, sides: ["S", "P", "I", "A"] },
};

function cutSlice(volume, plane, index) {
  const [depth, height, width] = volume.size;
  const [depthMm, heightMm, widthMm] = volume.spacing_mm;
  const area = height * width;
  const top = (depth - 1) * area;
  return {
    axial: {
      start: index * area, down: width, right: 1,
      height, width, heightMm, widthMm,
      voxel: (row, column) => [index, row, column],
    },
    coronal: {
      start: top + index * width, down: -area, right: 1,
      height: depth, width, heightMm: depthMm, widthMm,
      voxel: (row, column) => [depth - 1 - row, index, column],
    },
    sagittal: {
      start: top + index, down: -area, right: width,
      height: depth, width: height, heightMm: depthMm, widthMm: heightMm,
      voxel: (row, column) => [depth - 1 - row, column, index],
    },
  }[plane];
}

// Voxel [s, r, c] of the reduced volume -> indices into the file's array, as its reader has them.
function fileIndices(volume, voxel) {
  const indices = [0, 0, 0];
  voxel.forEach((value, place) => {
    const factor = volume.factors[place];
    const { axis, reversed } = volume.file_axes[place];
    const full = value * factor + Math.floor(factor / 2);
    indices[axis] = reversed ? volume.full_size[place] - 1 - full : full;
  });
  return indices;
}

// How many voxels `isMarked` in each slice along each of the three axes.
function countMarked(volume, isMarked) {
  const [depth, height, width] = volume.size;
  const counts = [depth, height, width].map((size) => new Float64Array(size));
  for (let s = 0, i = 0; s < depth; s++)
    for (let r = 0; r < height; r++)
      for (let c = 0; c < width; c++, i++)
        if (isMarked(i)) {
          counts[0][s]++;
          counts[1][r]++;
          counts[2][c]++;
        }
  return counts;
}

function indexOfLargest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return values[best] > 0 ? best : Math.floor(values.length / 2);
}
