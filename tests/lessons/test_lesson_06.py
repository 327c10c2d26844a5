"""What lesson 06 counts: states of facts that never occur, and texts without an error, are there with 0."""

import pandas as pd

from dylora_kit import plots
from dylora_kit.lessons import lesson_06

# two ranks, three rows; nothing is added and rank 8 makes no error
FACTS = pd.DataFrame(
    [(1, 0, "said"), (1, 0, "missing"), (1, 2, "wrong"), (1, 2, "wrong"), (8, 0, "said"), (8, 2, "said")],
    columns=["rank", "row", "state"],
)


def test_a_state_that_never_occurs_has_a_curve_at_0() -> None:
    shares = lesson_06.shares_of_states(FACTS)
    by_state = shares.pivot(index="method", columns="rank", values="value")
    assert by_state.loc["added"].tolist() == [0, 0]
    assert by_state.loc["missing"].tolist() == [0.25, 0]
    plots.rank_curves(shares, "facts", methods=["said", "wrong", "missing", "added"])


def test_added_facts_are_not_among_those_that_are_given() -> None:
    added = pd.concat([FACTS, pd.DataFrame({"rank": [1], "row": [1], "state": ["added"]})])
    by_state = lesson_06.shares_of_states(added).pivot(index="method", columns="rank", values="value")
    assert by_state[1].to_dict() == {"said": 0.25, "wrong": 0.5, "missing": 0.25, "added": 0.25}


def test_a_text_without_an_error_counts_with_0() -> None:
    errors = lesson_06.errors_of_texts(FACTS, rows=4)
    assert errors.loc[1].tolist() == [1, 0, 2, 0]
    assert errors.loc[8].tolist() == [0, 0, 0, 0]
