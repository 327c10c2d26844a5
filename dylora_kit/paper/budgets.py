"""What each training of a results file was given: its steps, batches and passes, and the time that it took."""

from pathlib import Path

import pandas as pd

from dylora_kit.paper.results_files import results_of
from dylora_kit.paper.training_choices import CHOICES, PASSES
from dylora_kit.training.objectives import individual_loss

STUDIES = {"table4": "distributions", "table7": "objectives", "updates": "updates"}  # those that trained by a choice


def budgets(folder: Path, task: str = "digits-turned") -> pd.DataFrame:
    """One row for each way of training that was compared, the paper's own first.

    Arguments:
        folder: where the results files are.
        task: such as `"digits-turned"`.

    The columns are method, steps, batch_size, passes (of a batch in a step), cpu_seconds (the mean over seeds) and
    value (the mean over ranks and seeds). Methods that were not measured are left out.

    >>> from dylora_kit.storage.files import data_folder
    >>> print(*budgets(data_folder() / "results").loc[0, ["method", "steps", "passes"]])
    uniform 1000 1
    """
    rows = []
    for stem, kind in STUDIES.items():
        measured = dict(list(results_of(folder, stem, task).groupby("method")))
        for method, choice in CHOICES[kind].items():
            if method not in measured:
                continue
            frame = measured[method]
            rows.append(
                {
                    "method": method,
                    "steps": int(frame["steps"].iloc[0]) * choice.get("longer", 1),
                    "batch_size": int(frame["batch_size"].iloc[0]),
                    "passes": PASSES.get(choice.get("objective", individual_loss), 1),
                    "cpu_seconds": frame["cpu_seconds"].mean(),
                    "value": frame["value"].mean(),
                }
            )
    return pd.DataFrame(rows)
