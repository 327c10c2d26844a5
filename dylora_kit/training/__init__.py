"""Training adapters for a whole range of ranks. Torch alone.

In reading order:

- `batches`: from a dataset to what a model is called with
- `sampling`: how the rank b of a step is drawn (p_B)
- `objectives`: individual, summation and mixed loss, as ranks and weights
- `next_token`: whether a model's outputs are about the next token
- `counting`: a model's own loss, and over how many labels it is the mean
- `row_update`: decides which rows a step updates, and does AdamW on them
- `optim`: the optimizer that a user makes, `NestedAdamW`
- `data_fingerprint`: what a checkpoint remembers of the training data
- `code_fingerprint`: what a checkpoint remembers of functions
- `checkpoint`: what a training needs to go on where it stopped
- `run_settings`: the arguments of a training, checked before it starts
- `own_step`: a training step of the user's own
- `loop`: `train`, to be read beside Algorithm 1
- `teacher`: the answers of a model as it was, and how far it is from them at a rank
- `self_distillation`: `nest`, which gives any LoRA all its ranks
"""
