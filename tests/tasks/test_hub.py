"""What needs the hub. Left out unless asked for: python -m pytest -m hub, with HF_HUB_OFFLINE=0."""

import pytest

from dylora_kit.tasks import glue

pytestmark = pytest.mark.hub


@pytest.fixture(autouse=True)
def no_local_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYLORA_KIT_DATA", raising=False)


@pytest.mark.parametrize("name", ["rte", "mrpc", "cola", "stsb", "sst2"])
def test_the_hub_has_the_official_number_of_rows(name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    task, spec = glue.load(name, tokenizer), glue.SPECS[name]
    assert len(task.train) + len(task.validation) == spec.train
    assert len(task.test) == spec.dev
