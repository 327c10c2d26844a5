"""The address of the repository: it stands in pyproject.toml, and README and notebooks repeat what stands there.

Without an address nothing leads to Colab, and a notebook asks to be opened from a clone.
"""

import json
import re
import tomllib
from pathlib import Path

from dylora_kit.storage.files import write_files

CLEAR = "Clear all outputs (menu *Edit*): guess before you see. Then run the check below."
NOTE = (
    f"{CLEAR} On Colab it fetches the kit and the small packages that are missing. No package that is there changes, "
    "neither torch nor numpy."
)
SETUP = """\
import importlib.util, subprocess, sys
fetch = importlib.util.find_spec("dylora_kit") is None
if fetch:
    address = "ADDRESS"
    clone = f"test -d kit || git clone -q --depth 1 {address} kit"
    install = f'"{sys.executable}" -m pip install -q --no-deps -e kit'
    for command in (clone, install):
        failed, said = subprocess.getstatusoutput(command)
        if failed:
            raise RuntimeError(f"the kit could not be fetched from {address}: {said}")
    sys.path.insert(0, "kit")
from dylora_kit.lessons.installed import ready
ready(add=fetch)"""
SETUP_WITHOUT = """\
import importlib.util
if importlib.util.find_spec("dylora_kit") is None:
    raise ModuleNotFoundError("dylora_kit is not installed: start this notebook in a clone of its "
                              "repository, with the command in the README")
from dylora_kit.lessons.installed import ready
ready()"""
BADGE = "[![Open in Colab]("  # how a badge begins
_IMAGE = "images/open_in_colab.svg"  # in the folder of the notebooks


def checked_address(text: str) -> str:
    """An https address of a GitHub repository, without a slash or `.git` at its end.

    Raises `ValueError` for any other text.

    >>> checked_address("https://github.com/you/your_repository.git")
    'https://github.com/you/your_repository'
    """
    match = re.fullmatch(r"(https://github\.com/[A-Za-z0-9-]+/[\w.-]+?)(?:\.git)?/?", text, re.ASCII)
    if match is None or match[1].endswith(("/.", "/..")):
        raise ValueError(f"{text!r} is no https address of a GitHub repository: expected one like "
                         "https://github.com/you/your_repository")  # fmt: skip
    return match[1]


def read_address(root: Path) -> str | None:
    """The address in the pyproject.toml of a clone, or None if none is set."""
    found = tomllib.loads(_text(root / "pyproject.toml"))["project"].get("urls", {}).get("Repository")
    return None if found is None else str(found)


def texts_with_address(root: Path, address: str | None) -> dict[Path, str]:
    """What pyproject.toml, the README and each notebook of a clone say with an address, or without one.

    Arguments:
        root: the folder of the clone.
        address: as `checked_address` gives it, or None.

    Raises `FileNotFoundError` if `root` is no clone, and `ValueError` for a README without the table of notebooks or a
    notebook without a setup cell.
    """
    pyproject, readme = root / "pyproject.toml", root / "README.md"
    texts = {pyproject: in_pyproject(_text(pyproject), address), readme: in_readme(_text(readme), address)}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        texts[path] = in_notebook(_text(path), path.name, address)
    return texts


def write_address(root: Path, address: str | None) -> list[Path]:
    """Writes an address into every file that names it, or takes it out (None), and returns the files that changed.

    Raises what `texts_with_address` does, before any file is written.
    """
    changed = {path: text for path, text in texts_with_address(root, address).items() if text != _text(path)}
    for path, text in changed.items():
        write_files(path.parent, {path.name: text.encode()})
    return list(changed)


def in_pyproject(text: str, address: str | None) -> str:
    """The text of pyproject.toml with an address, or without one."""
    text = re.sub(r'^Repository = ".*"\n', "", text, flags=re.MULTILINE)
    if address is None:
        return re.sub(r"\n\[project\.urls\]\n(?=\n*(\[|\Z))", "", text)
    if "\n[project.urls]\n" not in text:
        text += "\n[project.urls]\n"
    return text.replace("\n[project.urls]\n", f'\n[project.urls]\nRepository = "{address}"\n')


def in_readme(text: str, address: str | None) -> str:
    """The README with a column of Colab badges in its table of notebooks, or without it."""
    lines = text.split("\n")
    start = next((number for number, line in enumerate(lines) if line.startswith("| notebook | ")), None)
    if start is None:
        raise ValueError("README.md has no table of notebooks: expected a line that begins with '| notebook | '")
    for number in range(start, len(lines)):
        if not lines[number].startswith("|"):
            break
        cells = lines[number].strip("| ").split(" | ")[:3]
        if address is not None:
            name = re.search(r"\(notebooks/(\w+\.ipynb)\)", cells[0])
            image = f"notebooks/{_IMAGE}"  # GitHub shows what lies beside the README
            cells.append(_badge(address, name[1], image) if name else "Colab" if number == start else "---")
        lines[number] = f"| {' | '.join(cells)} |"
    return "\n".join(lines)


def in_notebook(text: str, name: str, address: str | None) -> str:
    """The JSON of a notebook with a badge under its title and a setup cell that fetches the kit, or without them.

    Outputs, numbers of executions and everything else stay as they are.
    """
    notebook = json.loads(text)
    cells = notebook["cells"]
    found = [number for number, cell in enumerate(cells) if 'find_spec("dylora_kit")' in "".join(cell["source"])]
    if len(found) != 1 or found[0] < 2:
        raise ValueError(
            f"{name} has no setup cell: expected one cell, after title and note, that looks for dylora_kit"
        )
    setup = found[0]
    title, *rest = "".join(cells[0]["source"]).split("\n\n")
    rest = [part for part in rest if not part.startswith(BADGE)]
    badge = [] if address is None else [_badge(address, name, badge_image(address))]
    cells[0]["source"] = "\n\n".join([title, *badge, *rest]).splitlines(keepends=True)
    cells[setup - 1]["source"] = [CLEAR if address is None else NOTE]
    code = SETUP_WITHOUT if address is None else SETUP.replace("ADDRESS", address)
    cells[setup]["source"] = code.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def badge_image(address: str) -> str:
    """Where a notebook's badge gets its image: Colab, which opens the notebook alone, shows none beside it.

    >>> badge_image("https://github.com/you/your_repository")
    'https://raw.githubusercontent.com/you/your_repository/main/notebooks/images/open_in_colab.svg'
    """
    files = address.replace("https://github.com/", "https://raw.githubusercontent.com/")
    return f"{files}/main/notebooks/{_IMAGE}"


def _badge(address: str, name: str, image: str) -> str:
    page = address.replace("https://github.com/", "https://colab.research.google.com/github/")
    return f"{BADGE}{image})]({page}/blob/main/notebooks/{name})"


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}: run this in a clone of the repository")
    return path.read_text(encoding="utf-8")
