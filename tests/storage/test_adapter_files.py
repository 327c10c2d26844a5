"""Adapters on disk: nothing is lost, nothing is half loaded, and PEFT reads them too."""

import copy
import errno
import itertools
import json
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.storage.adapter_files import CONFIG, WEIGHTS, layers_of, read_adapter
from dylora_kit.storage.files import data_folder, tensors_as_bytes

FILES = [CONFIG, WEIGHTS]
UP_A = "base_model.model.up.lora_A.weight"


def logits(model: torch.nn.Module) -> torch.Tensor:
    x = torch.stack([example["x"] for example in examples(9, seed=8)])
    with torch.no_grad():
        return model.eval()(x).logits


def saved(folder: Path, seed: int = 0, **options: Any) -> tuple[torch.nn.Module, dk.Adapters]:
    """A toy with adapters whose every tensor has been changed, saved into a folder."""
    model = toy()
    adapters = adapted(model, seed=seed, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2)
    adapters.save(folder)
    return model, adapters


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])
@pytest.mark.parametrize(
    "options",
    [{}, {"rank_pattern": {"down": 2}}, {"modules_to_save": []}, {"target_modules": "up|down", "lora_dropout": 0.25}],
    ids=["plain", "rank_pattern", "no modules_to_save", "regular expression"],
)
def test_a_loaded_adapter_gives_the_same_outputs_at_every_rank(tmp_path, scaling, options):
    model, adapters = saved(tmp_path, scaling=scaling, lora_alpha=5.5, **options)
    fresh = toy()
    loaded = dk.load(fresh, tmp_path)
    assert loaded.rank == R
    assert loaded.config == adapters.config
    assert_same(state_of(fresh), state_of(model))
    assert [p.requires_grad for p in fresh.parameters()] == [p.requires_grad for p in model.parameters()]
    seen = []
    for b in range(1, R + 1):
        adapters.rank = loaded.rank = b
        seen.append(logits(fresh))
        assert torch.equal(seen[-1], logits(model))
        assert torch.equal(loaded.delta("down", rank=min(b, 2)), adapters.delta("down", rank=min(b, 2)))
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(seen))


