"""A lesson as slides: nothing is lost, nothing is too high, a guess comes before its answer."""

import base64
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest

from dylora_kit.classroom.cells import FOLD, text_of
from dylora_kit.classroom.clone import Lesson, Notes, exercises_of, lessons_of, notes_of
from dylora_kit.classroom.slide_deck import NEEDED, deck, nbconvert_config, reveal_files
from dylora_kit.classroom.slide_math import formula, with_formulas_drawn
from dylora_kit.classroom.slide_pieces import CLAIM_LINE, pieces_of
from dylora_kit.classroom.slides import STYLE, WAIT, for_slides
from dylora_kit.lessons.exercise import KITS_OWN_RUNS, NOT_DONE

ROOT = Path(__file__).parents[2]
LESSONS = lessons_of(ROOT)
SCREEN = 1080


@pytest.fixture(params=LESSONS, ids=lambda lesson: lesson.name)
def lesson(request: pytest.FixtureRequest) -> Lesson:
    return request.param


@pytest.fixture
def small(clone: Path) -> dict[str, Any]:
    """The slides of a small lesson."""
    (lesson,) = lessons_of(clone, ["03"])
    return for_slides(lesson, exercises_of(lesson), notes_of(clone, "03"))


def slides_of(lesson: Lesson) -> dict[str, Any]:
    return for_slides(lesson, exercises_of(lesson), notes_of(ROOT, lesson.number))


def kinds(notebook: dict[str, Any]) -> list[tuple[str, str]]:
    return [(cell["metadata"]["slideshow"]["slide_type"], text_of(cell)) for cell in notebook["cells"]]


def quiet(cell: dict[str, Any]) -> bool:
    """Whether a cell's code is folded in the lesson, or makes a box to guess in: the slide shows what it gave alone."""
    guesses = "A box for a guess" in json.dumps(cell["outputs"])
    return bool(cell["outputs"]) and (cell["metadata"].get("jupyter", {}).get("source_hidden", False) or guesses)


def words(text: str) -> set[str]:
    plain = re.sub(
        r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|<[^>]*>|\[([^\]]*)\]\([^)]*\)", r" \1 ", FOLD.sub("", text), flags=re.DOTALL
    )
    return set(re.findall(r"[A-Za-z]{3,}", plain))


def test_a_lesson_becomes_a_notebook_that_nbformat_accepts(lesson: Lesson) -> None:
    nbformat.validate(nbformat.reads(json.dumps(slides_of(lesson)), as_version=4))


def test_every_word_and_every_line_of_code_of_the_lesson_is_on_a_slide(lesson: Lesson) -> None:
    cells = [cell for cell in slides_of(lesson)["cells"] if cell["metadata"]["slideshow"]["slide_type"] != "notes"]
    written, code = (
        "\n".join(text_of(cell) for cell in cells if cell["cell_type"] == kind) for kind in ("markdown", "code")
    )
    for cell in lesson.notebook["cells"]:
        if cell["cell_type"] == "markdown":
            assert words(text_of(cell)) <= words(written)
        elif quiet(cell):
            assert text_of(cell) not in code
        else:
            assert text_of(cell) in code


def test_every_picture_is_on_a_slide_and_no_view_that_needs_a_kernel(lesson: Lesson) -> None:
    def pictures(cells: list[dict[str, Any]]) -> list[Any]:
        data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        return [
            each.get("image/png") or each.get("image/svg+xml")
            for each in data
            if {"image/png", "image/svg+xml"} & each.keys()
        ]

    slides = slides_of(lesson)
    assert pictures(slides["cells"]) == pictures(lesson.notebook["cells"])
    assert "jupyter.widget-view" not in json.dumps(slides)


def test_no_piece_is_higher_than_the_screen(lesson: Lesson) -> None:
    heights = {piece.cell["id"]: piece.height for piece in pieces_of(lesson, exercises_of(lesson))}
    assert max(heights.values()) < SCREEN, max(heights, key=lambda name: heights[name])


def test_the_goals_are_on_a_slide_below_the_one_with_the_title_and_its_picture(lesson: Lesson) -> None:
    shown = [(kind, text) for kind, text in kinds(slides_of(lesson)) if kind not in ("notes", "skip")]
    assert re.search(r"^# .*!\[.*images/lesson_\d\d\.svg", shown[0][1], re.MULTILINE | re.DOTALL)
    (place,) = (place for place, (_, text) in enumerate(shown) if "**You will be able to**" in text)
    assert "subslide" in [kind for kind, _ in shown[1 : place + 1]]


