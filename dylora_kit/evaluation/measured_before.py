"""What the kit has measured that advice rests on: LoRAs of one rank beside DyLoRAs, and how often advice was right.

The numbers are those of `data/results/search-*.csv` and `advisor.csv`; `paper.judged_advice` computes them, and tests
compare.
"""

from math import log

# (task and metric, r of the DyLoRA) → {rank: points by which one LoRA of that rank was better, the mean of five seeds}
AHEAD: dict[tuple[str, int], dict[int, float]] = {
    ("turned digits (accuracy)", 8): {1: 10.12, 2: 2.85, 3: 0.6, 4: -0.07, 5: 0.47, 6: 0.7, 7: 1.24, 8: 1.54},
    ("turned digits (accuracy)", 32): {
        1: 25.36, 2: 13.87, 3: 5.96, 4: 3.25, 5: 3.08, 6: 2.35, 7: 1.41, 8: 0.97, 16: -0.07, 32: 1.11,
    },
    ("acceptability (Matthews)", 8): {1: 3.03, 2: 2.64, 3: 0.16, 4: 0.96, 5: 2.16, 6: 1.66, 7: 1.43, 8: 1.83},
    ("acceptability (Matthews)", 32): {
        1: 7.26, 2: 3.72, 3: 1.58, 4: 3.19, 5: 1.77, 6: 1.11, 7: 1.99, 8: 1.51, 16: 1.12, 32: 1.5,
    },
}  # fmt: skip

# r of the DyLoRA → in how many of ten cases, with a tolerance of 0.01, the right rank was found: by the rule of the
# advisor from one DyLoRA, and by the same rule from one LoRA for each rank
HITS = {8: (4, 3), 32: (1, 4)}


def measured_ahead(rank: int, r: int) -> tuple[int, int, dict[str, float]]:
    """What was measured closest to a rank of a DyLoRA of maximum rank r, by their ratios.

    Returns the rank and the r of those measurements, and by how many points one LoRA was better, by task.

    >>> measured_ahead(3, 8)
    (3, 8, {'turned digits (accuracy)': 0.6, 'acceptability (Matthews)': 0.16})
    >>> measured_ahead(12, 64)[:2]
    (16, 32)
    """
    near_r = _nearest(r, {measured for _, measured in AHEAD})
    near = _nearest(rank, set.intersection(*(set(points) for (_, of), points in AHEAD.items() if of == near_r)))
    return near, near_r, {task: points[near] for (task, of), points in AHEAD.items() if of == near_r}


def would_one_lora_do_better(rank: int, r: int) -> str:
    """Whether one LoRA of a rank would be better than a DyLoRA of maximum rank r at it, as sentences.

    >>> would_one_lora_do_better(3, 8).split(":")[0]
    'One LoRA trained for rank 3 alone would probably be better, by about 0.2 to 0.6 points'
    """
    near, near_r, points = measured_ahead(rank, r)
    low, high = min(points.values()), max(points.values())
    guess = f"probably be better, by about {low:.1f} to {high:.1f} points" if low >= 0.05 else \
            f"be about as good, or better by up to {high:.1f} points"  # fmt: skip
    return (
        f"One LoRA trained for rank {rank} alone would {guess}: the kit's own measurements beside DyLoRAs, at rank "
        f"{near} of r = {near_r}, on {' and '.join(points)}, five seeds each. Your task may differ, and so may a LoRA "
        "that was ordered or nested."
    )


def how_often_right(r: int) -> str:
    """In how many cases the rule of the advisor found the right rank from a DyLoRA of about this r, as a sentence.

    >>> how_often_right(8).split(",")[0]
    'Where the right rank is known (r = 8'
    """
    near_r = _nearest(r, set(HITS))
    advisor, search = HITS[near_r]
    return (
        f"Where the right rank is known (r = {near_r}, two tasks, five seeds, a tolerance of 0.01) this rule found it "
        f"in {advisor} of 10 cases, and a search with one LoRA for each rank in {search} of 10."
    )


def _nearest(number: int, measured: set[int]) -> int:
    return min(sorted(measured), key=lambda other: abs(log(number / other)))
