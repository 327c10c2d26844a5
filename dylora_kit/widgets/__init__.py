"""Live views for notebooks: a slider that turns the model in the kernel.

In reading order:

- `svg_cards`: the pictures, each a function of numbers
- `live_view`: what every live widget shares: rows of controls, the picture, names for screen readers
- `number_dial`: a slider over any number
- `dial_views`: what such a slider shows of distributions and choices of a rank
- `prediction_box`: the box for a student's guess
- `fingerprint`: how a model is known to be the same as before
- `live_model`: a model's answers at every rank, kept until its weights change
- `snapshots`: what a model was at moments of its training, and the way back
- `time_controls`: the slider and the player that choose such a moment
- `live_training`: the training of a live model, step by step, and its controls
- `own_forward`: a forward pass of the user's own in a live model
- `live_writer`: a model's texts at every rank, token by token, kept until its weights change
- `written_page`: those texts, with their facts marked
- `language_explorer`: the rank slider over what a model writes
- `explorer_checks`: what an explorer refuses
- `live_scene`: what an explorer's cards show, as numbers
- `rank_explorer`: the rank slider
"""
