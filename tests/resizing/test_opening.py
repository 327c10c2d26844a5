"""An adapter by the name of its folder, its file, or its repository on the hub."""

from pathlib import Path

import huggingface_hub
import pytest
from toys import adapted, toy

from dylora_kit.resizing.opening import open_adapter
from dylora_kit.storage.adapter_files import CONFIG


def test_a_name_on_the_hub_is_its_copy_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    repository = tmp_path / "models--org--adapter"
    adapted(toy()).save(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert set(open_adapter("org/adapter").layers) == {"up", "down"}


def test_a_folder_of_the_same_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted(toy()).save(tmp_path / "org" / "adapter")
    monkeypatch.chdir(tmp_path)
    assert open_adapter("org/adapter").path == Path("org/adapter")


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "/nowhere/at/all", "nowhere.safetensors"])
def test_what_is_not_there_and_is_no_name_on_the_hub_is_not_looked_for(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no file or folder {name}"):
        open_adapter(name)


def test_a_name_that_the_hub_does_not_give_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match="there is no folder no/adapter, and it cannot be fetched from the hub"):
        open_adapter("no/adapter")


def test_a_folder_without_an_adapter_is_told_by_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no {CONFIG}"):
        open_adapter(tmp_path)
