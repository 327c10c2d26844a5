"use strict";
// The field to draw in, with mouse, touch and keys. Points are [x, y], both from 0 to 1.

dylora.pad = (() => {
  const STEP = 1 / 16; // how far a key moves the pen
  const NEAR = 1 / 80; // a point closer to the last one than this is left out
  const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const within = (value) => Math.min(Math.max(value, 0), 1);
  const rounded = (point) => point.map((value) => value.toFixed(4)).join(" ");

  // a line through the points; that through one point is a dot
  const line = (stroke) => `M${stroke.map(rounded).join("L")}${stroke.length === 1 ? "h0" : ""}`;

  // makes a field of an SVG element; `changed` is called with the strokes whenever they are others
  const attach = (svg, changed) => {
    const ink = svg.querySelector(".ink"), pen = svg.querySelector(".pen");
    let strokes = [];
    let pointer = null; // the finger or mouse that draws
    let at = [0.5, 0.25], down = false; // the pen that keys move

    const paint = () => {
      ink.setAttribute("d", strokes.map(line).join(""));
      pen.setAttribute("cx", at[0]);
      pen.setAttribute("cy", at[1]);
      svg.classList.toggle("down", down);
    };
    const told = () => {
      paint();
      changed(strokes);
    };
    const add = (point) => {
      const stroke = strokes[strokes.length - 1], last = stroke[stroke.length - 1];
      if (Math.hypot(point[0] - last[0], point[1] - last[1]) < NEAR) return;
      stroke.push(point);
      told();
    };
    const clear = () => {
      strokes = [];
      down = false;
      told();
    };
    const pointOf = (event) => {
      const box = svg.getBoundingClientRect();
      return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
    };

    svg.addEventListener("pointerdown", (event) => {
      if (pointer !== null || event.button !== 0) return;
      pointer = event.pointerId;
      svg.setPointerCapture(pointer);
      down = false;
      strokes.push([pointOf(event)]);
      told();
    });
    svg.addEventListener("pointermove", (event) => {
      if (event.pointerId === pointer) add(pointOf(event));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      svg.addEventListener(end, (event) => {
        if (event.pointerId === pointer) pointer = null;
      });
    }
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (WAYS[event.key]) {
        at = at.map((value, axis) => within(value + STEP * WAYS[event.key][axis]));
        if (down) add(at);
        else paint();
      } else if (event.key === " ") {
        down = !down;
        if (down) strokes.push([at]);
        told();
      } else if (event.key === "Backspace" || event.key === "Delete") {
        clear();
      } else {
        return;
      }
      event.preventDefault();
    });
    paint();
    return { clear };
  };

  return { attach };
})();
