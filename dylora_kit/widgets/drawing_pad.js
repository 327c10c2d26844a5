// The grid in which a picture is drawn, with mouse, touch and keys. Cells hold ink from 0 to 1, row by row. A sheet has a
// number, by which the kernel knows a stroke that comes after the sheet was taken away.

const PEN = 0.095; // half the width of the pen, in parts of the grid's width
const SHADES = 16; // as many as scans have
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const within = (value, most) => Math.min(Math.max(value, 0), most);

// how far a cell's middle is from the line between two points, all in cells
const distance = (row, column, [fromX, fromY], [toX, toY]) => {
  const x = column + 0.5 - fromX, y = row + 0.5 - fromY, dx = toX - fromX, dy = toY - fromY;
  const part = within((x * dx + y * dy) / (dx * dx + dy * dy || 1), 1);
  return Math.hypot(x - part * dx, y - part * dy);
};

const makeCells = (grid, rows, columns) => {
  const cells = [];
  for (let row = 0; row < rows; row++) {
    const line = document.createElement("div");
    line.setAttribute("role", "row");
    for (let column = 0; column < columns; column++) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = row || column ? -1 : 0; // one cell is reached by Tab, the others by arrows
      line.append(cell);
      cells.push(cell);
    }
    grid.append(line);
  }
  return cells;
};

const state = (ink) => (ink === 0 ? "empty" : ink === 1 ? "inked" : "grey");

const render = ({ model, el }) => {
  const rows = model.get("rows"), columns = model.get("columns"), pen = PEN * columns;
  const grid = document.createElement("div");
  grid.className = "dk-grid";
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-label", model.get("label"));
  grid.setAttribute("aria-multiselectable", "true");
  grid.dataset.lmSuppressShortcuts = "true"; // JupyterLab has uses of its own for arrows and space
  grid.style.setProperty("--columns", columns);
  const cells = makeCells(grid, rows, columns);
  let { number, cells: ink } = model.get("sheet");
  let at = 0; // the cell that keys are at
  let pointer = null, last = null; // the finger or mouse that draws, and where it was
  let waiting = false;

  const paint = () => {
    cells.forEach((cell, index) => {
      const where = `row ${Math.floor(index / columns) + 1}, column ${(index % columns) + 1}`;
      cell.style.setProperty("--ink", ink[index]);
      cell.setAttribute("aria-label", `${where}, ${state(ink[index])}`);
      cell.setAttribute("aria-selected", String(ink[index] >= 0.5));
    });
  };
  const send = () => {
    paint();
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      model.set("sheet", { number, cells: [...ink] });
      model.save_changes();
    });
  };
  const disabled = () => model.get("disabled");

  const pointOf = (event) => {
    const box = grid.getBoundingClientRect();
    return [
      within((columns * (event.clientX - box.left)) / box.width, columns),
      within((rows * (event.clientY - box.top)) / box.height, rows),
    ];
  };
  const stroke = (from, to) => {
    ink = ink.map((before, index) => {
      const far = distance(Math.floor(index / columns), index % columns, from, to);
      return Math.max(before, Math.round(SHADES * within(pen + 0.5 - far, 1)) / SHADES);
    });
    send();
  };
  grid.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0 || disabled()) return;
    pointer = event.pointerId;
    grid.setPointerCapture(pointer);
    last = pointOf(event);
    stroke(last, last);
    event.preventDefault();
  });
  grid.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const point = pointOf(event);
    stroke(last, point);
    last = point;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    grid.addEventListener(end, (event) => {
      if (event.pointerId === pointer) pointer = null;
    });
  }

  const go = (index) => {
    cells[at].tabIndex = -1;
    at = index;
    cells[at].tabIndex = 0;
    cells[at].focus();
  };
  grid.addEventListener("focusin", (event) => {
    const index = cells.indexOf(event.target);
    if (index >= 0 && index !== at) go(index);
  });
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = WAYS[event.key];
    if (way) {
      const column = within((at % columns) + way[0], columns - 1);
      const row = within(Math.floor(at / columns) + way[1], rows - 1);
      go(row * columns + column);
    } else if (event.key === " ") {
      if (!disabled()) {
        ink = ink.map((before, index) => (index !== at ? before : before < 0.5 ? 1 : 0));
        send();
      }
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });

  const follow = () => {
    const sheet = model.get("sheet");
    if (sheet.number !== number || (pointer === null && !waiting)) ({ number, cells: ink } = sheet);
    paint();
  };
  const rest = () => grid.setAttribute("aria-disabled", String(disabled()));
  model.on("change:sheet", follow);
  model.on("change:disabled", rest);
  paint();
  rest();
  el.append(grid);
};

export default { render };
