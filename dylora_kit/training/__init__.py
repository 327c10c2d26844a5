"""Training adapters for a whole range of ranks. Torch alone.

In reading order:

- `batches`: from a dataset to what a model is called with
- `sampling`: how the rank b of a step is drawn (p_B)
- `objectives`: individual, summation and mixed loss, as ranks and weights
- `reached_rows`: which rows the backward passes reached
- `row_update`: AdamW on some rows of many parameters at once
- `optim`: AdamW that updates the rows of Algorithm 1 and no others
- `checkpoint`: what a training needs to go on where it stopped
- `run_settings`: what a training is asked for, checked before it starts
- `loop`: the training itself
"""
