"""A DyLoRA layer, its active rank, and adapters on a whole model. Torch alone.

In reading order:

- `rank`: the active rank b, one object per model, and what every handle on it can do
- `modes`: training and evaluation mode, changed for a block
- `low_rank_product`: the product of A and B at rank b, added to a layer's output, and its gradients (Eq. 7 and 10)
- `batch_axis`: where the examples of a batch stand in the inputs of a layer
- `low_rank`: A, B and the scale: the adapter without the layer under it (Eq. 4 to 7)
- `base_weights`: which weights ΔW can be added to, and tied ones
- `layer`: a frozen linear layer with an adapter; merging
- `fused`: query, key and value in one projection: which outputs are which, and adapters for some of them
- `saved_states`: what a model with adapters writes and reads by itself
- `targets`: which modules the user's names mean
- `merging`: the handle's part that puts layers into a model and takes them out: merge, unload, detach
- `handle`: the handle on all adapters of a model: set the rank, save, export
- `adapters`: attach and load, which return that handle
"""
