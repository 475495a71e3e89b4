// SPDX-License-Identifier: Apache-2.0
// Numbers as colours: the lowest dark violet, the highest yellow, the same in grey and for colour-blind eyes.

const STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const MOST_SAMPLES = 20000;

/**
 * RGBA by rank, so that a few numbers far from all others take no colours away from these.
 *
 * @param {ArrayLike<number>} values
 */
export function shades(values) {
  const step = Math.max(1, Math.floor(values.length / MOST_SAMPLES));
  const samples = Float32Array.from({ length: Math.ceil(values.length / step) }, (_, i) => values[i * step]).sort();
  const colors = new Uint8Array(4 * values.length);
  for (let i = 0; i < values.length; i++) {
    let [low, high] = [0, samples.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (samples[middle] < values[i]) low = middle + 1;
      else high = middle;
    }
    const place = (low / Math.max(1, samples.length - 1)) * (STOPS.length - 1);
    const stop = Math.min(Math.floor(place), STOPS.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [STOPS[stop][channel], STOPS[stop + 1][channel]];
      colors[4 * i + channel] = from + (place - stop) * (to - from);
    }
    colors[4 * i + 3] = 255;
  }
  return colors;
}
