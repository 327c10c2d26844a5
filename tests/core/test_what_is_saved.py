"""What was trained is what is saved: whatever was changed since attach is in the file, or saving says what is not."""

import copy
import warnings

import peft
import pytest
import torch
import transformers
from architectures import build, calm, inputs, logits
from models import Net, batch, fill, make
from torch import nn
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk


class Normed(nn.Module):
    """A frozen batch normalisation between two layers, and one whose statistics are not kept."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 9), nn.Linear(9, 5)
        self.norm = nn.BatchNorm1d(9)
        self.other = nn.BatchNorm1d(5, track_running_stats=False)

    def forward(self, x):
        return self.other(self.down(self.norm(self.up(x))))


def normed(seed=0):
    torch.manual_seed(seed)
    return Normed()


def train_a_little(model, adapters, x, steps=5):
    optimizer = dk.NestedAdamW(adapters, lr=0.05)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()
    model.eval()


# Parameters


def unfreeze(model):
    model.classifier.requires_grad_(True)


def freeze_again(model):
    model.classifier.requires_grad_(True)
    with torch.no_grad():
        model.classifier.weight[1, 2] += 0.5
    model.classifier.requires_grad_(False)


def write_past_autograd(model):
    model.classifier.weight.data.mul_(1.01)


def assign_data(model):
    model.classifier.weight.data = model.classifier.weight.data + 1


def replace_frozen(model):
    model.classifier = nn.Linear(13, 5).requires_grad_(False)


def grow(model):
    model.classifier = nn.Linear(13, 6).requires_grad_(False)


CHANGES = {
    "unfrozen": (unfreeze, r"is trained \(it requires a gradient\)"),
    "trained and frozen again": (freeze_again, "has changed since adapters were attached"),
    "changed through .data": (write_past_autograd, "has changed since"),
    "data replaced": (assign_data, "has changed since"),
    "another module": (replace_frozen, "has changed since"),
    "another size": (grow, r"has shape \(6, 13\), and had \(5, 13\) when adapters were attached"),
}


@pytest.mark.parametrize("save", ["save", "export_peft"])
@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_parameter_that_was_trained_and_would_be_lost_is_named(tmp_path, change, message, save):
    model, adapters = make(r=4)
    change(model)
    with pytest.raises(ValueError, match=rf"'classifier.weight' {message}.*adapters.save_also\(\['classifier'\]\)"):
        getattr(adapters, save)(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    adapters.export_peft(tmp_path / "serving", serving=True)  # holds adapters alone, as it says


@pytest.mark.parametrize("row", [0, 150, 299])
def test_a_change_of_one_row_of_a_large_weight_is_noticed(tmp_path, row):
    model = nn.ModuleDict({"up": nn.Linear(6, 5), "table": nn.Embedding(300, 1000)})
    adapters = dk.attach(model, r=3, target_modules=["up"])
    adapters.save(tmp_path)
    with torch.no_grad():
        model["table"].weight[row] += 1
    with pytest.raises(ValueError, match=r"'table.weight' has changed since"):
        adapters.save(tmp_path)


def test_the_own_weight_of_an_adapted_layer_is_named_as_it_is_called_without_adapters(tmp_path):
    model, adapters = make(r=4)
    model.second.base_layer.weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"'second.weight' is trained.*freeze it with requires_grad_\(False\)"):
        adapters.save(tmp_path)
    model.second.base_layer.requires_grad_(False)
    adapters.save(tmp_path)


def test_layers_unfrozen_after_attach_can_be_added_to_what_is_saved(tmp_path):
    model = build("llama")
    adapters = dk.attach(model, r=3, target_modules="attention")
    fill(adapters)
    for name, parameter in model.named_parameters():
        if name.endswith("layernorm.weight"):
            parameter.requires_grad_(True)
            parameter.data.mul_(1.3)
    with pytest.raises(ValueError, match=r"layers\.0\.input_layernorm"):
        adapters.save(tmp_path)
    adapters.save_also(["input_layernorm", "post_attention_layernorm"])
    adapters.save(tmp_path)
    again = build("llama")
    loaded = dk.load(again, tmp_path)
    assert torch.equal(logits(again, inputs("llama")), logits(model, inputs("llama")))
    assert loaded.config["modules_to_save"] == list(loaded.saved_modules)
    with pytest.raises(ValueError, match="is both a target and in modules_to_save"):
        adapters.save_also(["self_attn"])


def same_state_dict(model):
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def other_precision(model):
    model.to(torch.bfloat16)


def back_and_forth(model):
    model.to(torch.float64).to(torch.float32)


def modes(model):
    model.train().eval()
    model(batch())


@pytest.mark.parametrize("change", [same_state_dict, other_precision, back_and_forth, modes])
def test_what_changes_no_weight_stops_no_save(tmp_path, change):
    model, adapters = make(r=4, head=True)
    change(model)
    adapters.save(tmp_path)


def test_a_copied_model_is_saved_as_the_first_is(tmp_path):
    model, adapters = make(r=4, head=True)
    _, twin = copy.deepcopy((model, adapters))
    twin.save(tmp_path)
    twin.model.first.base_layer.weight.data.add_(1)
    with pytest.raises(ValueError, match=r"'first.weight' has changed"):
        twin.save(tmp_path)
    adapters.save(tmp_path)


def test_merging_and_unmerging_changes_no_weight(tmp_path):
    _, adapters = make(r=4)
    adapters.merge(2)
    adapters.unmerge()
    adapters.save(tmp_path)


# Modules that are no longer where they were


def take_out(model):
    model.second = model.second.base_layer


def swap(model):
    model.first, model.third = model.third, model.first


def replace_lora(model):
    model.first.lora_A = nn.Parameter(torch.ones(4, 12))


@pytest.mark.parametrize("change", [take_out, swap])
def test_an_adapter_that_is_no_longer_at_its_place_is_named(tmp_path, change):
    model, adapters = make(r=4)
    change(model)
    with pytest.raises(ValueError, match=r"the adapter of '(first|second)' is no longer at its place"):
        adapters.save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_layer_dropped_from_a_list_moves_no_adapter_to_another(tmp_path):
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    adapters = dk.attach(model, r=2, target_modules=["0", "1"])
    del model[0]
    with pytest.raises(ValueError, match=r"the adapter of '0' is no longer at its place"):
        adapters.save(tmp_path)


def test_a_part_of_a_fused_projection_is_found_at_its_place(tmp_path):
    model = build("gpt2")
    adapters = dk.attach(model, r=2, target_modules=["c_attn"])
    adapters.save(tmp_path)
    model.transformer.h[1].attn.c_attn = model.transformer.h[1].attn.c_attn.base_layer
    with pytest.raises(ValueError, match=r"'transformer.h.1.attn.c_attn.q' is no longer at its place"):
        adapters.save(tmp_path)


def test_lora_parameters_replaced_by_hand_are_those_that_are_saved(tmp_path):
    model, adapters = make(r=4)
    replace_lora(model)
    adapters.save(tmp_path)
    torch.manual_seed(0)
    loaded = dk.load(Net(), tmp_path)
    assert torch.equal(loaded.layers["first"].lora_A, torch.ones(4, 12))


def test_a_trained_module_that_was_replaced_is_saved_as_it_is_now(tmp_path):
    model, adapters = make(r=4, head=True)
    model.classifier = nn.Linear(13, 7)
    adapters.save(tmp_path)
    torch.manual_seed(0)
    other = Net()
    with pytest.raises(ValueError, match=r"'classifier.(bias|weight)' has shape \(7,.*\), expected \(5,.*\)"):
        dk.load(other, tmp_path)
    other.classifier = nn.Linear(13, 7)
    dk.load(other, tmp_path)
    assert torch.equal(other(batch()), model(batch()))
    del model.classifier
    with pytest.raises(ValueError, match=r"'classifier' is trained along, and no longer in the model"):
        adapters.save(tmp_path)


def test_a_vocabulary_grown_after_attach_is_not_lost(tmp_path):
    model = build("gpt2")
    adapters = dk.attach(model, r=2, target_modules="attention")
    model.resize_token_embeddings(60)
    with pytest.raises(ValueError, match=r"'transformer.wte.weight' .*save_also\(\['transformer.wte'\]\)"):
        adapters.save(tmp_path)
    adapters.save_also(["wte"])
    fill(adapters)
    adapters.save(tmp_path)
    again = build("gpt2")
    again.resize_token_embeddings(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dk.load(again, tmp_path)
    assert torch.equal(logits(again, inputs("gpt2")), logits(model, inputs("gpt2")))


# Buffers


def test_statistics_of_a_frozen_normalisation_are_saved_and_given_back_by_detach(tmp_path):
    model, x = normed(), torch.randn(16, 6) * 3 + 1
    before = state_of(model)
    adapters = dk.attach(model, r=3, target_modules=["up"])
    train_a_little(model, adapters, x)
    assert set(adapters.moved_buffers()) == {
        f"norm.{key}" for key in ("running_mean", "running_var", "num_batches_tracked")
    }
    adapters.save(tmp_path / "one")
    again = normed()
    loaded = dk.load(again.eval(), tmp_path / "one")
    assert_same(state_of(again), state_of(model))
    assert torch.equal(again(x), model(x))
    loaded.save(tmp_path / "two")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert_same(state_of(loaded.detach()), before)
    assert_same(state_of(adapters.detach()), before)


def test_statistics_that_did_not_move_are_not_saved(tmp_path):
    model = normed().eval()
    adapters = dk.attach(model, r=3, target_modules=["up"])
    model(torch.randn(16, 6))
    assert adapters.moved_buffers() == {}
    adapters.export_peft(tmp_path)
    loaded = dk.import_peft(normed(), tmp_path)
    assert loaded.moved_buffers() == {}


def test_peft_and_import_read_the_statistics_of_an_export(tmp_path):
    model, x = normed(), torch.randn(16, 6) * 3 + 1
    adapters = dk.attach(model, r=3, target_modules=["up"], modules_to_save=["down"])
    train_a_little(model, adapters, x)
    adapters.export_peft(tmp_path)
    with calm():
        theirs = peft.PeftModel.from_pretrained(normed(), tmp_path).eval()
    torch.testing.assert_close(theirs(x), model(x))
    ours = normed()
    dk.import_peft(ours, tmp_path)
    torch.testing.assert_close(ours.eval()(x), model(x))


def test_a_file_that_does_not_fit_moves_no_statistics(tmp_path):
    model = normed()
    adapters = dk.attach(model, r=3, target_modules=["up"])
    train_a_little(model, adapters, torch.randn(16, 6))
    adapters.save(tmp_path)
    other = normed()
    other.norm = nn.BatchNorm1d(9, track_running_stats=False)
    with pytest.raises(ValueError, match=r"the file holds 'norm.*', which the model does not have"):
        dk.load(other, tmp_path)
    wide = normed()
    wide.norm = nn.BatchNorm1d(8)
    before = state_of(wide)
    with pytest.raises(ValueError, match=r"'norm.running_(mean|var)' has shape \(9,\), expected \(8,\)"):
        dk.load(wide, tmp_path)
    assert_same(state_of(wide), before)


# PEFT's own layers


def nested():
    torch.manual_seed(0)
    with calm():
        model = peft.get_peft_model(
            build("roberta"), peft.LoraConfig(target_modules=["query"], modules_to_save=["classifier"])
        )
    return model, dk.nest_peft(model)


def test_what_was_trained_beside_pefts_layers_is_named(tmp_path):
    model, adapters = nested()
    adapters.save(tmp_path / "fine")
    model.base_model.model.roberta.encoder.layer[0].output.LayerNorm.requires_grad_(True)
    with pytest.raises(ValueError, match=r"'roberta.*LayerNorm.weight' is trained.*PEFT's LoraConfig"):
        adapters.save(tmp_path / "folder")
    with pytest.raises(ValueError, match="set in LoraConfig"):
        adapters.save_also(["LayerNorm"])
    model.base_model.model.roberta.encoder.layer[0].output.LayerNorm.requires_grad_(False)
    model.base_model.model.roberta.embeddings.word_embeddings.weight.data[7] += 1
    with pytest.raises(ValueError, match=r"'roberta.embeddings.word_embeddings.weight' has changed"):
        adapters.export_peft(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_adapters_nested_in_peft_are_loaded_without_it_and_without_a_warning(tmp_path):
    model, adapters = nested()
    fill(adapters)
    adapters.save(tmp_path)
    plain = build("roberta")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.load(plain, tmp_path)
    torch.testing.assert_close(
        logits(plain, inputs("roberta")), logits(model.eval(), inputs("roberta")), rtol=0, atol=1e-5
    )


# The base


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_another_base_of_the_same_shape_is_noticed(tmp_path, name):
    adapters = dk.attach(build(name), r=2, target_modules="attention")
    adapters.save(tmp_path / "ours")
    adapters.export_peft(tmp_path / "export")
    for load, folder in ((dk.load, "ours"), (dk.import_peft, "export")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(build(name), tmp_path / folder)
            load(build(name).bfloat16(), tmp_path / folder)
        with pytest.warns(UserWarning, match=r"were trained on another base.*has other values"):
            load(build(name, seed=1), tmp_path / folder)


def test_a_base_with_other_weights_in_one_place_is_noticed_by_name(tmp_path):
    make(r=2)[1].save(tmp_path)
    torch.manual_seed(0)
    model = Net()
    model.classifier.weight.data.mul_(1.001)
    with pytest.warns(UserWarning, match=r"'classifier.weight' has other values"):
        dk.load(model, tmp_path)


def test_a_head_that_is_trained_along_is_no_part_of_the_base(tmp_path):
    make(r=2, head=True)[1].save(tmp_path)
    torch.manual_seed(0)
    model = Net()
    nn.init.normal_(model.classifier.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.load(model, tmp_path)


@pytest.mark.parametrize("here", ["org/model", "/home/somebody/model", "/cache/models--org--model/snapshots/0a1b2c"])
def test_names_of_bases_are_compared_where_peft_gives_nothing_else(tmp_path, here):
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["q_proj"], r=2, base_model_name_or_path="org/model")
    with calm():
        model = peft.get_peft_model(build("llama"), config)
        model.peft_config["default"].base_model_name_or_path = "org/model"
        model.save_pretrained(tmp_path)
    plain = build("llama")
    plain.config.name_or_path = plain.name_or_path = here
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.import_peft(plain, tmp_path)
    other = build("llama")
    other.name_or_path = "org/another-model"
    with pytest.warns(UserWarning, match=r"another base \(org/model\) than this model \(org/another-model\)"):
        dk.import_peft(other, tmp_path)


def test_a_saved_folder_names_its_base_and_is_opened_by_peft(tmp_path):
    build("llama").save_pretrained(tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    adapters = dk.attach(model, r=2, target_modules="attention")
    fill(adapters)
    adapters.save(tmp_path / "adapter")
    with calm():
        opened = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(opened, inputs("llama")), logits(model, inputs("llama")), rtol=0, atol=1e-5)
    (tmp_path / "base").rename(tmp_path / "moved")
    moved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "moved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.load(moved, tmp_path / "adapter")


# Checkpoints of a training


def run(model, adapters, folder, **options):
    settings = {"steps": 4, "batch_size": 4, "progress": False, "checkpoint": folder} | options
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    return dk.train(model, adapters, settings.pop("data", examples()), sampler=sampler, **settings)


def test_a_checkpoint_without_what_was_trained_before_is_refused_at_the_start(tmp_path):
    model = toy()
    adapters = adapted(model)
    model.up.base_layer.weight.data.add_(1)
    with pytest.raises(
        ValueError, match=r"'up\.weight' has changed since adapters were attached, and would not be saved"
    ):
        run(model, adapters, tmp_path)
    run(model, adapters, None)
    model = toy()
    adapters = adapted(model)
    model.down = model.down.base_layer
    with pytest.raises(ValueError, match="the adapter of 'down' is no longer at its place"):
        run(model, adapters, tmp_path)


def test_unfrozen_layers_are_in_a_checkpoint_and_expected_when_it_goes_on(tmp_path):
    model = toy()
    adapters = adapted(model)
    model.up.base_layer.bias.requires_grad_(True)
    run(
        model, adapters, tmp_path, optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    )
    again = toy()
    handle = adapted(again)
    with pytest.raises(ValueError, match=r"'model.up.base_layer.bias' is missing or has another shape"):
        run(again, handle, tmp_path, resume=True, optimizer=torch.optim.SGD(handle.nested_parameters(), lr=0.1))


def test_an_adapter_that_is_frozen_by_now_is_in_a_checkpoint(tmp_path):
    def start():
        model = toy()
        adapters = adapted(model)
        adapters.layers["up"].lora_A.requires_grad_(False)
        return model, adapters, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

    model, adapters, optimizer = start()
    adapters.layers["up"].lora_A.data.mul_(2)
    run(model, adapters, tmp_path, optimizer=optimizer)
    again, handle, optimizer = start()
    run(again, handle, tmp_path, optimizer=optimizer, resume=True)
    assert_same(state_of(again), state_of(model))
