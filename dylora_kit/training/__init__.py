"""Training adapters for a whole range of ranks. Torch alone.

In reading order:

- `sampling`: how the rank b of a step is drawn (p_B)
- `objectives`: individual, summation and mixed loss, as ranks and weights
- `row_update`: which rows the gradients reach, and AdamW on them alone
- `optim`: AdamW that updates the rows of Algorithm 1 and no others
- `data_fingerprint`: what a checkpoint remembers of the training data
- `checkpoint`: what a training needs to go on where it stopped
- `run_settings`: what a training is asked for, checked before it starts
- `loop`: the training itself
"""
