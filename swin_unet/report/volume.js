// Unpack a case: pictures to grey codes, label maps to typed arrays, all of size [S, H, W].

function readBlock(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}

async function loadVolume(number, onProgress) {
  const volume = readBlock(`case-${number}`);
  const [labels, codes] = await Promise.all([
    Promise.all(volume.labels.map((text, i) => inflateLabels(text, volume.label_bytes[i]))),
    decodePictures(volume, onProgress),
  ]);
  volume.codes = codes;
  volume.prediction = labels[0];
  volume.reference = labels[1] ?? null;
  delete volume.labels;
  delete volume.sprites;
  return volume;
}

async function inflateLabels(text, bytes) {
  const response = bytesOf(text).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(response).arrayBuffer();
  return bytes === 2 ? new Uint16Array(buffer) : new Uint8Array(buffer);
}

function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Blob([bytes]);
}

async function decodePictures(volume, onProgress) {
  const [depth, height, width] = volume.size;
  const codes = new Uint8Array(depth * height * width);
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  for (const [number, text] of volume.sprites.entries()) {
    const picture = new Image();
    picture.src = `data:image/webp;base64,${text}`;
    await picture.decode();
    canvas.width = picture.width;
    canvas.height = picture.height;
    context.drawImage(picture, 0, 0);
    const first = number * volume.slices_per_sprite;
    const count = Math.min(volume.slices_per_sprite, depth - first);
    for (let i = 0; i < count; i++) {
      const pixels = context.getImageData(0, i * volume.sprite_rows, width, height).data;
      const start = (first + i) * height * width;
      for (let p = 0; p < height * width; p++) codes[start + p] = pixels[4 * p];
    }
    onProgress((number + 1) / volume.sprites.length);
  }
  return codes;
}
