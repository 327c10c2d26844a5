// What a live view needs of the browser: names for screen readers, a slider row that stays in view, the whole screen
// where it is asked for, and a sentence when the kernel is gone.

const PLAYER = ["Play the training", "Stop playing", "Repeat"];
const GONE = ["dead", "restarting", "autorestarting", "terminating"];
const STOPPED =
  "The kernel of this view has stopped: you see what it showed last, and nothing moves it. Run its cell again.";

const mark = (node, name, value) => {
  if (node && node.getAttribute(name) !== value) node.setAttribute(name, value);
};

// ipywidgets gives these no name, and tells only the eye which button is pressed
const name = (view) => {
  for (const box of view.querySelectorAll(".widget-slider")) {
    mark(box.querySelector("[role=slider]"), "aria-label", box.querySelector(".widget-label").textContent);
  }
  for (const player of view.querySelectorAll(".dk-play")) {
    player.querySelectorAll("button").forEach((button, index) => mark(button, "aria-label", PLAYER[index]));
  }
  for (const button of view.querySelectorAll(".widget-toggle-button, .widget-toggle-buttons button")) {
    mark(button, "aria-pressed", String(button.classList.contains("mod-active")));
  }
  // or JupyterLab takes the arrow keys of a list for its own, and goes to the next cell, and Notebook 7 those of a slider
  for (const control of view.querySelectorAll("select, .noUi-handle")) {
    mark(control, "data-lm-suppress-shortcuts", "true");
  }
  for (const words of view.querySelectorAll(".dk-said .widget-html-content")) mark(words, "aria-live", "polite");
};

// ipywidgets' sliders have no marks: one for each rank tells where the handle can stand
const tick = (view) => {
  for (const base of view.querySelectorAll(".dk-slider .noUi-base")) {
    if (base.querySelector(".dk-ticks")) continue;
    const handle = base.querySelector("[role=slider]");
    const [low, high] = ["min", "max"].map((end) => Number(handle?.getAttribute(`aria-value${end}`)));
    const marks = document.createElement("div");
    marks.className = "dk-ticks";
    marks.setAttribute("aria-hidden", "true");
    for (let at = low; high > low && at <= high; at += high - low < 16 ? 1 : high - low) {
      const mark = document.createElement("span");
      mark.textContent = at;
      mark.style.left = `${(100 * (at - low)) / (high - low)}%`;
      marks.append(mark);
    }
    base.append(marks);
  }
};

// a row sticks to the top of the notebook only if no box between them scrolls by itself
const unclip = (view) => {
  const cell = view.closest(".jp-Cell");
  for (let box = view; cell && box !== cell; box = box.parentElement) box.classList.add("dk-unclipped");
};

// the switch takes the whole screen where the page may; Escape leaves the view wide, the switch makes it small again
const fill = async (view, wide) => {
  try {
    if (wide) await view.requestFullscreen();
    else if (document.fullscreenElement === view) await document.exitFullscreen();
  } catch {
    // then it is as wide as the page
  }
};

// calls `then` with the view that the element is in, once it is in the page
const inView = (el, then, signal) => {
  const look = () => {
    const view = el.isConnected && el.closest(".dk-live-view");
    if (view) then(view);
    else if (!signal.aborted) setTimeout(look, 50);
  };
  look();
};

const render = ({ model, el }) => {
  const ended = new AbortController(), { signal } = ended;
  const kernel = model.widget_manager?.kernel;
  const observer = new MutationObserver(() => requestAnimationFrame(() => el.isConnected && settle()));
  let settle = () => {};
  el.classList.add("dk-browser-side");

  inView(
    el,
    (view) => {
      settle = () => {
        name(view);
        tick(view);
      };
      settle();
      unclip(view);
      observer.observe(view, { subtree: true, childList: true, attributeFilter: ["class"] });
      const pressed = (event) => {
        const button = event.target.closest(".dk-wide");
        if (button?.closest(".dk-live-view") === view) fill(view, button.classList.contains("mod-active"));
      };
      view.addEventListener("click", pressed, { signal });
    },
    signal,
  );

  const tell = () => {
    if (el.firstChild) return;
    const words = document.createElement("p");
    words.setAttribute("role", "alert");
    words.textContent = STOPPED;
    el.append(words);
  };
  const heard = (_, status) => {
    if (GONE.includes(status)) tell();
  };
  const disconnected = () => {
    if (el.classList.contains("jupyter-widgets-disconnected")) tell();
  };
  kernel?.statusChanged?.connect(heard);
  kernel?.disposed?.connect(tell);
  model.on("comm_live_update", () => setTimeout(disconnected));
  disconnected();

  return () => {
    ended.abort();
    observer.disconnect();
    kernel?.statusChanged?.disconnect(heard);
    kernel?.disposed?.disconnect(tell);
  };
};

export default { render };
