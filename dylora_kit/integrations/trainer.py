"""DyLoRA in a script that uses `transformers.Trainer`: a callback beside the optimizer."""

import json
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dylora_kit.core.handle import Adapters
from dylora_kit.core.rank import Rank, check_rank
from dylora_kit.core.saved_states import trained_tensors
from dylora_kit.integrations.before_loading import BeforeLoading
from dylora_kit.integrations.missing_keys import ExpectedMissing
from dylora_kit.training.checkpoint import FROZEN, check_same_settings, check_trained_here, frozen_parameters
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.run_settings import check_in_model, check_sampler, check_trains, data_and_base
from dylora_kit.training.sampling import RankSampler

RECORDED = "dylora"  # under which the trainer's state keeps what the adapters' training depends on
TIMES = ("_runtime", "_per_second", "_time")  # ends of metrics that say how long an evaluation took


class DyLoRACallback(TrainerCallback):
    """Draws the rank of each optimizer step, and evaluates at several ranks. In use:

        callback = DyLoRACallback(adapters, sampler)
        trainer = Trainer(..., optimizers=(NestedAdamW(adapters, lr=1e-3), None), callbacks=[callback])
        callback.sweep(trainer)

    One b is drawn per optimizer step, for all its micro-batches. Between steps the rank is what it was before training,
    so nothing is evaluated or saved at a drawn rank. After an error within a step the drawn rank stays until training
    starts again, or until you set another. What is drawn at a step follows from the sampler's seed and the number of
    the step alone: processes agree, and a run that resumes draws what it would have drawn.

    A checkpoint of the trainer, and the folder that its `save_model` writes, hold the adapters and whatever else is
    trained, and not the base model; `dylora_kit.load` reads them. Each checkpoint also gets a folder `adapter` with the
    adapters alone. To resume, attach the same adapters to the same base model. A run with other adapters, another base
    or other data (64 examples are looked at) is refused, and model and optimizer are given back what they held.
    Parameters that were frozen when the checkpoint was written are frozen again. What the trainer itself is given, such
    as its arguments, a collator or a loss, is not compared here.

    Callbacks that look at what the sweep adds, such as transformers' `EarlyStoppingCallback`, have to stand after this
    one in the trainer's list.

    Arguments:
        adapters: the handle on the model that is trained.
        sampler: draws b. It is started anew at the beginning of training.
    """

    def __init__(self, adapters: Adapters, sampler: RankSampler) -> None:
        adapters.check_usable()
        check_sampler(sampler, adapters)
        self.adapters, self.sampler = adapters, sampler
        self._outside: Rank | None = None  # the rank to give back, while a step is open
        self._before, self._missing = BeforeLoading(), ExpectedMissing()
        adapters.model.register_load_state_dict_pre_hook(self._before)
        adapters.model.register_load_state_dict_post_hook(self._missing)
        self._trainer: Trainer | None = None
        self._ranks: list[int] = []

    def sweep(self, trainer: Trainer, ranks: Iterable[int] | None = None) -> None:
        """From here on, every evaluation of the trainer also evaluates at these ranks (default: 1 to r).

        A metric `eval_accuracy` then comes with `eval_accuracy_rank_1` and so on, and with their mean,
        `eval_accuracy_mean`. Any of them can be the trainer's `metric_for_best_model`.

        Raises `ValueError` for a trainer of another model, or without this callback.
        """
        if self not in trainer.callback_handler.callbacks:
            raise ValueError("this trainer does not have the callback: make it with callbacks=[callback]")
        self.adapters.check_usable(trainer.model)
        self._trainer = trainer
        wanted = range(1, self.adapters.r + 1) if ranks is None else ranks
        self._ranks = [check_rank(rank, self.adapters.r) for rank in wanted]

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watches what is loaded into the trainer's optimizer, if it has one by now."""
        optimizer = kwargs.get("optimizer")
        if optimizer is not None:
            self._before.watch(optimizer)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the sampler where this step of the run has it.

        Raises `ValueError` if model or optimizer are not those of the adapters, and for a run that goes on with other
        adapters, another base, other data, another sampler or another kind of update than it began with; warns of an
        optimizer that moves rows which were not drawn.
        """
        try:
            self._begin(state, saves=args.save_strategy != "no", **kwargs)
        except BaseException:
            self._before.give_back()
            raise
        self._let_go()
        self._give_back()
        self.sampler.restart(state.global_step)

    def _begin(self, state: TrainerState, saves: bool, **kwargs: Any) -> None:
        """Compares this run with the one that it goes on with, if it does, and records it."""
        self.adapters.check_usable(kwargs.get("model"))
        self.adapters.check_unmerged("training")
        check_sampler(self.sampler, self.adapters)
        optimizer = kwargs.get("optimizer")
        _check_optimizer(self.adapters, optimizer, saves)
        recorded = self._recorded(optimizer, getattr(kwargs.get("train_dataloader"), "dataset", None))
        if state.global_step:
            self._check_resumed(state.stateful_callbacks.get(RECORDED), recorded)
        state.stateful_callbacks[RECORDED] = recorded
        self._note_frozen(state)

    def _check_resumed(self, saved: Any, recorded: dict[str, Any]) -> None:
        """Raises `ValueError` if a run that resumes differs from its checkpoint; freezes what was frozen then."""
        if not isinstance(saved, dict):
            warnings.warn(
                "the checkpoint does not say how its adapters were trained: nothing was compared", stacklevel=4
            )
            return
        saved = dict(saved)
        frozen = saved.pop(FROZEN, None)  # older checkpoints do not say
        check_same_settings(saved, recorded)
        if frozen is not None:
            weights = trained_tensors(self.adapters.model)
            check_trained_here(weights, frozen)
            for name in weights.keys() & set(frozen):
                weights[name].requires_grad_(False)

    def _note_frozen(self, state: TrainerState) -> None:
        """Records which of the parameters that are trained at some time are frozen now."""
        state.stateful_callbacks[RECORDED][FROZEN] = frozen_parameters(trained_tensors(self.adapters.model))

    def _recorded(self, optimizer: Any, data: Any) -> dict[str, Any]:
        """What the adapters after a step depend on, as JSON gives it back."""
        inner = getattr(optimizer, "optimizer", optimizer)
        content = {
            **self.adapters.settings(),
            "update": getattr(inner, "update", None),
            "probabilities": self.sampler.distribution.probabilities,
            "sampler_seed": self.sampler.seed,
            **data_and_base(data, self.adapters),
        }
        return json.loads(json.dumps(content))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draws b for the step that begins."""
        self._give_back()
        self._outside, self.adapters.rank = self.adapters.rank, self.sampler.draw()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Gives the rank back."""
        self._give_back()
        if control.should_save:
            self._note_frozen(state)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Records what is frozen, for a checkpoint at the end of an epoch."""
        if control.should_save:
            self._note_frozen(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lets go of what the model held before the best one was loaded."""
        self._let_go()

    def _let_go(self) -> None:
        self._before.forget()
        self._missing.forget()

    def _give_back(self) -> None:
        if self._outside is not None:
            self.adapters.rank, self._outside = self._outside, None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Adds the metrics at each rank to those of the trainer, on the data that it has just evaluated."""
        if self._trainer is None or metrics is None:
            return
        prefix = min((key[: -len("runtime")] for key in metrics if key.endswith("_runtime")), key=len)
        at_ranks: dict[str, float] = {}
        values_of: dict[str, list[float]] = {}  # by metric, over the ranks
        for rank in self._ranks:
            with self.adapters.at(rank):
                output = self._trainer.evaluation_loop(
                    eval_dataloader,
                    f"Evaluation at rank {rank}",
                    prediction_loss_only=True if self._trainer.compute_metrics is None else None,  # as in evaluate()
                    metric_key_prefix=prefix[:-1],
                )
            for key, value in (output.metrics or {}).items():
                if key.startswith(prefix) and isinstance(value, int | float | np.number) and not key.endswith(TIMES):
                    at_ranks[f"{key}_rank_{rank}"] = float(value)
                    values_of.setdefault(key, []).append(float(value))
        at_ranks |= {f"{key}_mean": sum(values) / len(values) for key, values in values_of.items()}
        metrics.update(at_ranks)
        self._trainer.log(at_ranks)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves the adapters beside the trainer's own files."""
        if state.is_world_process_zero:
            self.adapters.save(f"{args.output_dir}/checkpoint-{state.global_step}/adapter")


def _check_optimizer(adapters: Adapters, optimizer: Any, saves: bool) -> None:
    """Raises `ValueError` for an optimizer of other parameters, and warns of one that moves rows not drawn.

    Also for one with more than the model's parameters, if the trainer `saves` checkpoints.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    if not hasattr(inner, "param_groups"):
        return
    check_trains(inner, adapters, "the trainer's optimizer")
    if saves:
        check_in_model(inner, adapters.model)
    if not isinstance(inner, NestedAdamW):
        warnings.warn(
            f"with {type(inner).__name__} rows move that were not drawn, as in the authors' code: for the exact update "
            "pass optimizers=(NestedAdamW(adapters, …), None)",
            stacklevel=2,
        )
