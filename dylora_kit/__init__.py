"""dylora_kit: train one LoRA adapter for a whole range of ranks, and choose the rank afterwards.

DyLoRA, Valipour, Rezagholizadeh, Kobyzev and Ghodsi, arXiv 2210.07558. Start with `attach`.

From the ground up; each part imports only from those above it:

- `progress`: the progress bar
- `storage`: files that are whole or not there
- `core`: the layer, the active rank, adapters on a model
- `training`: sampling, objectives, the exact optimizer, the loop
- `evaluation`: rank sweep, metrics, ordering, choice of a rank
- `integrations`: PEFT and transformers' Trainer
- `resizing`: a trained LoRA made smaller, from its files alone
- `plots`: static figures
- `widgets`: live views: the rank slider
- `baselines`: what DyLoRA is compared with
- `synthetic`: the small English world, generated
- `tasks`: data to adapt to
- `backbones`: small pretrained models
- `lessons`: claims, exercises and the capstone of the notebooks
- `paper`: the paper's tables, measured again
- `page`: the rank slider in a browser, without a kernel
- `classroom`: what an instructor takes to a class
- `commands`: what `python -m dylora_kit` does
"""

import importlib
from typing import TYPE_CHECKING, Any

from dylora_kit.core.adapters import Adapters, attach, load
from dylora_kit.core.extraction import extract
from dylora_kit.core.handle import handle_of
from dylora_kit.core.layer import DyLoRALinear
from dylora_kit.core.rank import ActiveRank
from dylora_kit.evaluation.ordering import ordering
from dylora_kit.training.loop import train
from dylora_kit.training.objectives import (
    individual_loss,
    mixed_loss,
    sandwich_loss,
    stratified_loss,
    summation_in_one,
    summation_loss,
)
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import Categorical, Fixed, Geometric, RankDistribution, RankSampler, Uniform
from dylora_kit.training.self_distillation import nest

if TYPE_CHECKING:
    from dylora_kit.evaluation.advisor import advise
    from dylora_kit.evaluation.aurac import aurac
    from dylora_kit.evaluation.rank_per_layer import ranks_per_layer
    from dylora_kit.evaluation.select_rank import smallest_rank
    from dylora_kit.evaluation.sweep import predict, sweep
    from dylora_kit.evaluation.text_sweep import sweep_texts
    from dylora_kit.integrations.peft_import import import_peft
    from dylora_kit.integrations.peft_layers import nest_peft
    from dylora_kit.widgets.language_explorer import LanguageExplorer
    from dylora_kit.widgets.number_dial import Dial
    from dylora_kit.widgets.paper_tables import PaperTables
    from dylora_kit.widgets.prediction_box import Guess
    from dylora_kit.widgets.rank_explorer import RankExplorer

__version__ = "0.1.0"

# imported when first used, so that `import dylora_kit` costs little more than `import torch`
_LAZY = {
    "sweep": "evaluation.sweep",
    "sweep_texts": "evaluation.text_sweep",
    "predict": "evaluation.sweep",
    "import_peft": "integrations.peft_import",
    "nest_peft": "integrations.peft_layers",
    "smallest_rank": "evaluation.select_rank",
    "advise": "evaluation.advisor",
    "aurac": "evaluation.aurac",
    "ranks_per_layer": "evaluation.rank_per_layer",
    "RankExplorer": "widgets.rank_explorer",
    "LanguageExplorer": "widgets.language_explorer",
    "Guess": "widgets.prediction_box",
    "Dial": "widgets.number_dial",
    "PaperTables": "widgets.paper_tables",
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
    "LanguageExplorer",
    "NestedAdamW",
    "PaperTables",
    "RankDistribution",
    "RankExplorer",
    "RankSampler",
    "Uniform",
    "advise",
    "attach",
    "aurac",
    "extract",
    "handle_of",
    "import_peft",
    "individual_loss",
    "load",
    "mixed_loss",
    "nest",
    "nest_peft",
    "ordering",
    "predict",
    "ranks_per_layer",
    "sandwich_loss",
    "smallest_rank",
    "stratified_loss",
    "summation_in_one",
    "summation_loss",
    "sweep",
    "sweep_texts",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'dylora_kit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dylora_kit.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
