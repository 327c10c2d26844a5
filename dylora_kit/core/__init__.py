"""A DyLoRA layer, its active rank, and adapters on a whole model. Torch alone.

In reading order:

- `names`: names of modules that are the same whether a model is compiled, wrapped or neither
- `rank`: the active rank b, one object per model
- `rank_handle`: what every handle on a model's rank can do
- `modes`: training and evaluation mode, changed for a block
- `low_rank_product`: the product of A and B at rank b, added to a layer's output, and its gradients (Eq. 7 and 10)
- `calls`: what a module hands to its children, read from its source
- `row_order`: whether a module keeps its examples in order on the way to its children
- `batch_axis`: where the examples of a batch stand in the inputs of a layer
- `low_rank`: A, B and the scale: the adapter without the layer under it (Eq. 4 to 6)
- `base_weights`: which weights ΔW can be added to, and tied ones
- `offload`: models whose weights accelerate keeps on the CPU or on disk
- `layer`: a frozen linear layer with an adapter; merging
- `bottleneck`: the same with an activation between A and B
- `torch_layers`: torch's own transformer layers, kept from a path past their children
- `splits`: which outputs of each architecture's fused projection are query, key and value
- `fused`: query, key and value in one projection: its parts by name, and adapters for some of them
- `weight_reads`: layers whose weight is read past their forward
- `attention`: what "attention" means: query and value of every self-attention
- `blocks`: which blocks of a model are meant, and which ones got no adapter
- `experts`: weights that are plain Parameters, to which no adapter can be added
- `patterns`: ranks and alphas for some layers, by name or expression
- `matching`: the user's names and the names of a model's modules
- `targets`: which modules the user's names mean
- `heads`: weights that are new in a model, such as a head
- `base_record`: what a model was when adapters were attached, and what has changed since
- `saving`: what must hold before adapters are saved
- `saved_states`: what a model with adapters writes and reads by itself
- `merging`: the handle's part that puts layers into a model and takes them out: merge, unload, detach
- `writing`: the handle's part that fills adapters from files and writes them: save, export
- `rotation`: A and B rotated, so that every prefix is the closest cut
- `growing`: matrices of a larger maximum rank
- `handle`: the handle on all adapters of a model
- `adapters`: attach and load, which return that handle
- `extraction`: the adapters in a model that was fully fine-tuned
"""
