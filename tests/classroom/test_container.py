"""The container file names what is there; building it takes a network, and is not done here."""

import json
import re
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / ".binder" / "Dockerfile").read_text()


def test_it_installs_what_is_tested_and_opens_the_first_lesson() -> None:
    (command,) = re.findall(r"^RUN (.* pip install .*)$", DOCKERFILE, re.MULTILINE)
    assert "-r requirements.txt" in command and (ROOT / "requirements.txt").is_file()
    (words,) = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    *_, first = json.loads(words)
    assert (ROOT / first).is_file()


def test_its_python_is_one_that_the_kit_takes() -> None:
    (version,) = re.findall(r"^ARG BASE=python:([\d.]+)-slim$", DOCKERFILE, re.MULTILINE)
    (needed,) = re.findall(r'^requires-python = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version in SpecifierSet(needed)


def test_it_runs_as_the_user_whom_binder_names() -> None:
    lines = DOCKERFILE.splitlines()
    assert "ARG NB_USER=learner" in lines and "ARG NB_UID=1000" in lines
    assert lines.index("USER ${NB_USER}") > next(n for n, line in enumerate(lines) if "pip install" in line)


def test_no_environment_and_no_history_of_a_clone_get_into_it() -> None:
    ignored = (ROOT / ".binder" / "Dockerfile.dockerignore").read_text().split()
    assert {".git", ".venv", "data/checkpoints"} <= set(ignored)
