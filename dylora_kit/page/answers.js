"use strict";
// What both models read: the drawing first, then the digits on show at the rank on show, then all at every rank.
// It is computed in slices of a few milliseconds, so that the slider never waits, and kept.

dylora.answers = (() => {
  const { adapters, facts, total, ranks, logits, digit } = dylora.model;
  const SLICE = 6, REST = 150; // milliseconds: of a slice, and how long a move of the slider holds the next one up
  const UNREAD = 255;
  const names = Object.keys(adapters);
  const everyRank = Array.from({ length: ranks }, (_, index) => index + 1);
  const perRank = (make) => Object.fromEntries(names.map((name) => [name, everyRank.map(make)]));

  const said = perRank(() => new Uint8Array(total).fill(UNREAD));
  const right = perRank(() => 0);
  const complete = new Uint8Array(total); // whether a digit is read at every rank
  let checked = 0;
  let onShow = [], shownRank = ranks;
  let drawing = null; // { outputs: logits by model and rank, work }
  let work = null; // on one test digit
  let running = false;
  let restUntil = 0;
  let tell = () => {};

  const largest = (values) => values.indexOf(Math.max(...values));

  // a model on one test digit at a rank; false if that was read before
  const readOnce = (name, b, n) => {
    if (said[name][b - 1][n] !== UNREAD) return false;
    said[name][b - 1][n] = largest(logits(name, b, digit(n)));
    right[name][b - 1] += said[name][b - 1][n] === facts.labels[n] ? 1 : 0;
    return true;
  };

  // both models on one test digit at every rank, a step at a time
  function* readDigit(n) {
    for (const b of everyRank) {
      for (const name of names) {
        if (readOnce(name, b, n)) yield;
      }
    }
    complete[n] = 1;
    checked += 1;
  }

  // one step towards the digits on show at the rank on show; false if they are read
  const readShown = () => onShow.some((n) => names.some((name) => readOnce(name, shownRank, n)));

  // both models on a drawing, at the rank on show first
  function* readDrawing(outputs, pixels, b) {
    for (const rank of [b, ...everyRank.filter((other) => other !== b)]) {
      for (const name of names) {
        outputs[name][rank - 1] = logits(name, rank, pixels);
        yield;
      }
    }
  }

  let next = 0; // digits below it are read
  const nextDigit = () => {
    const shown = onShow.find((n) => !complete[n]);
    if (shown !== undefined) return shown;
    while (next < total && complete[next]) next += 1;
    return next < total ? next : null;
  };

  // one step of what is wanted most; false if there is nothing left to do
  const step = () => {
    if (drawing && !drawing.done) {
      drawing.done = drawing.work.next().done;
      return true;
    }
    if (readShown()) return true;
    if (!work) {
      const n = nextDigit();
      if (n === null) return false;
      work = readDigit(n);
    }
    if (work.next().done) work = null;
    return true;
  };

  const slice = () => {
    const now = performance.now(), end = now + SLICE;
    if (now < restUntil) {
      setTimeout(slice, restUntil - now);
      return;
    }
    while (performance.now() < end) {
      if (!step()) {
        running = false;
        break;
      }
    }
    tell();
    if (running) setTimeout(slice);
  };
  const run = () => {
    if (running) return;
    running = true;
    setTimeout(slice);
  };

  return {
    largest,
    names,
    everyRank,
    // calls `told` after each slice
    start: (told) => {
      tell = told;
      run();
    },
    // the rank on show is another one; computes nothing for a moment, while the slider moves
    turn: (b) => {
      shownRank = b;
      restUntil = performance.now() + REST;
    },
    // reads these test digits before all others
    show: (digits) => {
      onShow = digits;
      run();
    },
    // reads 64 pixels, or forgets the drawing (null); what was read before is kept until it is read anew
    draw: (pixels, b) => {
      const before = drawing ? drawing.outputs : perRank(() => null);
      const outputs = Object.fromEntries(names.map((name) => [name, [...before[name]]]));
      drawing = pixels && { outputs, work: readDrawing(outputs, pixels, b), done: false };
      run();
    },
    // ten logits of the drawing, or null while they are not there
    drawn: (name, b) => (drawing ? drawing.outputs[name][b - 1] : null),
    drawnIsRead: () => drawing !== null && drawing.done,
    // what a model reads in a test digit, or null while it is not read
    of: (name, b, n) => (said[name][b - 1][n] === UNREAD ? null : said[name][b - 1][n]),
    checked: () => checked,
    // how many of all numbers, one for each model and rank, are not those that the page came with
    different: () => {
      const others = (name) => right[name].filter((count, index) => count !== facts.adapters[name].right[index]);
      return names.flatMap(others).length;
    },
  };
})();