def test_a_picture_in_a_text_takes_its_height(clone: Path) -> None:
    (lesson,) = lessons_of(clone, ["03"])

    def height() -> float:
        return next(piece.height for piece in pieces_of(lesson, []) if "## 1. Cut" in text_of(piece.cell))

    with_picture = height()
    step = next(cell for cell in lesson.notebook["cells"] if "## 1. Cut" in text_of(cell))
    step["source"] = [line for line in step["source"] if "![" not in line]
    (limit,) = re.findall(r"img:not\(\.math\) \{[^}]* max-height: (\d+)px", STYLE.read_text())
    assert with_picture - height() >= int(limit)


def test_a_claim_takes_its_height(clone: Path) -> None:
    (lesson,) = lessons_of(clone, ["03"])
    cell = next(cell for cell in lesson.notebook["cells"] if text_of(cell) == "print(1 + 1)")
    heights = []
    for words in ("", "✓ short", "✓ long" + 40 * " words"):
        data = {"text/plain": words, "text/html": f'<div class="dk-claim">{words}</div>'}
        cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": data}] if words else []
        heights.append(next(piece.height for piece in pieces_of(lesson, []) if piece.cell["id"] == cell["id"]))
    assert [height - heights[0] for height in heights] == [0, CLAIM_LINE, 3 * CLAIM_LINE]


def test_slides_do_not_say_that_an_exercise_is_not_solved(lesson: Lesson) -> None:
    saved, shown = json.dumps(lesson.notebook), json.dumps(slides_of(lesson))
    assert all(words in saved and words not in shown for words in (NOT_DONE, KITS_OWN_RUNS))


def test_what_is_printed_does_not_break_inside_words_and_columns_stay_side_by_side() -> None:
    style = STYLE.read_text()
    (printed,) = re.findall(r"^\.reveal \.jp-OutputArea-output pre \{(.*)\}$", style, re.MULTILINE)
    assert "word-break: normal" in printed and "overflow-wrap: break-word" in printed
    assert ".celltag_printed-table " in style
    (seven,) = lessons_of(ROOT, ["07"])
    small = [cell for cell in slides_of(seven)["cells"] if "printed-table" in cell["metadata"].get("tags", [])]
    assert small and all("kind of module" in json.dumps(cell["outputs"]) for cell in small)


def test_what_follows_a_question_to_predict_is_on_the_next_slide(lesson: Lesson) -> None:
    shown = [(kind, text) for kind, text in kinds(slides_of(lesson)) if kind not in ("notes", "skip")]
    asked = [place for place, (_, text) in enumerate(shown) if "**Predict:**" in text]
    assert asked and all(shown[place + 1][0] in ("slide", "subslide") for place in asked)


def test_each_step_begins_a_slide(lesson: Lesson) -> None:
    steps = re.findall(r"^## .*$", "\n".join(text_of(cell) for cell in lesson.notebook["cells"]), re.MULTILINE)
    begun = [text.splitlines()[0] for kind, text in kinds(slides_of(lesson)) if kind == "slide"][1:]
    assert [re.sub(r"\W", "", line) for line in begun] == [re.sub(r"\W", "", line) for line in steps]


def test_every_note_for_instructors_is_said_somewhere(lesson: Lesson) -> None:
    notes = notes_of(ROOT, lesson.number)
    said = "\n".join(text for kind, text in kinds(slides_of(lesson)) if kind == "notes")
    assert notes.goal in said and WAIT in said
    for remark in notes.remarks:
        parts = re.findall(r"\([^)]*\)", remark) if remark.startswith("**Exercises:**") else [remark]
        assert [part for part in parts if part not in said] == []


def test_notes_stand_where_they_are_needed(small: dict[str, Any]) -> None:
    shown = kinds(small)
    said = {shown[place - 1][1].splitlines()[0]: text for place, (kind, text) in enumerate(shown) if kind == "notes"}
    assert "Rows get an order." in said["<style>"]
    assert "α/r instead of α/b" in said["## 1. Cut"] and "Three things change." in said["## 1. Cut"]
    assert '"A row is a row."' in said["## 2. Guess"] and "can be skipped" in said["## 2. Guess"]
    assert "Is it worth it?" in said["## What you measured"]


def test_answers_come_at_a_key_press_and_solutions_on_a_slide_of_their_own(small: dict[str, Any]) -> None:
    found = {text.split("\n")[0]: kind for kind, text in kinds(small)}
    assert found["**Answer.** In half of them."] == "fragment" and found["**2.** Why?"] == "fragment"
    assert found["**One way to solve 03.1**"] == "-"
    texts = [text.split("\n")[0] for _, text in kinds(small)]
    step = texts[texts.index("**One way to solve 03.1**") - 1]
    assert re.fullmatch('<div class="step">.+</div>', step) and found[step] == "subslide"
    assert found["import importlib.util"] == found["from dylora_kit import lessons"] == "skip"


