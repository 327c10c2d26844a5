"""dylora_kit: train one LoRA adapter for a whole range of ranks, and choose the rank afterwards.

DyLoRA, Valipour, Rezagholizadeh, Kobyzev and Ghodsi, arXiv 2210.07558. Start with `attach`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dylora_kit.adapt import Adapters, attach, load
from dylora_kit.layer import DyLoRALinear
from dylora_kit.objectives import individual_loss, mixed_loss, summation_in_one, summation_loss
from dylora_kit.optim import NestedAdamW
from dylora_kit.ordering import ordering  # as train below
from dylora_kit.rank import ActiveRank
from dylora_kit.sampling import Categorical, Fixed, Geometric, RankDistribution, RankSampler, Uniform
from dylora_kit.train import train  # not lazily: a submodule imported later would take the name of the function

if TYPE_CHECKING:
    from dylora_kit.cut import ranks_per_layer
    from dylora_kit.dial import Dial
    from dylora_kit.evaluate import predict, sweep
    from dylora_kit.exchange import import_peft
    from dylora_kit.guess import Guess
    from dylora_kit.nest import nest_peft
    from dylora_kit.select import smallest_rank
    from dylora_kit.widgets import RankExplorer

__version__ = "0.1.0"

# imported when first used, so that `import dylora_kit` costs little more than `import torch`
_LAZY = {
    "sweep": "evaluate",
    "predict": "evaluate",
    "import_peft": "exchange",
    "nest_peft": "nest",
    "smallest_rank": "select",
    "ranks_per_layer": "cut",
    "RankExplorer": "widgets",
    "Guess": "guess",
    "Dial": "dial",
}

__all__ = [
    "ActiveRank",
    "Adapters",
    "Categorical",
    "Dial",
    "DyLoRALinear",
    "Fixed",
    "Geometric",
    "Guess",
    "NestedAdamW",
    "RankDistribution",
    "RankExplorer",
    "RankSampler",
    "Uniform",
    "attach",
    "import_peft",
    "individual_loss",
    "load",
    "mixed_loss",
    "nest_peft",
    "ordering",
    "predict",
    "ranks_per_layer",
    "smallest_rank",
    "summation_in_one",
    "summation_loss",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'dylora_kit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dylora_kit.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
