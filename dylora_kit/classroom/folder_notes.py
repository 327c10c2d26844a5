"""What a class folder says of itself: what is in it, and the commands that go with it."""

from collections.abc import Collection, Sequence

from dylora_kit.classroom.slide_deck import CONFIG_NAME, GET

FILES = """\
# The class

Made from {names} with `python -m dylora_kit class export`. Run the same command again after a change of the lessons: \
it replaces what it wrote, and stops before it touches a file that you changed.

| | for whom | what |
| --- | --- | --- |
| `student/` | the class | the notebooks, without outputs, hints and solutions |
| `student/hints.md` | the class, when someone is stuck | a hint for each exercise |
| `teacher/` | you | the notebooks with outputs, hints, answers and your notes; each exercise is solved |
| `teacher/solutions.md` | the class, afterwards | solutions, and answers to the questions at the end |
"""
SLIDES_ROW = "| `slides/` | you | a lesson as slides, with what you may say |\n"
PRINTED_ROWS = """\
| `hand-out.pdf` | the class | DyLoRA on one A4 page |
| `glossary.pdf` | the class | the words, on one A4 page |
"""
GRADING_ROW = "| `nbgrader/` | you | a course for nbgrader |\n"
PAGE_ROW = "| `page/index.html` | the class, without a kernel | the slider, the digits and a field to draw in |\n"
STUDENTS = """
## What a student runs

The kit, from a clone of its repository{address}, with Python 3.11 or newer. In the clone, once:

```bash
python3 -m venv .venv && .venv/bin/python -m pip install -q -r requirements.txt
```

And then, with the path of the folder that you gave out:

```bash
.venv/bin/python -m jupyterlab student/{first}.ipynb
```
"""
PAGES = """
## Slides

Open a file that ends in `.slides.html` in a browser. Arrow keys go on; down is more of the same step; *S* opens the \
speaker's window, with notes and the next slide. *F* fills the screen, 1920 by 1080 or larger."""
NOTEBOOKS = """
## Slides

`slides/` has notebooks whose cells are marked as slides."""
AGAIN = """
After a change of a slide's notebook, run this in `slides/`:

```bash
jupyter nbconvert --to slides --config {config} *.ipynb
```
"""
ONLINE = """
The pages load reveal.js from unpkg.com. Without internet they stay white. For slides that need none, run \
`{get}` where there is internet, and export again with `--reveal reveal`: \
the parts that are needed, about 300 kB, are copied beside the slides.
"""
OFFLINE = """
reveal.js lies beside the slides, so they need no internet. Its licence is in `slides/reveal.js/LICENSE`.
"""
GRADING = """
## nbgrader

In an environment that has the kit and nbgrader, and that is active (`source .venv/bin/activate`), run in `nbgrader/`:

```bash
nbgrader generate_assignment {first}    # release/: what you give out
nbgrader autograde {first}              # submitted/STUDENT/{first}/: what you got back
```

Each exercise gives one point. Its test is hidden in what you give out, so that a notebook runs through while \
exercises are empty; grading puts it back.
"""


def readme(files: Collection[str], lessons: Sequence[str], address: str | None) -> str:
    """The README of a class folder, which names what is in it.

    Arguments:
        files: their paths in the folder.
        lessons: the names of their notebooks.
        address: the repository's, if it has one.
    """
    inside = {name.split("/")[0] for name in files}
    names = "all lessons" if len(lessons) > 3 else ", ".join(f"`{name}.ipynb`" for name in lessons)
    text = FILES.format(names=names)
    text += SLIDES_ROW if "slides" in inside else ""
    text += PRINTED_ROWS if "hand-out.pdf" in inside else ""
    text += GRADING_ROW if "nbgrader" in inside else ""
    text += PAGE_ROW if "page" in inside else ""
    text += STUDENTS.format(first=lessons[0], address=f" ({address})" if address else "")
    if "slides" in inside:
        pages = any(name.endswith(".slides.html") for name in files)
        text += (PAGES if pages else NOTEBOOKS) + "\n" + AGAIN.format(config=CONFIG_NAME)
        text += OFFLINE if any("/reveal.js/" in name for name in files) else ONLINE.format(get=GET)
    return text + (GRADING.format(first=lessons[0]) if "nbgrader" in inside else "")