def test_a_box_to_guess_in_asks_for_a_number_on_paper(lesson: Lesson) -> None:
    shown = json.dumps(slides_of(lesson), ensure_ascii=False)
    asked = json.dumps(lesson.notebook).count("A box for a guess (run the notebook to use it).")
    assert asked and shown.count("Write it down. ") == asked and "A box for a guess" not in shown


def test_a_slide_below_a_step_says_which_step_it_is_of(lesson: Lesson) -> None:
    title = ""
    for kind, text in kinds(slides_of(lesson)):
        title = text.removeprefix("## ").split("\n")[0] if text.startswith("## ") else title
        if kind == "subslide" and title:
            assert text == f'<div class="step">{title}</div>'


def test_the_speaker_is_told_the_minutes_that_the_exercise_says(lesson: Lesson) -> None:
    said = "\n".join(text for kind, text in kinds(slides_of(lesson)) if kind == "notes")
    for exercise in exercises_of(lesson):
        minutes = re.search(r"\d+ minutes", exercise.task)
        assert minutes and f"Exercise {exercise.number}, {minutes[0]}" in said


def test_a_lesson_without_notes_has_slides_too(clone: Path) -> None:
    (lesson,) = lessons_of(clone, ["00"])
    assert [kind for kind, _ in kinds(for_slides(lesson, [], Notes()))][:3] == ["slide", "skip", "skip"]


def test_links_to_other_lessons_are_words_since_a_slide_is_not_left(small: dict[str, Any]) -> None:
    assert "See lesson 00, lesson 01 and results." in "".join(text for _, text in kinds(small))


def test_every_formula_of_the_lessons_can_be_drawn(lesson: Lesson) -> None:
    for cell in lesson.notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = with_formulas_drawn(text_of(cell))
            assert "$" not in re.sub(r"```.*?```|`[^`]*`|<img[^>]*>", "", text, flags=re.DOTALL)


def test_a_formula_is_a_picture_with_its_text_and_code_is_left_alone() -> None:
    text = with_formulas_drawn("`$HOME` and $p_B$:\n\n$$\\frac{1}{b}$$")
    assert "`$HOME`" in text and 'alt="p_B"' in text and '<div class="formula">' in text
    (source,) = re.findall(r"base64,([^\"]+)", formula("x"))
    assert ElementTree.fromstring(base64.b64decode(source)).get("viewBox")


def test_what_a_picture_of_a_formula_takes_grows_with_it() -> None:
    def height(tex: str) -> float:
        return float(re.findall(r"height:([\d.]+)em", formula(tex))[0])

    assert 0.5 < height("x") < 1 < height(r"\frac{a}{b}") < 3


def test_the_deck_loads_nothing_but_what_lies_beside_it(small: dict[str, Any]) -> None:
    page = deck(small, "small", offline=True)
    assert page is not None
    loaded = re.findall(r"""<(?:script|link|img)[^>]*(?:src|href)=["']([^"']+)""", page)
    loaded += re.findall(r"""(?:import \w+ from|import\() ?['"]([^'"]+)""", page)
    assert loaded and not [address for address in loaded if re.match(r"https?:|//", address)]
    assert {"load.js", "reveal.js/dist/reveal.css", "reveal.js/dist/theme/white.css"} <= set(loaded)
    assert '"reveal.js/dist/reveal.js"' in page and page.count("<aside") >= 4


def test_without_a_local_copy_reveal_comes_from_one_version_on_one_server() -> None:
    assert re.fullmatch(r"https://unpkg\.com/reveal\.js@\d+\.\d+\.\d+", reveal_of(offline=False))
    assert reveal_of(offline=True) == "reveal.js"


def reveal_of(*, offline: bool) -> str:
    return nbconvert_config(offline=offline)["SlidesExporter"]["reveal_url_prefix"]


def test_a_local_reveal_is_copied_in_part_and_what_is_none_is_refused(tmp_path: Path) -> None:
    for name in (*NEEDED, "LICENSE", "dist/theme/black.css"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert set(reveal_files(tmp_path)) == {f"reveal.js/{name}" for name in (*NEEDED, "LICENSE")}
    with pytest.raises(FileNotFoundError, match=r"there is no dist/reveal\.css in .*: expected reveal\.js, as `pip"):
        reveal_files(tmp_path / "dist" / "theme")
