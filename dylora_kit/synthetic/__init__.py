"""A small English world of made-up restaurants: facts, a grammar that tells them, and texts with known answers.

In reading order:

- `names`: what the six tasks are called, their metrics and labels
- `facts`: the restaurants and what can be true of them
- `lexicon`: the ways to say each fact
- `english`: verbs, plurals, articles, comparatives
- `grammar`: descriptions of facts
- `read`: the facts of a text, read back
- `reviews`, `statements`, `comparing`, `errors`: reviews, claims, comparisons, sentences with one error
- `examples`: the rows of the six tasks
- `document_kinds`: the kinds of documents that the embedded language models read
- `corpus`: these documents, without end, for each stage of pretraining
- `build`: the command `python -m dylora_kit.synthetic`, which writes `data/world/`
"""
