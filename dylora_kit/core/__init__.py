"""A DyLoRA layer, its active rank, and adapters on a whole model. Torch alone.

In reading order:

- `rank`: the active rank b, one object per model, and what every handle on it can do
- `modes`: training and evaluation mode, changed for a block
- `low_rank_product`: the product of A and B at rank b, added to a layer's output, and its gradients (Eq. 7 and 10)
- `low_rank`: A, B and the scale: the adapter without the layer under it (Eq. 4 to 6)
- `layer`: a frozen linear layer with an adapter; merging
- `fused`: query, key and value in one projection: which outputs are which, and adapters for some of them
- `targets`: which modules the user's names mean
- `handle`: the handle on all adapters of a model: set the rank, merge, save, export, detach
- `adapters`: attach and load, which return that handle
"""
