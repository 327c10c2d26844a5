"""DyLoRA in a script that uses `transformers.Trainer`: a callback beside the optimizer."""

from collections.abc import Iterable
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dylora_kit.adapt import Adapters
from dylora_kit.rank import check_rank
from dylora_kit.sampling import RankSampler


class DyLoRACallback(TrainerCallback):
    """Draws the rank of each optimizer step, and evaluates at several ranks.

        callback = DyLoRACallback(adapters, sampler)
        trainer = Trainer(..., optimizers=(NestedAdamW(adapters, lr=1e-3), None), callbacks=[callback])
        callback.sweep(trainer)

    One b is drawn per optimizer step, for all its micro-batches. Between steps the rank is what it was before training,
    so nothing is ever evaluated or saved at a drawn one. What is drawn at a step follows from the sampler's seed and
    the number of the step alone: processes agree, and a run that resumes draws what it would have drawn.

    Each checkpoint also gets a folder `adapter`, which `dylora_kit.load` reads.

    Arguments:
        adapters: the handle on the model that is trained.
        sampler: draws b. It is started anew at the beginning of training.
    """

    def __init__(self, adapters: Adapters, sampler: RankSampler) -> None:
        adapters.check_usable()
        if sampler.distribution.hi > adapters.r:
            raise ValueError(f"the sampler draws ranks up to {sampler.distribution.hi}, but r = {adapters.r}")
        self.adapters, self.sampler = adapters, sampler
        self._rank = adapters.rank
        self._trainer: Trainer | None = None
        self._ranks: list[int] = []

    def sweep(self, trainer: Trainer, ranks: Iterable[int] | None = None) -> None:
        """From here on, every evaluation of the trainer also evaluates at these ranks (default: 1 to r).

        A metric `eval_accuracy` then comes with `eval_accuracy_rank_1` and so on, and with their mean,
        `eval_accuracy_mean`. Any of them can be the trainer's `metric_for_best_model`.
        """
        self._trainer = trainer
        wanted = range(1, self.adapters.r + 1) if ranks is None else ranks
        self._ranks = [check_rank(rank, self.adapters.r) for rank in wanted]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the sampler where this step of the run has it."""
        self.adapters.check_usable()
        self._rank = self.adapters.rank
        self.sampler.restart(state.global_step)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draws b for the step that begins."""
        self.adapters.rank = self.sampler.draw()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Gives the rank back."""
        self.adapters.rank = self._rank

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
        prefix = next((key[: -len("loss")] for key in metrics if key.endswith("_loss")), "eval_")
        found: dict[str, float] = {}
        names: dict[str, list[float]] = {}
        for rank in self._ranks:
            with self.adapters.at(rank):
                output = self._trainer.evaluation_loop(
                    eval_dataloader, f"Evaluation at rank {rank}", metric_key_prefix=prefix[:-1]
                )
            for key, value in (output.metrics or {}).items():
                if key.startswith(prefix) and not key.endswith(("_runtime", "_per_second")):
                    found[f"{key}_rank_{rank}"] = value
                    names.setdefault(key, []).append(value)
        found |= {f"{key}_mean": sum(values) / len(values) for key, values in names.items()}
        metrics.update(found)
        self._trainer.log(found)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves the adapters beside the trainer's own files."""
        if state.is_world_process_zero:
            self.adapters.save(f"{args.output_dir}/checkpoint-{state.global_step}/adapter")
