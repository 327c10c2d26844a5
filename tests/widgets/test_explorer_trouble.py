"""An explorer when something goes wrong: values that are not finite, changes behind its back, stopped trainings."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jupyter_client.manager import start_new_kernel
from torch import Tensor, nn
from toys import R, Toy, adapted, toy
from widgets.explorers import DATA, explorer_of, measured, training

import dylora_kit as dk
from dylora_kit.training import loop
from dylora_kit.widgets.rank_explorer import RankExplorer

VIEWS = ["accuracy", "matrices", "spectrum", "ordering"]


def broken_at(row: int, value: float = float("nan")) -> dk.Adapters:
    """Adapters of which one row is not finite, so that ranks from there on are not."""
    adapters = adapted(toy())
    with torch.no_grad():
        adapters.layers["up"].lora_A[row - 1] = value
    return adapters


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_said_and_the_other_ranks_are_shown(value: float) -> None:
    adapters = broken_at(3, value)
    explorer = explorer_of(adapters, views=VIEWS)
    explorer.slider.value = R
    assert "DyLoRA gives answers that are not finite" in explorer.summary()
    assert "not finite" in explorer.picture.value and "not finite" in explorer.note.value
    assert "nan" not in explorer.picture.value.lower().replace("finance", "")
    explorer.slider.value = 2
    assert "has an accuracy of" in explorer.summary() and "not finite" in explorer.note.value
    shown = explorer.values["DyLoRA"]
    assert {rank: value for rank, value in shown.items() if rank < 3} == {b: measured(adapters)[b] for b in (1, 2)}


def test_a_training_that_diverges_leaves_an_explorer_that_goes_back() -> None:
    adapters = adapted(toy())
    explorer = explorer_of(adapters, views=VIEWS, training=training(adapters, max_grad_norm=None))
    before = dict(explorer.values["DyLoRA"])
    explorer.train_more(5)
    with torch.no_grad():
        adapters.layers["down"].lora_B.fill_(float("inf"))
    explorer.refresh()
    assert "go back to an earlier moment" in explorer.note.value
    explorer.go_to(0)
    assert "not finite" not in explorer.note.value and explorer.values["DyLoRA"] == before


class Shifted(Toy):
    """A toy whose answers a buffer moves, which is not saved with it."""

    def __init__(self) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            super().__init__()
        self.register_buffer("shift", torch.zeros(3), persistent=False)
        with torch.no_grad():
            self.down.bias[:2] = torch.tensor([3.0, -3.0])  # far apart, so that answers tell when they change places

    def forward(self, x: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        output = super().forward(x, labels)
        return SimpleNamespace(logits=output.logits + self.shift, loss=output.loss)


CHANGES = {
    "a frozen weight by .data": lambda model: model.up.base_layer.weight.data.mul_(-1),
    "one number of it": lambda model: model.up.base_layer.weight.data[0, 0].add_(3.0),
    "a frozen bias through numpy": lambda model: model.up.bias.detach().numpy().__imul__(-4.0),
    "a trained weight by .data": lambda model: model.up.lora_A.data.mul_(-1),
    "the head by .data": lambda model: model.classifier.weight.data.neg_(),
    "rows of a frozen weight in another order": lambda model: model.down.base_layer.weight.data.copy_(
        model.down.base_layer.weight.data.flip(0)
    ),
    "two numbers of a frozen bias, their sum kept": lambda model: model.down.bias.data[:2].copy_(
        model.down.bias.data[[1, 0]]
    ),
    "a buffer that is not saved": lambda model: model.shift.add_(torch.tensor([3.0, 0.0, -2.0])),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_weights_that_are_changed_behind_autograds_back_are_evaluated_again(change: Any) -> None:
    adapters = adapted(Shifted())
    explorer = explorer_of(adapters)
    before = explorer.values["DyLoRA"]
    with torch.no_grad():
        change(adapters.model)
    explorer.refresh()
    assert explorer.values["DyLoRA"] == measured(adapters) != before


def test_while_adapters_are_switched_off_nothing_new_is_shown_and_afterwards_what_is_true() -> None:
    adapters = adapted(toy())
    explorer = explorer_of(adapters, training=None)
    enabled = explorer.values["DyLoRA"]
    with adapters.disabled():
        with pytest.raises(ValueError, match="switched off in a disabled"):
            explorer.refresh()  # though these weights have been evaluated
        adapters.layers["up"].lora_B.data.neg_()
        with pytest.raises(ValueError, match="switched off in a disabled"):
            explorer.refresh()
        assert explorer.values["DyLoRA"] == enabled
    explorer.refresh()
    assert explorer.values["DyLoRA"] == measured(adapters)


class Copying(nn.Module):
    """Says of each token the next one, at most places; whether its loss, or its class, is about the next token."""

    def __init__(self, by_loss: bool) -> None:
        super().__init__()
        self.by_loss = by_loss
        self.words, self.up = nn.Embedding(9, 9), nn.Linear(9, 9)
        with torch.no_grad():
            self.words.weight.copy_(torch.eye(9))
            self.up.weight.copy_(5 * torch.eye(9).roll(1, 0))

    def forward(self, input_ids: Tensor, labels: Tensor) -> Any:
        logits = self.up(self.words(input_ids))
        pairs = (logits[:, :-1], labels[:, 1:]) if self.by_loss else (logits, labels)
        loss = nn.functional.cross_entropy(pairs[0].flatten(0, 1), pairs[1].flatten())
        return SimpleNamespace(logits=logits, loss=loss)


class CopyingForCausalLM(Copying):
    pass


@pytest.mark.parametrize(
    ("kind", "by_loss"), [(Copying, True), (CopyingForCausalLM, True), (CopyingForCausalLM, False)]
)
def test_an_explorer_shifts_where_a_sweep_does(kind: type[Copying], by_loss: bool) -> None:
    model = kind(by_loss)
    adapters = dk.attach(model, r=2, target_modules=["up"])
    rows = [(torch.arange(5) + index) % 9 for index in range(6)]
    data = [{"input_ids": row, "labels": row} for row in rows]
    explorer = RankExplorer(model, adapters, data, views=["accuracy"])
    assert explorer.values["DyLoRA"] == measured(adapters, data)
    assert explorer.values["DyLoRA"][1] == (1.0 if by_loss else 0.0)


def test_answers_that_do_not_count_may_be_anything() -> None:
    adapters = adapted(toy())
    data = [*DATA, {"x": torch.full((6,), torch.nan), "labels": torch.tensor(-100)}]
    explorer = RankExplorer(adapters.model, adapters, data, views=["accuracy"])
    assert explorer.values["DyLoRA"] == measured(adapters) and "not finite" not in explorer.note.value


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("stop", [7, 13])
def test_a_stopped_training_shows_the_step_that_the_model_is_at(error: type[BaseException], stop: int) -> None:
    adapters = adapted(toy())
    calls: list[int] = []

    def loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 20 + stop:
            raise error("stopped")
        return model(**batch).loss

    explorer = explorer_of(adapters, training=training(adapters, loss=loss))
    explorer.train_more(20)
    with pytest.raises(error):
        explorer.train_more(20)
    at = 20 + stop - 1
    assert explorer.moment.value == f"the model is at step {at} of {at}"
    assert explorer.history["step"].max() == at and not explorer.button.disabled
    assert explorer.values["DyLoRA"] == measured(adapters)
    calls.clear()
    explorer.train_more(5)
    assert explorer.moment.value == f"the model is at step {at + 5} of {at + 5}"


@pytest.mark.parametrize("stop", [3, 8])  # the latter between two moments that are kept
def test_a_stop_right_after_an_update_counts_its_step(stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = adapted(toy())
    explorer = explorer_of(adapters)
    step = loop._Run.step

    def stopped(run: Any, number: int, batches: Any) -> Any:
        row = step(run, number, batches)
        if number + 1 == stop:
            raise KeyboardInterrupt
        return row

    monkeypatch.setattr(loop._Run, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        explorer.train_more(20)
    assert explorer.moment.value == f"the model is at step {stop} of {stop}"
    assert explorer.values["DyLoRA"] == measured(adapters)


PRESSED = """
import sys
sys.path[:0] = {paths!r}
import time
from widgets.explorers import explorer_of, training
from toys import adapted, toy
adapters = adapted(toy())
def slow(model, batch):
    time.sleep(0.05)
    return model(**batch).loss
explorer = explorer_of(adapters, training=training(adapters, loss=slow))
print(explorer.button.comm.comm_id)
"""


def test_the_stop_button_of_jupyter_stops_a_training_that_a_button_started() -> None:
    here = Path(__file__).parent
    paths = [str(here.parent), str(Path.cwd()), *sys.path]
    manager, client = start_new_kernel(kernel_name="python3")
    try:

        def output(code: str) -> str:
            printed: list[str] = []
            reply = client.execute_interactive(
                code,
                timeout=120,
                output_hook=lambda message: printed.append(message["content"].get("text", "")),
            )
            assert reply["content"]["status"] == "ok", json.dumps(reply["content"])[:500]
            return "".join(printed).strip()

        button = output(PRESSED.format(paths=paths)).splitlines()[-1]
        pressed = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
        client.shell_channel.send(client.session.msg("comm_msg", pressed))
        time.sleep(2)
        manager.interrupt_kernel()
        shown = output("print(explorer.moment.value, explorer.button.disabled)")
    finally:
        manager.shutdown_kernel(now=True)
    step = int(shown.split("step ")[1].split()[0])
    assert 0 < step < 100 and shown.endswith("False")
