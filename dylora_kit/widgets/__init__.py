"""Live views for notebooks: a slider that turns the model in the kernel.

In reading order:

- `svg_cards`: the pictures, each a function of numbers
- `browser_side`: what a live view needs of the browser, in JavaScript
- `same_model`: what one view does to a model, others of that model show
- `live_view`: what every live widget shares: rows of controls, the picture, the whole screen
- `number_dial`: a slider over any number
- `dial_views`: what such a slider shows of distributions and choices of a rank
- `paper_tables`: a paper's tables beside what was measured again
- `prediction_box`: the box for a student's guess
- `fingerprint`: how a model is known to be the same as before
- `live_model`: a model's answers at every rank, kept until its weights change
- `answer_table`: the answers to one input, for every method and rank
- `drawing_pad`: the grid to draw in
- `own_input`: a drawing or a sentence of your own, and the answers to it
- `snapshots`: what a model was at moments of its training, and the way back
- `time_controls`: the slider and the player that choose such a moment
- `live_training`: the training of a live model, step by step, and its controls
- `own_forward`: a forward pass of the user's own in a live model
- `live_writer`: a model's texts at every rank, token by token, kept until its weights change
- `written_page`: those texts, with their facts marked
- `language_explorer`: the rank slider over what a model writes
- `explorer_checks`: what an explorer refuses
- `compared_models`: the live models of an explorer, and the way back to what they were
- `live_scene`: what an explorer's cards show, as numbers
- `trained_view`: a live view whose model can be trained
- `rank_controls`: the controls of rank, method and layer
- `rank_explorer`: the rank slider
"""
