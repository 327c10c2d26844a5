"""The paper's tables, measured again: one command, `python -m dylora_kit.paper TABLE`.

In reading order:

- `settings`: seeds, steps, batches and learning rates of every study
- `compared_methods`: the methods, and how each is trained
- `embedded`: the models and data of the embedded tier
- `runs`: measurements that are kept, each done once
- `every_rank`: Table 2, every method at every rank
- `real_text`: Table 2 with a model of your own on GLUE
- `training_choices`: Tables 4 and 7, and which rows move
- `rank_search`: Tables 1, 3 and 5, and Appendix A
- `layer_ranks`: a rank for each layer
- `row_ordering`: how well rows are ordered by singular value
- `published`: the paper's printed numbers
- `results_files`: what the results files say, as cells
- `tables_beside`, `tables_at_every_rank`: the tables, from those files
- `report`: the tables beside the paper's, and the page in data/results
"""
