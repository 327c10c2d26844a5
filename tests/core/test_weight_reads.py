"""A layer whose weight is read instead of calling it gets no adapter that would not run."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from models import fill
from torch import Tensor, nn
from toys import assert_same

import dylora_kit as dk
from dylora_kit.core.weight_reads import is_read

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 50}


class Reader(nn.Module):
    """Reads one weight, in a method of its own; asks another's type; calls or reads the third."""

    def __init__(self, by_calling: bool | None = None) -> None:
        super().__init__()
        self.read, self.asked, self.either = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.by_calling = by_calling

    def forward(self, x: Tensor) -> Tensor:
        x = self._project(x).to(self.asked.weight.dtype)
        x = self.asked(x) if isinstance(self.asked.weight, Tensor) else x
        if self.by_calling:
            return self.either(x)
        return F.linear(x, self.either.weight)

    def _project(self, x: Tensor) -> Tensor:
        return x @ self.read.weight.t() + self.read.bias


def mamba() -> Any:
    return transformers.MambaForCausalLM(transformers.MambaConfig(**SIZES, state_size=4, pad_token_id=0))


def falcon_mamba() -> Any:
    config = transformers.FalconMambaConfig(**SIZES, state_size=4, pad_token_id=0)
    return transformers.FalconMambaForCausalLM(config)


def wavlm() -> Any:
    config = transformers.WavLMConfig(
        **SIZES, num_attention_heads=2, intermediate_size=24, conv_dim=[8], conv_stride=[5], conv_kernel=[10],
        num_feat_extract_layers=1, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    return transformers.WavLMModel(config)


def attention() -> nn.Module:
    return nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2), "up": nn.Linear(8, 4)})


READ = [
    (Reader, "read"),
    (lambda: Reader(by_calling=False), "either"),
    (mamba, "dt_proj"),
    (falcon_mamba, "dt_proj"),
    (wavlm, "q_proj"),
    (attention, "out_proj"),
]


@pytest.mark.parametrize(("make", "target"), READ)
def test_a_target_that_is_never_called_is_refused(make: Any, target: str) -> None:
    model = make()
    before = dict(model.state_dict())
    with pytest.raises(TypeError, match=rf"cannot adapt '.*{target}': .* never calls its"):
        dk.attach(model, r=2, target_modules=[target])
    assert_same(dict(model.state_dict()), before)


@pytest.mark.filterwarnings("ignore:the weights of")
@pytest.mark.parametrize(("make", "target"), READ)
def test_all_linear_leaves_it_out_and_says_so(make: Any, target: str) -> None:
    with pytest.warns(UserWarning, match=rf"'all-linear' leaves out .*{target}"):
        adapters = dk.attach(make(), r=2, target_modules="all-linear")
    assert adapters.layers
    assert not any(name.endswith(target) for name in adapters.layers)


def test_attention_is_refused_where_none_of_its_layers_is_called() -> None:
    with pytest.raises(TypeError, match="WavLMAttention reads its weight and never calls its forward"):
        dk.attach(wavlm(), r=2, target_modules="attention")


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_of_the_module_decides_which_branch_counts(flag: bool) -> None:
    model = Reader(by_calling=flag)
    assert is_read(model, "either") is not flag
    assert not is_read(model, "asked")


@pytest.mark.parametrize(
    ("make", "target"), [(Reader, "either"), (mamba, "x_proj"), (mamba, "out_proj")], ids=["flag", "x_proj", "out_proj"]
)
def test_a_layer_that_is_called_or_read_gets_an_adapter_and_a_warning(make: Any, target: str) -> None:
    with pytest.warns(UserWarning, match=rf"the weights of .*{target} are read in some cases"):
        assert len(dk.attach(make(), r=2, target_modules=[target]).layers) == 1


def test_what_is_adapted_in_mamba_runs(recwarn: pytest.WarningsRecorder) -> None:
    model = mamba().eval()
    adapters = dk.attach(model, r=4, target_modules=["in_proj"])
    fill(adapters)
    ids, outputs = torch.randint(3, 50, (2, 5)), []
    for rank in (1, 4):
        adapters.rank = rank
        outputs.append(model(ids).logits)
    assert not torch.equal(*outputs)
    assert not [warning for warning in recwarn if "weights of" in str(warning.message)]
