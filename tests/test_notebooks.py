"""Guards for the notebooks: what nbval would let pass."""

import ast
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dylora_kit.lessons.repository_address import in_notebook, read_address, texts_with_address

ROOT = Path(__file__).parent.parent
EXAMPLE = "https://github.com/you/your_repository"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[Any]:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_the_file_is_valid_and_every_cell_has_an_id_of_its_own(notebook: Path) -> None:
    content = nbformat.read(notebook, 4)
    nbformat.validate(content)
    ids = [cell.get("id") for cell in content.cells]
    assert all(ids) and len(set(ids)) == len(ids)


def test_every_code_cell_was_executed_in_order_and_saved_without_an_error(notebook: Path) -> None:
    code = cells(notebook, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]


def test_checked_cells_have_an_output_to_check(notebook: Path) -> None:
    checked = [cell for cell in cells(notebook, "code") if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert checked
    assert all(cell.outputs for cell in checked)


def test_widget_state_is_whole_or_absent(notebook: Path) -> None:
    widgets = nbformat.read(notebook, 4).metadata.get("widgets", {})
    assert all("state" in view for view in widgets.values())


def test_no_path_of_a_machine_is_in_it(notebook: Path) -> None:
    assert not re.findall(r"(?<![\w:/.])/(?:home|root|Users|tmp|work|content)/[\w./-]+", notebook.read_text())


def test_every_image_has_a_text_for_those_who_do_not_see_it(notebook: Path) -> None:
    for cell in cells(notebook, "markdown"):
        assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=)", cell.source)
    for cell in cells(notebook, "code"):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"]) > 20


def test_badges_and_setup_cells_have_the_address_in_pyproject() -> None:
    texts = texts_with_address(ROOT, read_address(ROOT))
    assert set(NOTEBOOKS) < set(texts)
    changed = [path.name for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    assert not changed, "write them with python -m dylora_kit.lessons address"


def test_nothing_sends_a_reader_to_another_address(notebook: Path) -> None:
    text = "\n".join(cell.source for cell in nbformat.read(notebook, 4).cells) + (ROOT / "README.md").read_text()
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {}).get("Repository")
    named = re.findall(r"(?:clone\b.*https://github\.com|colab\.research\.google\.com/github)/([\w-]+/[\w.-]+)", text)
    assert {f"https://github.com/{name}" for name in named} == ({address} if address else set())


def test_cells_are_short_and_the_text_is_of_a_lesson_s_length(notebook: Path) -> None:
    lines = sorted(len(cell.source.splitlines()) for cell in cells(notebook, "code"))
    assert lines[len(lines) // 2] <= 5
    saved = notebook.read_text(encoding="utf-8")
    markdown = [cell for cell in nbformat.reads(saved, 4).cells if cell.cell_type == "markdown"]
    words = [re.sub(r"!\[.*?\]", "", cell.source).split() for cell in markdown]  # without pictures' texts
    assert 900 <= sum(map(len, words)) <= 1500
    assert 35 <= len(nbformat.read(notebook, 4).cells) <= 65


def test_no_line_of_code_is_wider_than_a_cell_on_a_small_screen(notebook: Path) -> None:
    saved = notebook.read_text(encoding="utf-8")
    for text in (saved, in_notebook(saved, notebook.name, EXAMPLE)):
        code = [cell for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"]
        assert not [line for cell in code for line in cell.source.splitlines() if len(line) > 100]


def test_no_measured_number_is_typed_into_the_text(notebook: Path) -> None:
    for cell in cells(notebook, "markdown"):
        assert not re.search(r"\d\s*%", cell.source), cell.source


def skippable() -> list[tuple[str, set[str]]]:
    """What the notes for instructors say can be skipped: (notebook, numbers of steps)."""
    lines = (ROOT / "notebooks" / "README.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| [")]
    found = []
    for row in rows:
        name = re.search(r"\((\w+)\.ipynb\)", row)
        assert name is not None
        found.append((name.group(1), set(re.findall(r"step (\d+)", row.split("|")[-2]))))
    return found


def names(source: str, kind: type[ast.expr_context]) -> set[str]:
    """The names that a cell reads (ast.Load) or makes (ast.Store); functions and imports are made as well."""
    tree = ast.parse(source)
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}
    if kind is ast.Store:
        found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        found |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        found |= {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
                  for alias in node.names}  # fmt: skip
    return found


@pytest.mark.parametrize(("name", "steps"), skippable(), ids=lambda value: value if isinstance(value, str) else "")
def test_nothing_needs_a_step_that_instructors_may_skip(name: str, steps: set[str]) -> None:
    assert steps
    step, made, only_in_skipped, missed = "", set[str](), set[str](), set[str]()
    for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^## (.*)$", cell.source, re.MULTILINE):
                number = re.match(r"(\d+)\.", heading)
                step = number.group(1) if number else ""
        elif step in steps:
            only_in_skipped |= names(cell.source, ast.Store) - made
        else:
            missed |= (names(cell.source, ast.Load) - names(cell.source, ast.Store)) & only_in_skipped
            made |= names(cell.source, ast.Store)
            only_in_skipped -= made
    assert not missed


def test_every_prediction_has_a_box_right_below_it(notebook: Path) -> None:
    asked = [
        (text.source, following)
        for text, following in pairwise(nbformat.read(notebook, 4).cells)
        if text.cell_type == "markdown" and "**Predict:**" in text.source
    ]
    assert asked
    for text, following in asked:
        assert text.count("**Predict:**") == 1, "a box stands where its answer will stand"
        if "dk.Guess(" not in following.source:
            (number,) = [n for n, cell in enumerate(cells(notebook, "code")) if cell.source == following.source]
            assert "dk.Guess(" in cells(notebook, "code")[number + 1].source, text


def test_every_box_is_answered(notebook: Path) -> None:
    code = "\n".join(cell.source for cell in cells(notebook, "code"))
    tree = ast.parse(code)
    boxes = [
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "dk.Guess(" in ast.unparse(node.value)
        for outer in node.targets
        for target in ast.walk(outer)
        if isinstance(target, ast.Name)
    ]
    answered = {node.func.value.id for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                and node.func.attr == "reveal" and isinstance(node.func.value, ast.Name)}  # fmt: skip
    assert boxes
    assert [name for name in boxes if name not in answered] == []


def test_no_later_cell_presses_a_button_that_trains(notebook: Path) -> None:
    for cell in cells(notebook, "code"):
        if ".train_more(" in cell.source:
            assert "dk.RankExplorer(" in cell.source, "what a cell shows stays as it was"


def test_claims_are_folded_away_and_one_cell_of_them_stands_alone(notebook: Path) -> None:
    folded = [
        cell.cell_type == "code" and cell.metadata.get("jupyter", {}).get("source_hidden", False)
        for cell in nbformat.read(notebook, 4).cells
    ]
    assert any(folded)
    assert not any(first and second for first, second in pairwise(folded))
    for cell, hidden in zip(nbformat.read(notebook, 4).cells, folded, strict=True):
        if hidden:
            assert "claim(" in cell.source or "pd.read_csv" in cell.source, "nothing else is hidden from a student"
            assert "lessons.check(" not in cell.source and "dk.train(" not in cell.source


def test_a_lesson_opens_with_the_picture_of_what_it_leads_to(notebook: Path) -> None:
    first = nbformat.read(notebook, 4).cells[0].source
    assert re.search(rf"!\[.{{40,}}\]\(images/lesson_{notebook.name[:2]}\.svg\)", first)
    assert (notebook.parent / "images" / f"lesson_{notebook.name[:2]}.svg").is_file()
