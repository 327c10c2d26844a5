"""Live views for notebooks: a slider that turns the model in the kernel.

In reading order:

- `svg_cards`: the pictures, each a function of numbers
- `live_model`: a model's answers at every rank, kept until its weights change
- `number_dial`: a slider over any number
- `dial_views`: what such a slider shows of distributions and choices of a rank
- `prediction_box`: the box for a student's guess
- `explorer_checks`: what an explorer refuses
- `rank_explorer`: the rank slider
"""