def test_saving_what_was_loaded_gives_the_same_files(tmp_path):
    saved(tmp_path / "first", rank_pattern={"up": 3}, lora_dropout=0.1)
    dk.load(toy(), tmp_path / "first").save(tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_a_folder_holds_a_json_and_a_safetensors_file_and_nothing_else(tmp_path):
    model, _ = saved(tmp_path)
    saved(tmp_path, seed=1)  # over the old ones
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert isinstance(json.loads((tmp_path / CONFIG).read_text()), dict)
    tensors = load_file(tmp_path / WEIGHTS)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    names = {name.removeprefix("base_model.model.") for name in tensors}
    assert {name.replace(".lora_A.weight", ".lora_A").replace(".lora_B.weight", ".lora_B") for name in names} == trained
    raw = (tmp_path / WEIGHTS).read_bytes() + (tmp_path / CONFIG).read_bytes()
    assert b"pickle" not in raw
    assert not raw.startswith((b"PK", b"\x80"))
    assert str(tmp_path).encode() not in raw


def test_saving_leaves_the_rank_and_the_model_alone(tmp_path):
    model = toy()
    adapters = adapted(model)
    adapters.rank = 2
    before = state_of(model)
    adapters.save(tmp_path)
    assert adapters.rank == 2
    assert_same(state_of(model), before)


def test_files_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        saved(tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


def test_merged_adapters_are_not_saved(tmp_path):
    adapters = adapted(toy())
    adapters.merge(rank=2)
    with pytest.raises(ValueError, match=r"merged into the base weights: call unmerge\(\) before saving"):
        adapters.save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    adapters.unmerge()
    adapters.save(tmp_path / "folder")


@pytest.mark.parametrize("file", [1, 2])
def test_a_full_disk_leaves_the_previous_adapter_as_it_was(tmp_path, monkeypatch, file):
    model, _ = saved(tmp_path)
    before, calls, real = contents(tmp_path), [], os.fsync
    second = adapted(toy(), seed=7, r=3)

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        second.save(tmp_path)
    assert contents(tmp_path) == before
    fresh = toy()
    dk.load(fresh, tmp_path)
    assert_same(state_of(fresh), state_of(model))


# Files that do not fit


def change_config(folder: Path, change: dict[str, Any], remove: str | None = None) -> None:
    """Changes the config in both files, as if it had been saved so."""
    content = json.loads((folder / CONFIG).read_text())
    content["dylora"].update(change)
    if remove:
        del content["dylora"][remove]
    (folder / CONFIG).write_text(json.dumps(content))
    (folder / WEIGHTS).write_bytes(tensors_as_bytes(load_file(folder / WEIGHTS), content["dylora"]))


def change_tensors(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(folder / WEIGHTS) | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    (folder / WEIGHTS).write_bytes(tensors_as_bytes(kept))


def change_metadata(folder: Path, text: str) -> None:
    """Writes the tensors as a version before the checksum did, with other metadata."""
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {"metadata": text})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def foreign(folder: Path) -> None:
    content = json.loads((folder / CONFIG).read_text())
    del content["dylora"]
    (folder / CONFIG).write_text(json.dumps(content))


HEAD = "base_model.model.classifier.bias"
FAULTS = {
    "no config": (lambda f: (f / CONFIG).unlink(), "there is no adapter_config.json in"),
    "no tensors": (lambda f: (f / WEIGHTS).unlink(), "there is no adapter_model.safetensors in"),
    "truncated config": (lambda f: truncate(f / CONFIG), r"adapter_config\.json is damaged or no JSON file"),
    "truncated tensors": (lambda f: truncate(f / WEIGHTS), r"adapter_model\.safetensors is damaged"),
    "empty tensors": (lambda f: (f / WEIGHTS).write_bytes(b""), r"adapter_model\.safetensors is damaged"),
    "garbage config": (lambda f: (f / CONFIG).write_text("not json"), r"adapter_config\.json is damaged"),
    "list config": (lambda f: (f / CONFIG).write_text("[1]"), "holds a list: expected a JSON object"),
    "foreign": (foreign, "was not written by this kit: it has no 'dylora' section"),
    "missing field": (lambda f: change_config(f, {}, "scaling"), "lacks 'scaling'"),
    "unknown field": (lambda f: change_config(f, {"bits": 4}), "has an unknown field 'bits'"),
    "rank as text": (lambda f: change_config(f, {"r": "4"}), "r = '4': expected int"),
    "rank 0": (lambda f: change_config(f, {"r": 0}), "rank 0 is out of range"),
    "alpha as text": (lambda f: change_config(f, {"lora_alpha": "much"}), "lora_alpha"),
    "alpha beyond floats": (lambda f: change_config(f, {"lora_alpha": 10**400}), r"lora_alpha = 1000.*…: expected"),
    "rank in a pattern beyond floats": (
        lambda f: change_config(f, {"rank_pattern": {"up": 10**400}}),
        r"rank_pattern = \{'up': 1000.*…: expected",
    ),
    "alpha null": (lambda f: change_config(f, {"lora_alpha": None}), "lora_alpha"),
    "dropout as text": (lambda f: change_config(f, {"lora_dropout": "some"}), "lora_dropout"),
    "unknown scaling": (lambda f: change_config(f, {"scaling": "alpha"}), "unknown scaling 'alpha'"),
    "scaling as a list": (lambda f: change_config(f, {"scaling": ["alpha/b"]}), "scaling"),
    "targets as a number": (lambda f: change_config(f, {"target_modules": 5}), "target_modules"),
    "broken expression": (lambda f: change_config(f, {"target_modules": "(up"}), "target_modules"),
    "other targets": (lambda f: change_config(f, {"target_modules": ["query"]}), "'query' matches no module"),
    "pattern as a list": (lambda f: change_config(f, {"rank_pattern": [2]}), "rank_pattern"),
    "modules as a number": (lambda f: change_config(f, {"modules_to_save": [1]}), "modules_to_save"),
    "targets that are no text": (
        lambda f: change_config(f, {"target_modules": [0]}),
        r"target_modules = \[0\]: expected",
    ),
    "targets that take for ever": (lambda f: change_config(f, {"target_modules": "(u+)+x"}), "can take too long"),
    "pattern that takes for ever": (lambda f: change_config(f, {"rank_pattern": {"(.*p)*x": 2}}), "can take too long"),
    "rank in a pattern as text": (
        lambda f: change_config(f, {"rank_pattern": {"up": "2"}}),
        "rank_pattern = {'up': '2'}",
    ),
    "rank true": (lambda f: change_config(f, {"r": True}), "r = True: expected int"),
    "deeply nested config": (lambda f: (f / CONFIG).write_text("[" * 50000 + "]" * 50000), "nested too deeply"),
    "metadata a list": (lambda f: change_metadata(f, "[1]"), r"has \[1\] in its header: expected a JSON object"),
    "metadata no JSON": (lambda f: change_metadata(f, "{"), "is damaged"),
    "metadata nested just not too deeply": (lambda f: change_metadata(f, "[" * 900 + "]" * 900), "nested too deeply"),
    "metadata nested deeply": (lambda f: change_metadata(f, "[" * 50000), "is damaged"),
    "metadata of another adapter": (lambda f: change_metadata(f, '{"r": 9}'), "two different adapters"),
    "targets that are no layers": (
        lambda f: change_config(f, {"target_modules": ["dropout"]}),
        "cannot adapt a Dropout",
    ),
    "fewer targets": (lambda f: change_config(f, {"target_modules": ["up"]}), r"holds '.*down\.lora_[AB]\.weight'"),
    "other rank": (lambda f: change_config(f, {"r": 3}), r"has shape \(4, (6|10)\), expected \(3, (6|10)\)"),
    "missing tensor": (lambda f: change_tensors(f, {UP_A: None}), r"the file lacks 'up\.lora_A"),
    "missing head": (lambda f: change_tensors(f, {HEAD: None}), r"the file lacks 'classifier\.bias'"),
    "extra tensor": (lambda f: change_tensors(f, {"more": torch.ones(2)}), "holds 'more': expected names that begin"),
    "misshapen": (lambda f: change_tensors(f, {UP_A: torch.ones(6, 4)}), r"up\.lora_A.* has shape \(6, 4\), expected"),
    "broadcastable": (lambda f: change_tensors(f, {UP_A: torch.ones(1, 6)}), r"has shape \(1, 6\), expected \(4, 6\)"),
    "not finite": (lambda f: change_tensors(f, {UP_A: torch.full((4, 6), torch.nan)}), r"not finite in '.*up\.lora_A"),
    "head not finite": (lambda f: change_tensors(f, {HEAD: torch.full((3,), torch.inf)}), r"not finite in '.*bias'"),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_does_not_fit_is_named_in_a_sentence_and_the_model_stays_as_it_was(tmp_path, spoil, message):
    saved(tmp_path)
    spoil(tmp_path)
    model = toy(seed=2)
    model.up.bias.requires_grad_(False)
    model.dropout.eval()
    before, modules = state_of(model), [(name, id(module)) for name, module in model.named_modules()]
    needs, modes = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    outputs = model.dropout(model.up(torch.ones(2, 6)))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        dk.load(model, tmp_path)
    assert "\n" not in str(caught.value)
    assert_same(state_of(model), before)
    assert list(before) == list(model.state_dict())
    assert [(name, id(module)) for name, module in model.named_modules()] == modules
    assert [p.requires_grad for p in model.parameters()] == needs
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(model.dropout(model.up(torch.ones(2, 6))), outputs)


def test_a_folder_that_peft_wrote_is_called_foreign(tmp_path):
    model = peft.get_peft_model(toy(), peft.LoraConfig(r=2, target_modules=["up"]))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="was not written by this kit"):
        dk.load(toy(), tmp_path)


def test_a_folder_for_another_model_is_refused(tmp_path):
    saved(tmp_path, modules_to_save=[])
    other = toy()
    other.up = torch.nn.Linear(6, 9)
    before = state_of(other)
    with pytest.raises(ValueError, match=r"up\.lora_B.* has shape \(10, 4\), expected \(9, 4\)"):
        dk.load(other, tmp_path)
    assert_same(state_of(other), before)


def test_a_model_that_has_adapters_is_not_loaded_into(tmp_path):
    saved(tmp_path)
    model = toy()
    adapters = adapted(model, seed=4)
    before = state_of(model)
    with pytest.raises(ValueError, match=r"has adapters already: call detach\(\)"):
        dk.load(model, tmp_path)
    assert_same(state_of(model), before)
    adapters.detach()
    assert dk.load(model, tmp_path).rank == R


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    _, adapters = saved(tmp_path)
    before = contents(tmp_path)
    with torch.no_grad():
        adapters.layers["up"].lora_B[0, 1] = torch.nan
    with pytest.raises(ValueError, match=r"not finite.*up\.lora_B"):
        adapters.save(tmp_path)
    assert contents(tmp_path) == before


def test_a_trained_adapter_comes_back_and_can_be_trained_on(tmp_path):
    model, adapters = saved(tmp_path)
    fresh = toy()
    loaded = dk.load(fresh, tmp_path)
    histories = []
    for module, handle in [(model, adapters), (fresh, loaded)]:
        sampler = dk.RankSampler(dk.Uniform(1, R), seed=3)
        histories.append(dk.train(module, handle, examples(), sampler=sampler, steps=6, lr=0.05, progress=False))
    assert histories[0].equals(histories[1])
    assert_same(state_of(fresh), state_of(model))


# PEFT


def peft_folder(folder: Path, model: torch.nn.Module, **options: Any) -> dk.Adapters:
    settings = {"r": R, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"]}
    adapters = dk.attach(model, **settings | options)
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.normal_(std=0.1)
        if adapters.saved_modules:
            model.classifier.bias.add_(0.3)
    adapters.save(folder)
    return adapters


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank_pattern": {"layers.1.attention.q_proj": 2}},
        {"scaling": "alpha/sqrt(b)"},
        {"scaling": "alpha/r", "rank_pattern": {"v_proj": 3}},
        {"modules_to_save": []},
    ],
    ids=str,
)
def test_peft_reads_the_folder_and_gives_the_same_logits(tmp_path, options):
    ours = backbones.load("digits-vit")
    theirs = copy.deepcopy(ours)
    plain = copy.deepcopy(ours)
    adapters = peft_folder(tmp_path, ours, **options)
    assert adapters.rank == R
    loaded = peft.PeftModel.from_pretrained(theirs, tmp_path).eval()
    pixels = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ours(pixel_values=pixels).logits
        torch.testing.assert_close(loaded(pixel_values=pixels).logits, expected, rtol=1e-5, atol=1e-5)
        assert (expected - plain(pixel_values=pixels).logits).abs().max() > 0.1


def test_other_software_may_write_the_tensors_in_half_precision(tmp_path):
    model, _ = saved(tmp_path)
    half = {name: tensor.half() for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(half, tmp_path / WEIGHTS)
    fresh = toy()
    dk.load(fresh, tmp_path)
    assert all(p.dtype == torch.float32 for p in fresh.parameters())
    torch.testing.assert_close(logits(fresh), logits(model), rtol=0.01, atol=0.01)


def test_a_pair_of_files_from_two_saves_is_refused(tmp_path):
    saved(tmp_path / "one")
    saved(tmp_path / "two", lora_alpha=64)
    (tmp_path / "one" / WEIGHTS).write_bytes((tmp_path / "two" / WEIGHTS).read_bytes())
    model = toy()
    before = state_of(model)
    with pytest.raises(ValueError, match="two different adapters"):
        dk.load(model, tmp_path / "one")
    assert_same(state_of(model), before)


@pytest.mark.parametrize("change", [{"lora_alpha": 9}, {"r": 5}, {"peft_type": "LORA", "more": None}], ids=str)
def test_a_config_that_was_changed_after_saving_is_refused(tmp_path, change):
    saved(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(json.loads((tmp_path / CONFIG).read_text()) | change))
    with pytest.raises(ValueError, match="or one of them was changed: save them again"):
        dk.load(toy(), tmp_path)


def test_the_name_of_the_base_may_be_changed_and_the_config_laid_out_anew(tmp_path):
    model, _ = saved(tmp_path)
    content = json.loads((tmp_path / CONFIG).read_text()) | {"base_model_name_or_path": "elsewhere"}
    (tmp_path / CONFIG).write_text(json.dumps(dict(sorted(content.items()))))
    fresh = toy()
    dk.load(fresh, tmp_path)
    assert_same(state_of(fresh), state_of(model))


def test_adapters_of_before_the_checksum_are_loaded_without_a_warning(tmp_path):
    newer = {"world-describe-lora", "table6-SmolLM2-135M-Instruct-4bit-e2e-lora-cut-to-b",
             "table6-SmolLM2-135M-Instruct-4bit-e2e-dylora"}  # fmt: skip
    folders = [path for path in (data_folder() / "adapters").iterdir() if path.is_dir() and path.name not in newer]
    assert folders
    for folder in folders:
        config, tensors, origin = read_adapter(folder)
        assert origin.fingerprint is None
        assert {f"{name}.lora_A.weight" for name in layers_of(tensors)} <= tensors.keys()
        assert config["modules_to_save"] == ["classifier"] or "describe" in folder.name
    model = backbones.load("digits-vit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.load(model, data_folder() / "adapters" / "digits-turned-dylora")


def test_a_pair_of_two_saves_with_the_same_settings_is_that_of_the_tensors(tmp_path):
    """A process that is killed between the two files has written all that differs."""
    saved(tmp_path / "one")
    model, _ = saved(tmp_path / "two", seed=3)
    (tmp_path / "one" / WEIGHTS).write_bytes((tmp_path / "two" / WEIGHTS).read_bytes())
    fresh = toy()
    dk.load(fresh, tmp_path / "one")
    assert_same(state_of(fresh), state_of(model))
