"use strict";
// What the visitor does: predicts, turns the rank, looks at other digits, draws one.

(() => {
  const { facts, adapters, image, total, ranks, softmax, digit } = dylora.model;
  const { answers, painting } = dylora;
  const { element, write, mark } = painting;
  const { names, everyRank } = answers;
  const SHOWN = 24;
  const CALLED = { dylora: "DyLoRA", lora: "plain LoRA" };
  const STATES = {
    empty: "Nothing is drawn yet. Draw one digit, as large as you like.",
    dot: "That is only a dot. Draw a whole digit.",
    blot: "That is more ink than digit. Clear the field, and draw it with one thin line.",
  };
  const find = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const slider = find("rank"), charts = all(".curves"), covers = all(".cover");

  let b = ranks;
  let firstShown = 0;
  let tiles = []; // { n, badges: by model }

  const percent = (name, rank) => Math.round((100 * facts.adapters[name].right[rank - 1]) / total);
  const rows = () => {
    if (b === ranks) return `whole: all ${ranks} rows`;
    return b === 1 ? "cut to its first row" : `cut to its first ${b} rows`;
  };

  const paintScores = () => {
    for (const node of all("[data-score]")) write(node, percent(node.dataset.score, b));
    for (const node of all("[data-b]")) write(node, b);
    for (const node of all("[data-scale]")) write(node, `${adapters.dylora.alpha} / ${b}`);
    write(find("b"), b);
    write(find("cut"), rows());
    const said = `DyLoRA reads ${percent("dylora", b)} of 100, the plain LoRA ${percent("lora", b)}`;
    mark(slider, "aria-valuetext", `${b} of ${ranks}: ${said}`);
    const numbers = adapters.dylora.layers.flatMap(({ query, value }) => [query.A, query.B, value.A, value.B]);
    const count = numbers.reduce((sum, matrix) => sum + matrix.length, 0);
    write(find("numbers"), ((count * b) / ranks).toLocaleString("en"));
    write(find("all-numbers"), count.toLocaleString("en"));
  };

  const paintMatrices = () => {
    for (const name of names) {
      const { query } = adapters[name].layers[0];
      const rgb = painting.colour(name);
      painting.strip(find(`strip-${name}`), query.A, ranks, rgb);
      painting.factors(find(`b-${name}`), find(`a-${name}`), query, ranks, rgb);
    }
  };

  // 64 pixels from 0 to 16, in the colour of ink
  const paintDigit = (canvas, pixels) => {
    painting.shade(canvas, image, Array.from(pixels, (ink) => ink / 16), painting.colour("ink"));
  };

  const makeTile = (n) => {
    const canvas = element("canvas", "");
    canvas.setAttribute("aria-hidden", "true");
    paintDigit(canvas, digit(n));
    const badges = Object.fromEntries(names.map((name) => [name, element("span", "badge", "…")]));
    const said = names.map((name) => {
      return element("span", `says ${name}`, element("span", "unseen", `, ${CALLED[name]}: `), badges[name]);
    });
    const what = element("span", "unseen", `a ${facts.labels[n]}`);
    return { n, badges, node: element("li", "tile", canvas, what, element("div", "both", ...said)) };
  };

  const makeTiles = () => {
    tiles = Array.from({ length: SHOWN }, (_, index) => makeTile((firstShown + index) % total));
    find("grid").replaceChildren(...tiles.map((tile) => tile.node));
    answers.show(tiles.map((tile) => tile.n));
  };

  const paintTiles = () => {
    const right = Object.fromEntries(names.map((name) => [name, 0]));
    for (const { n, badges } of tiles) {
      for (const name of names) {
        const said = answers.of(name, b, n), isRight = said === facts.labels[n];
        right[name] += isRight ? 1 : 0;
        write(badges[name], said === null ? "…" : `${said} ${isRight ? "✓" : "✗"}`);
        mark(badges[name], "class", said === null ? "badge" : isRight ? "badge right" : "badge wrong");
      }
    }
    const known = tiles.every(({ n }) => names.every((name) => answers.of(name, b, n) !== null));
    const tally = `At rank ${b}, of these ${SHOWN}: DyLoRA ${right.dylora}, plain LoRA ${right.lora}.`;
    write(find("tally"), known ? tally : "Reading …");
  };

  // the answer of one model to the drawing: the digit, ten bars, and a strip with the answer at every rank
  const makeReader = (name) => {
    const answer = element("span", "answer", "–");
    const bars = Array.from(adapters[name].classifier.bias, (_, value) => {
      const fill = element("i", "fill"), share = element("span", "share");
      const node = element("li", "", element("span", "value", value), element("span", "bar", fill), share);
      return { fill, share, node };
    });
    const cells = everyRank.map((rank) => {
      const said = element("b", "", "–");
      const node = element("li", "", said, element("small", "", element("span", "unseen", " at rank "), rank));
      return { rank, said, node };
    });
    const title = element("h3", "", element("i", "mark"), `${CALLED[name]}: `, answer);
    const strip = element("ol", "strip", ...cells.map((cell) => cell.node));
    strip.setAttribute("aria-label", `${CALLED[name]} at every rank`);
    const above = element("p", "above", "the answer at each rank:");
    const list = element("ol", "bars", ...bars.map((bar) => bar.node));
    const node = element("div", `reader ${name}`, title, list, above, strip);
    return { name, answer, bars, cells, node };
  };
  const readers = names.map(makeReader);

  const paintReaders = () => {
    for (const { name, answer, bars, cells } of readers) {
      const outputs = answers.drawn(name, b);
      const shares = outputs ? softmax(outputs) : bars.map(() => 0);
      write(answer, outputs ? answers.largest(outputs) : "–");
      bars.forEach(({ fill, share }, value) => {
        fill.style.transform = `scaleX(${shares[value]})`;
        write(share, outputs ? `${Math.round(100 * shares[value])} %` : "");
      });
      for (const { rank, said, node } of cells) {
        const there = answers.drawn(name, rank);
        write(said, there ? answers.largest(there) : "–");
        node.classList.toggle("on", rank === b);
      }
    }
    if (answers.drawnIsRead()) {
      const [first, second] = names.map((name) => answers.largest(answers.drawn(name, b)));
      write(find("state"), `At rank ${b} DyLoRA reads a ${first}, the plain LoRA a ${second}.`);
    }
  };

  const paintDrawing = (strokes) => {
    const drawn = dylora.drawing.read(strokes);
    const nothing = new Uint8Array(image * image);
    answers.draw(drawn.state === "digit" ? drawn.turned : null, b);
    if (drawn.state !== "digit") write(find("state"), STATES[drawn.state]);
    paintDigit(find("upright"), drawn.upright ?? nothing);
    paintDigit(find("turned"), drawn.turned ?? nothing);
    paintReaders();
  };

  const paintChecked = () => {
    const done = answers.checked(), count = names.length * ranks;
    const other = answers.different();
    const same = other ? `${other} of ${count} numbers differ` : `all ${count} numbers are the same`;
    write(find("checked"), `checked live: ${done} of ${total}${done === total ? `, ${same}` : ""}`);
  };

  const paintRank = () => {
    paintScores();
    painting.curves(charts, ranks, b);
    painting.dim(covers, ranks, b);
    paintTiles();
    paintReaders();
  };

  const turnTo = (rank) => {
    b = rank;
    slider.value = rank;
    answers.turn(rank);
    paintRank();
  };

  // frees the slider; a guess is shown beside the truth
  const reveal = (guess) => {
    document.body.classList.replace("asking", "revealed");
    charts.forEach((chart) => chart.removeAttribute("aria-hidden"));
    find("ask").hidden = true;
    slider.disabled = false;
    if (guess !== null) {
      turnTo(1);
      painting.guess(charts, ranks, guess / 100);
      const [nested, cut] = [percent("dylora", 1), percent("lora", 1)];
      const truth = `The plain LoRA reads ${cut} of 100, DyLoRA, after as many steps, ${nested}.`;
      write(find("verdict"), `Cut to the first row, you say ${guess}. ${truth}`);
    }
    slider.focus({ preventScroll: true });
  };

  const ask = () => {
    document.body.classList.add("asking");
    charts.forEach((chart) => chart.setAttribute("aria-hidden", "true"));
    find("skip").addEventListener("click", () => reveal(null));
    find("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = find("guess").value.trim(), guess = Number(text);
      const fits = text !== "" && Number.isInteger(guess) && guess >= 0 && guess <= 100;
      write(find("problem"), fits ? "" : "Type a whole number from 0 to 100, or skip.");
      if (fits) reveal(guess);
    });
  };

  // repaints what is read in the background, at most once for each picture of the screen
  let waiting = false;
  const repaint = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      paintTiles();
      paintReaders();
      paintChecked();
    });
  };

  const start = () => {
    all("[data-live]").forEach((node) => (node.hidden = false));
    find("readers").replaceChildren(...readers.map((reader) => reader.node));
    slider.max = ranks;
    slider.addEventListener("input", () => {
      turnTo(Number(slider.value));
    });
    find("others").addEventListener("click", () => {
      firstShown = (firstShown + SHOWN) % total;
      makeTiles();
      paintTiles();
    });
    let strokes = [];
    const pad = dylora.pad.attach(find("pad"), (drawn) => paintDrawing((strokes = drawn)));
    find("clear").addEventListener("click", () => pad.clear());
    const paintAll = () => {
      makeTiles();
      paintMatrices();
      turnTo(b);
      paintDrawing(strokes);
      paintChecked();
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintAll);
    ask();
    paintAll();
    answers.start(repaint);
  };
  start();
})();
