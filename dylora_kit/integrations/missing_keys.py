"""What transformers' Trainer says of missing keys, where a checkpoint of adapters alone is the reason."""

import logging
from typing import Any

from torch import nn

from dylora_kit.core.saved_states import handle_in, trained_tensors

TRAINER = "transformers.trainer"  # the name of the log in which it says so


class ExpectedMissing(logging.Filter):
    """A hook after a model's `load_state_dict`, and a filter of the Trainer's log.

    A checkpoint of adapters holds all that is trained and not the base, whose weights the Trainer then lists as missing
    keys. That one message is left out of the log, and any other is not: one about a state that lacks something that is
    trained, or a second one. The hook changes nothing in what `load_state_dict` returns or raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[str] = []  # names of the base weights that the state loaded last did not have

    def __reduce__(self) -> Any:
        return type(self), ()

    def __call__(self, model: nn.Module, keys: Any) -> None:
        """After a model has loaded a state; `keys` has the names that were missing."""
        self.forget()
        trained = trained_tensors(model) if handle_in(model) is not None else {}
        base = model.state_dict().keys() - trained.keys()
        if trained and keys.missing_keys and base.issuperset(keys.missing_keys):
            self.expected = list(keys.missing_keys)
            logging.getLogger(TRAINER).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message goes into the log: not if it lists just these names."""
        listed = bool(self.expected) and str(self.expected) in record.getMessage()
        if listed:
            self.forget()
        return not listed

    def forget(self) -> None:
        """Lets every message pass."""
        self.expected = []
        logging.getLogger(TRAINER).removeFilter(self)
