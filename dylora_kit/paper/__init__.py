"""The paper's tables, measured again: one command, `python -m dylora_kit.paper TABLE`.

In reading order:

- `settings`: seeds, steps, batches and learning rates of every study
- `compared_methods`: the methods, and how each is trained
- `embedded`: the models and data of the embedded tier
- `jobs`: what there is to measure, one job after another
- `run_folders`: what a measurement leaves beside its rows: settings, versions, log
- `short_timing`: how long a step takes on this machine
- `runs`: keeps measurements in a results file, each done once, one after another or several at a time
- `every_rank`: measures Table 2, every method at every rank
- `real_text`: measures Table 2 with a model of your own on GLUE
- `generation`: measures Tables 6 and 9, what models write at every rank
- `training_choices`: measures Tables 4 and 7, and which rows move
- `rank_search`: measures Tables 1, 3 and 5, and Appendix A
- `layer_ranks`: measures a rank for each layer against one for all
- `row_ordering`: measures how well rows are ordered by singular value
- `published`: the paper's printed numbers
- `results_files`: what the results files say, as cells
- `judged_advice`: the rank advisor, judged by what the search found
- `nested_afterwards`: measures what a LoRA of one rank can do at the ranks below
- `epochs`: measures how good a cut LoRA is after 1 to 30 epochs, with Table 8's settings
- `nested_texts`: the same as `nested_afterwards` of a LoRA of a causal model, by what it writes
- `arena_candidates`: ways to a model for every rank, and how each spends the same time
- `arena`: measures them against each other
- `tables_beside`: each measured table next to the paper's numbers
- `tables_at_every_rank`: the tables with a column for each rank
- `tables_of_texts`: Tables 6 and 9, the paper's rows and those measured
- `budgets`: what each training of a results file was given
- `gpu_hours`: how long what was not run would take
- `compared_at_ranks`, `compared_choices`: the tables as pictures, the paper's half and the kit's
- `cut_line_up`: how the paper's LoRA may have been cut
- `later_methods`: methods that came after the paper, by cost and quality
- `side_by_side`: all of these, for `dk.PaperTables`
- `overview`: what is measured of every table, and what is not
- `options`: which options of the command fit together
- `before_start`: what a study tells before it starts: time and disk
- `cluster`: trainings on the workers of a Dask cluster
- `report`: puts those tables on the page in data/results, and prints them
"""
