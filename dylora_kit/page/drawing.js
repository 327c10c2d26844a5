"use strict";
// A drawing made into pixels as the data set's were: a bitmap of 32 × 32, in which the ink of each 4 × 4 is counted.
// A drawing is a list of strokes, a stroke a list of points [x, y], both from 0 to 1.

dylora.drawing = (() => {
  const SIDE = 32, BLOCK = 4, CELLS = SIDE / BLOCK;
  const INK = 312; // pixels of 1,024 that are inked: nearly the same for all scans, whatever the digit
  const TALL = 27, WIDE = 19; // what the middle of the pen's line may span, so that the ink fills 8 rows and 6 columns
  const LEAST = 0.15; // a drawing of less height is not pulled to full height
  const DOT = 0.06; // a drawing that spans less than this is a dot
  const THINNEST = 0.8, THICKEST = 5.5; // of half the pen, in pixels

  const span = (values) => {
    const low = values.reduce((least, value) => Math.min(least, value), Infinity);
    const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
    return { middle: (low + high) / 2, length: high - low };
  };

  // the strokes in the middle of the bitmap and as large as scans are; wide drawings are squeezed, as scans were
  const fitted = (strokes, x, y) => {
    const down = TALL / Math.max(y.length, LEAST);
    const across = Math.min(down, WIDE / Math.max(x.length, 1e-9));
    const moved = ([px, py]) => [SIDE / 2 + (px - x.middle) * across, SIDE / 2 + (py - y.middle) * down];
    return strokes.map((stroke) => stroke.map(moved));
  };

  // the square of the distance of a point from the line between two others
  const distance = (x, y, [fromX, fromY], [toX, toY]) => {
    const dx = toX - fromX, dy = toY - fromY;
    const along = ((x - fromX) * dx + (y - fromY) * dy) / (dx * dx + dy * dy || 1);
    const part = Math.min(Math.max(along, 0), 1);
    return (x - fromX - part * dx) ** 2 + (y - fromY - part * dy) ** 2;
  };

  // for each pixel of the bitmap, the square of its distance from the nearest line, as far as the thickest pen reaches
  const distances = (strokes) => {
    const nearest = new Float64Array(SIDE * SIDE).fill(Infinity);
    const first = (a, b) => Math.max(Math.floor(Math.min(a, b) - THICKEST), 0);
    const last = (a, b) => Math.min(Math.ceil(Math.max(a, b) + THICKEST), SIDE - 1);
    for (const stroke of strokes) {
      stroke.forEach((to, n) => {
        const from = stroke[Math.max(n - 1, 0)];
        for (let row = first(from[1], to[1]); row <= last(from[1], to[1]); row++) {
          for (let column = first(from[0], to[0]); column <= last(from[0], to[0]); column++) {
            const at = row * SIDE + column;
            nearest[at] = Math.min(nearest[at], distance(column + 0.5, row + 0.5, from, to));
          }
        }
      });
    }
    return nearest;
  };

  // bitmap [32, 32] of distances, the reach of the pen → ink in each block [8, 8], from 0 to 16
  const counted = (nearest, reach) => {
    const cells = new Uint8Array(CELLS * CELLS);
    nearest.forEach((far, at) => {
      const row = Math.floor(at / SIDE), column = at % SIDE;
      if (far <= reach) cells[Math.floor(row / BLOCK) * CELLS + Math.floor(column / BLOCK)] += 1;
    });
    return cells;
  };

  // a quarter turn against the clock, as the digits of the test are turned: [8, 8] → [8, 8]
  const turned = (cells) => cells.map((_, at) => cells[(at % CELLS) * CELLS + CELLS - 1 - Math.floor(at / CELLS)]);

  // what is drawn: { state: "empty" | "dot" | "blot" | "digit" }, and of a digit its pixels, upright and turned
  const read = (strokes) => {
    const points = strokes.flat();
    if (!points.length) return { state: "empty" };
    const x = span(points.map(([px]) => px)), y = span(points.map(([, py]) => py));
    if (Math.max(x.length, y.length) < DOT) return { state: "dot" };
    const nearest = distances(fitted(strokes, x, y));
    const reach = nearest.slice().sort()[INK - 1]; // the pen is as thick as it has to be for that much ink
    if (reach < THINNEST ** 2) return { state: "blot" };
    const upright = counted(nearest, Math.min(reach, THICKEST ** 2));
    return { state: "digit", upright, turned: turned(upright) };
  };

  return { read };
})();
