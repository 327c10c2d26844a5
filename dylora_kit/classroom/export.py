"""All that a class needs, made from the notebooks of a clone: the contents of the folder that is exported."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dylora_kit.classroom import grading, slide_deck, versions
from dylora_kit.classroom.cells import Notebook, text_of
from dylora_kit.classroom.clone import Lesson, Written, exercises_of, lessons_of, notes_of
from dylora_kit.classroom.folder_notes import readme
from dylora_kit.classroom.glossary import glossary
from dylora_kit.classroom.hand_out import hand_out
from dylora_kit.classroom.sheet import packages_missing
from dylora_kit.classroom.slides import for_slides
from dylora_kit.lessons.repository_address import read_address

LONGEST = 200  # letters of an address: a QR code of a longer one is too fine for a phone


PAGE = "docs/index.html"  # the slider for any browser


@dataclass(frozen=True)
class Wishes:
    """What is to be exported.

    Arguments:
        lessons: their numbers; None is all.
        slides: whether slides are made, which takes about a second for each lesson.
        nbgrader: whether a course for nbgrader is made.
        page: the address of the page with the slider; None takes the one that follows from the repository's.
        reveal: a folder with reveal.js, for slides that need no network.
    """

    lessons: Sequence[str] | None = None
    slides: bool = True
    nbgrader: bool = False
    page: str | None = None
    reveal: Path | None = None


@dataclass(frozen=True)
class Made:
    """What an export writes.

    Attributes:
        contents: each file, by its path in the folder.
        remarks: a sentence for each thing that was left out, or that is to be looked at.
    """

    contents: dict[str, bytes]
    remarks: list[str]


def made(root: Path, wishes: Wishes) -> Made:
    """The contents of a class folder, from the notebooks of a clone; nothing is written.

    Arguments:
        root: as `clone_folder` gives it.

    Raises `ValueError` for a lesson that is not there or an exercise without a solution, and `FileNotFoundError` for a
    reveal.js that is none.
    """
    lessons = [(lesson, exercises_of(lesson)) for lesson in lessons_of(root, wishes.lessons)]
    address = read_address(root)
    page = page_address(wishes.page, address)
    contents: dict[str, bytes] = {}
    remarks: list[str] = []
    contents |= _notebooks(root, lessons, address, nbgrader=wishes.nbgrader)
    contents["student/hints.md"] = versions.hints(lessons).encode()
    contents["teacher/solutions.md"] = versions.solutions(lessons).encode()
    if wishes.slides:
        contents |= _slides(root, lessons, wishes.reveal, remarks)
    contents |= _printed(root, page, remarks)
    if (root / PAGE).is_file():
        contents["page/index.html"] = (root / PAGE).read_bytes()
    names = [lesson.name for lesson, _ in lessons]
    contents["README.md"] = readme(contents, lessons=names, address=address).encode()
    return Made(contents, remarks)


def page_address(wished: str | None, repository: str | None) -> str | None:
    """Where the page with the slider is: what was wished, or where GitHub puts the page of a repository, or None.

    Raises `ValueError` for a wish that is no address, or one that is too long for a QR code.

    >>> page_address(None, "https://github.com/you/your_repository")
    'https://you.github.io/your_repository/'
    """
    if wished is not None:
        if not re.fullmatch(r"https?://[^\s/]+\S*", wished) or len(wished) > LONGEST:
            raise ValueError(
                f"{wished!r} is no address for a QR code: expected one like https://example.org/page/, of at most "
                f"{LONGEST} letters"
            )
        return wished
    if repository is None:
        return None
    owner, name = repository.rsplit("/", 2)[-2:]
    return f"https://{owner.lower()}.github.io/{name}/"


def _notebooks(
    root: Path, lessons: Sequence[tuple[Lesson, list[Written]]], address: str | None, *, nbgrader: bool
) -> dict[str, bytes]:
    """The notebooks for students and teachers, and the sources for nbgrader, each with its images."""
    contents: dict[str, bytes] = {}
    together = [lesson for lesson, _ in lessons]
    for lesson, exercises in lessons:
        notes = notes_of(root, lesson.number)
        student = versions.for_students(lesson, together, address)
        teacher = versions.for_teachers(lesson, exercises, notes, together, address)
        contents |= _saved(root, student, "student", lesson.name)
        contents |= _saved(root, teacher, "teacher", lesson.name)
        if nbgrader:
            alone = versions.for_students(lesson, [lesson], address)
            source = grading.for_nbgrader(alone, exercises)
            contents |= _saved(root, source, f"nbgrader/source/{lesson.name}", lesson.name)
    if nbgrader:
        contents["nbgrader/nbgrader_config.py"] = grading.CONFIG.encode()
    return contents


def _slides(
    root: Path, lessons: Sequence[tuple[Lesson, list[Written]]], reveal: Path | None, remarks: list[str]
) -> dict[str, bytes]:
    """The slides as notebooks, as pages if nbconvert is installed, and what the pages load."""
    offline = reveal is not None
    config = json.dumps(slide_deck.nbconvert_config(offline=offline), indent=1) + "\n"
    contents = {
        f"slides/{slide_deck.CONFIG_NAME}": config.encode(),
        f"slides/{slide_deck.LOADER.name}": slide_deck.LOADER.read_bytes(),
    }
    if reveal is not None:
        contents |= {f"slides/{name}": content for name, content in slide_deck.reveal_files(reveal).items()}
    else:
        remarks.append(
            f"The slides load reveal.js from unpkg.com: for a room without internet, run {slide_deck.GET} "
            "and export with --reveal reveal."
        )
    pages = 0
    for lesson, exercises in lessons:
        notebook = for_slides(lesson, exercises, notes_of(root, lesson.number))
        contents |= _saved(root, notebook, "slides", lesson.name)
        page = slide_deck.deck(notebook, lesson.title, offline=offline)
        if page is not None:
            pages += 1
            contents[f"slides/{lesson.name}.slides.html"] = page.encode()
    if not pages:
        remarks.append("The slides are notebooks only: to have them as pages, install nbconvert and export again.")
    return contents


def _printed(root: Path, page: str | None, remarks: list[str]) -> dict[str, bytes]:
    """The two pages for paper, if what draws them is installed."""
    if missing := packages_missing():
        remarks.append(
            f"hand-out.pdf and glossary.pdf are left out: run python -m pip install {' '.join(missing)}, and export "
            "again."
        )
        return {}
    if page is None:
        remarks.append("hand-out.pdf has no QR code: to have one, name the address of the page with --page.")
    else:
        remarks.append(f"The QR code in hand-out.pdf leads to {page}: open it once before you print.")
    return {"hand-out.pdf": hand_out(root / "data" / "results", page), "glossary.pdf": glossary()}


def _saved(root: Path, notebook: Notebook, folder: str, name: str) -> dict[str, bytes]:
    """A notebook as a file, and the images that it shows."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    shown = _images(text_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    images = {f"{folder}/{image}": (root / "notebooks" / image).read_bytes() for image in shown}
    return {f"{folder}/{name}.ipynb": text.encode(), **images}


def _images(texts: Iterable[str]) -> set[str]:
    """The images of `notebooks/images` that texts show."""
    return {name for text in texts for name in re.findall(r"""(?:\]\(|src=["'])(images/[\w.-]+)""", text)}
