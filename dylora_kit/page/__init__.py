"""A page that needs no kernel: the digits model and two adapters, run in the browser at every rank.

    python -m dylora_kit page FOLDER

The page is one file. Its parts are `index.html`, `page.css` and, in the order in which they run: `model.js`, the
network; `drawing.js`, strokes made into pixels; `answers.js`, what was read, a few milliseconds at a time;
`painting.js`, numbers made visible; `pad.js`, the field to draw in; `page.js`, what the visitor does.

In reading order:

- `curves`: the accuracy by rank as a picture, also for a browser without scripts
- `build`: the parts, the weights and the digits put into one file
"""
