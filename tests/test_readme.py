"""The README's script, as it stands there."""

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_trainer_script_runs_and_plain_peft_loads_rank_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"<!-- trainer -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(found.group(1), names)
    model, adapters, shipped = (names[name] for name in ("model", "adapters", "shipped"))
    ids = torch.randint(3, 100, (5, 9), generator=torch.Generator().manual_seed(0))
    model.eval(), shipped.eval()
    with torch.no_grad(), adapters.at(3):
        torch.testing.assert_close(model(input_ids=ids).logits, shipped(input_ids=ids).logits, rtol=0, atol=1e-5)
        at_3 = model(input_ids=ids).logits
    with torch.no_grad(), adapters.at(8):
        assert not torch.equal(model(input_ids=ids).logits, at_3)
