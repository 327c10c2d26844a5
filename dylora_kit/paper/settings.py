"""What every study trains with: seeds, steps, batches and learning rates of each task at the embedded tier.

Weight decay is 0 where nothing else is said. The rates were chosen on validation parts with one seed: on digits one
rate for all methods; on the world's tasks, with batches of 32 and an earlier training of `world-roberta`, 3e-3 was for
adapters as good as 1e-2 on entailment and better on acceptability and similarity, on `describe` 1e-2 was better than
3e-3 and as good as 3e-2, and for full fine-tuning 1e-3 was as good as 3e-4. `lora_A` starts with deviation 1/√d_in, √3
times what PEFT and the authors' code draw, so their rates are not these.
"""

from typing import Any

# Table 8 lists 10, 42, 4242, 10, 1010: ten stands there twice, so a fifth one is added
SEEDS = (10, 42, 4242, 1010, 7)
R = 8  # the maximum rank
ALPHA = 16
CANDIDATES = (3e-4, 1e-3, 3e-3, 1e-2)  # learning rates that are compared on validation parts
LARGER = (1e-3, 3e-3, 1e-2, 3e-2)  # those of MatryoshkaLoRA, whose α is 1 and not 16
HEAD_RATES = (4e-3, 1e-2, 3e-2, 1e-1)  # those of a new head alone, with Adam: what is far from its start needs more

# Table 2, every method at every rank
TABLE2: dict[str, dict[str, Any]] = {
    **{
        f"digits-{domain}": {"steps": 1500, "batch_size": 32, "lr": 4e-3}
        for domain in ("turned", "permuted", "inverted")
    },
    # as many steps as train a DyLoRA in less than 40 s on two cores
    "world-sentiment": {"steps": 300, "batch_size": 32, "lr": 3e-3},
    "world-entailment": {"steps": 300, "batch_size": 32, "lr": 3e-3},
    "world-paraphrase": {"steps": 200, "batch_size": 32, "lr": 3e-3},
    "world-acceptability": {"steps": 400, "batch_size": 32, "lr": 3e-3},
    "world-similarity": {"steps": 250, "batch_size": 32, "lr": 3e-3},
    "world-describe": {"steps": 400, "batch_size": 16, "lr": 1e-2},
}
FULL_LR = 1e-3  # full fine-tuning on the world's tasks
FULL_LR_ON_TEXT = 2e-5  # and of a model of the hub: a usual one, Table 8 has none
SEEDS_OF = {"world-paraphrase": 3, "world-acceptability": 3, "world-similarity": 3, "world-describe": 3}  # others: all

# Tables 1, 3, 4, 5 and 7, updates and layers
SHORT: dict[str, dict[str, Any]] = {
    "digits-turned": {"steps": 1000, "batch_size": 32, "lr": 4e-3},
    **{task: TABLE2[task] for task in ("world-sentiment", "world-entailment", "world-acceptability")},
}
MEASURED = ("digits-turned", "world-acceptability")  # the tasks whose results come with the kit

# The arena: every candidate has the time that so many steps of the individual loss take
ARENA: dict[str, dict[str, Any]] = {
    "digits-turned": {"steps": 150, "batch_size": 32},
    "world-sentiment": {"steps": 150, "batch_size": 32},
    "world-entailment": {"steps": 150, "batch_size": 32},
    "world-acceptability": {"steps": 150, "batch_size": 32},
    "world-describe": {"steps": 150, "batch_size": 16},
}
# CPU time of a step of each kind, where one of the individual loss takes 1: medians over rounds in which the kinds took
# turns, by tests/bench/arena.py on digits-turned and world-acceptability, on a machine that had other work beside it.
# Those of the world also stand for world-describe and for models of your own
STEP_TIMES: dict[str, dict[str, float]] = {
    "digits": {"individual": 1.0, "a rank for each example": 1.06, "summation": 5.1, "sandwich": 2.59,
               "sandwich, distilled": 2.75, "parallel bottlenecks": 1.1, "houlsby bottlenecks": 1.01,
               "MatryoshkaLoRA": 1.03, "LoRA": 0.99, "nest": 3.14},
    "world": {"individual": 1.0, "a rank for each example": 1.09, "summation": 6.64, "sandwich": 2.82,
              "sandwich, distilled": 2.78, "parallel bottlenecks": 1.02, "houlsby bottlenecks": 0.99,
              "MatryoshkaLoRA": 1.01, "LoRA": 0.97, "nest": 3.23},
}  # fmt: skip
SEARCH_LR = 1e-3  # Tables 1, 3 and 5: what trains the whole model

ROBERTA_MODEL, GPT2_MODEL = "FacebookAI/roberta-base", "openai-community/gpt2-medium"  # the paper's, on the hub
# Table 8's column of RoBERTa-base, as the paper has it (texts are cut to 512 tokens); it tells no clip, 1 is Trainer's
ROBERTA: dict[str, Any] = {"lr": 4e-4, "weight_decay": 0.1, "batch_size": 32, "epochs": 30, "max_length": 512,
                           "max_grad_norm": 1.0}  # fmt: skip
# Tables 6 and 9: Table 8's column of GPT-2 medium, as the paper has it; gradients are not clipped
GPT2 = {"r": 4, "lora_alpha": 32, "lora_dropout": 0.1, "label_smoothing": 0.1, "weight_decay": 0.01, "warmup": 500,
        "lr": 2e-4, "batch_size": 8, "epochs": 5}  # fmt: skip
# Table 6 on `describe`: 2 epochs, with the rest of GPT2. On 150 validation inputs with seed 10, the slot error rate of
# DyLoRA at ranks 1 and 4 was 0.60 and 0.55 with 3e-3, and 0.93 and 0.63 with 1e-2
DESCRIBE = {"steps": 1125, "lr": 3e-3}

# CPU-seconds of one step, with the batches of TABLE2, to say beforehand how long a study takes
SECONDS_PER_STEP = {"digits": 0.016, "world-sentiment": 0.08, "world-entailment": 0.13, "world-paraphrase": 0.14,
                    "world-acceptability": 0.06, "world-similarity": 0.13, "world-describe": 0.19}  # fmt: skip
SECONDS_PER_TEXT = 0.009  # that world-gpt2 writes of `describe`


def seconds_per_step(task: str) -> float:
    """About how many CPU-seconds a step takes.

    Arguments:
        task: of the embedded tier. All digits take the same time.

    >>> seconds_per_step("digits-turned"), seconds_per_step("world-acceptability")
    (0.016, 0.06)
    """
    return SECONDS_PER_STEP["digits" if task.startswith("digits-") else task]
