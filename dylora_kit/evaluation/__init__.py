"""Evaluation of a trained model at each rank, and the choice of a rank.

In reading order:

- `metrics`: accuracy, F1 and others, by name
- `running`: the same, and the model's own loss, added up batch by batch
- `at_ranks`: a model run over data at several ranks, and what is kept of its outputs
- `writing`: what a causal model writes after prompts
- `facts`: what a text made of the facts that it should tell
- `ngram_metrics`: NIST, ROUGE-L and CIDEr of tokens
- `edit_rate`: TER of tokens
- `text_metrics`: BLEU and others of texts beside references, and how sure a BLEU is
- `sweep`: one model, evaluated at every rank
- `aurac`: one number for all ranks, the area under the curve of a sweep
- `text_sweep`: what one model writes at every rank, and how good it is
- `ordering`: how much of ΔW its first b rows and columns span
- `select_rank`: the smallest rank that is good enough, one for all layers
- `serving_limits`: which ranks vLLM and SGLang serve
- `measured_before`: LoRAs of one rank beside DyLoRAs, and how often advice was right
- `advice`: what the rank advisor found, to read and to paste
- `advisor`: which rank to take, how sure that is, and what each rank costs
- `rank_per_layer`: a rank for each layer, within a budget
"""
