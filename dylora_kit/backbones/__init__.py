"""The embedded backbones: small pretrained networks that come with the kit. `load` opens one.

    python -m dylora_kit.backbones digits-vit    # pretrains it again

In reading order:

- `pretrain_vit`: digits-vit
- `masking`: which tokens a masked language model is asked for
- `language_files`: what is written of a language model
- `pretrain_language`: world-roberta and world-gpt2
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from dylora_kit.storage.files import data_folder

# the module that makes each, the class of transformers that opens it, and whether it has a tokenizer
_KNOWN = {
    "digits-vit": ("pretrain_vit", "AutoModelForImageClassification", False),
    "world-roberta": ("pretrain_language", "AutoModelForSequenceClassification", True),
    "world-gpt2": ("pretrain_language", "AutoModelForCausalLM", True),
}
NAMES = tuple(_KNOWN)
_REBUILD = "rebuild it with python -m dylora_kit.backbones"


def load(name: str = "digits-vit", **options: Any) -> nn.Module:
    """An embedded backbone, in evaluation mode, by transformers' own `from_pretrained`.

    Arguments:
        name: `"digits-vit"` classifies images, `"world-roberta"` classifies texts, `"world-gpt2"` writes texts.
        options: for `from_pretrained`, such as `num_labels=3`. A new classifier is initialised from torch's seed.

    Raises `ValueError` for an unknown name and for weights that do not fit the configuration, `FileNotFoundError` if
    its folder is incomplete, and `ImportError` if transformers is older than 5.9.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 9):
        raise ImportError(f"transformers {transformers.__version__} is too old: pip install 'transformers>=5.9'")
    folder = _whole(name)
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # transformers warns of a new classifier, which is meant here
    try:
        auto_class = getattr(transformers, _KNOWN[name][1])
        model, info = auto_class.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise _other_version(name, str(error).strip().splitlines()[-1]) from error
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
    missing = [key for key in info["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")]
    if missing:
        raise _other_version(name, f"its weights lack {min(missing)}")
    return model.eval()


def tokenizer(name: str) -> Any:
    """The tokenizer of an embedded language model.

    Raises `ValueError` for a name without one and `FileNotFoundError` if its folder is incomplete.
    """
    from transformers import AutoTokenizer

    folder = _whole(name)
    if not _KNOWN[name][2]:
        raise ValueError(f"{name!r} reads pictures and has no tokenizer")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def pretrain(name: str = "digits-vit", folder: Path | None = None, *, progress: bool = True) -> dict[str, Any]:
    """Trains a backbone from random weights and writes it, with a model card, into a folder.

    Arguments:
        folder: default is the folder that `load` reads.
        progress: whether to show a bar.

    Returns the measured numbers, such as `{"validation": 0.99, "test": 0.98}`. The same machine gives the same weights
    again. Raises `ValueError` for an unknown name.
    """
    default = _folder(name)
    return import_module(f"dylora_kit.backbones.{_KNOWN[name][0]}").pretrain(name, folder or default, progress=progress)


def _other_version(name: str, why: str) -> ValueError:
    return ValueError(f"{_folder(name)} holds another version of the backbone ({why}): {_REBUILD} {name}")


def _whole(name: str) -> Path:
    """The folder of a backbone, with all its files in it."""
    folder = _folder(name)
    for file in ("config.json", "model.safetensors", *(["tokenizer.json"] if _KNOWN[name][2] else [])):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder} lacks {file}: {_REBUILD} {name}")
    return folder


def _folder(name: str) -> Path:
    if name not in _KNOWN:
        raise ValueError(f"unknown backbone {name!r}: expected one of {', '.join(map(repr, NAMES))}")
    return data_folder() / "backbones" / name
