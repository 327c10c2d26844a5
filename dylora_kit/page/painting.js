"use strict";
// Numbers made visible: shades on a canvas, texts, and the curves at a rank.

dylora.painting = (() => {
  const element = (tag, className, ...children) => {
    const made = document.createElement(tag);
    made.className = className;
    made.append(...children);
    return made;
  };

  // writes only what is new, so that nothing is laid out again for nothing
  const write = (node, text) => {
    if (node.textContent !== String(text)) node.textContent = text;
  };
  const mark = (node, name, value) => {
    if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  };

  // a colour of the style, such as "ink", as [red, green, blue]
  const colour = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  };

  // one pixel for each number from 0 (clear) to 1 (the colour), `columns` in a row
  const shade = (canvas, columns, shares, rgb) => {
    const picture = new ImageData(columns, shares.length / columns);
    shares.forEach((share, at) => picture.data.set([...rgb, 255 * share], 4 * at));
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").putImageData(picture, 0, 0);
  };

  // how strong each weight is, from 0 to 1; the root lets small ones be seen
  const strengths = (weights) => {
    const most = weights.reduce((largest, weight) => Math.max(largest, Math.abs(weight)), 0);
    return Array.from(weights, (weight) => Math.sqrt(Math.abs(weight) / most));
  };

  // A [r, in] as one line: its rows one after another, with a gap of a pixel on both sides of each
  const strip = (canvas, A, r, rgb) => {
    const shares = strengths(A), inner = A.length / r;
    const rows = Array.from({ length: r }, (_, k) => [0, ...shares.slice(k * inner, (k + 1) * inner), 0]);
    shade(canvas, r * (inner + 2), rows.flat(), rgb);
  };

  // B [out, r] and A [r, in] of a layer
  const factors = (canvasB, canvasA, { A, B }, r, rgb) => {
    shade(canvasB, r, strengths(B), rgb);
    shade(canvasA, A.length / r, strengths(A), rgb);
  };

  // dims the rows and columns beyond rank b, which are not read
  const dim = (covers, ranks, b) => {
    for (const node of covers) {
      node.style.transform = `${node.classList.contains("down") ? "scaleY" : "scaleX"}(${1 - b / ranks})`;
    }
  };

  // where rank b and a share from 0 to 1 are in a picture of the curves
  const place = (svg, ranks, b, share) => {
    const top = Number(svg.dataset.top), base = Number(svg.dataset.base);
    return [(svg.viewBox.baseVal.width * (b - 0.5)) / ranks, base - (base - top) * share];
  };

  const curves = (svgs, ranks, b) => {
    for (const svg of svgs) {
      mark(svg.querySelector(".at"), "transform", `translate(${place(svg, ranks, b, 0)[0]} 0)`);
      for (const node of svg.querySelectorAll("[data-rank]")) {
        node.classList.toggle("on", Number(node.dataset.rank) === b);
      }
    }
  };

  // a diamond at rank 1
  const guess = (svgs, ranks, share) => {
    for (const svg of svgs) {
      const node = svg.querySelector(".guess");
      mark(node, "transform", `translate(${place(svg, ranks, 1, share).join(" ")})`);
      node.classList.add("known");
    }
  };

  return { element, write, mark, colour, shade, strip, factors, dim, curves, guess };
})();
