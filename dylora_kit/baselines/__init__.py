"""What DyLoRA is compared with.

In reading order:

- `autoencoder`: nested dropout, and PCA
- `svd_cut`: the closest cut of a trained LoRA, and a new head for it
- `matryoshka`: MatryoshkaLoRA, all ranks summed in each step
- `in_place_distillation`: the ranks below learn what rank r answers, in the same step
- `gated_layer`: a linear layer whose rank-1 parts have gates
- `flop`: FLOP, gates that find a size
- `adalora`: AdaLoRA, by PEFT
- `bag_of_words`: the simplest classifier of texts
"""
