"""Faults to plant in live views."""

from planted import Fault

FAULTS: list[Fault] = [
    ("the slider does not turn the model", "widgets/rank_explorer",
     "            live.handle.rank = rank\n", "            pass\n", "widgets/test_rank_explorer"),
    ("stored numbers shown", "widgets/live_model", "if weights not in self._states:", "if not self._states:",
     "widgets/test_live_model widgets/test_explorer_training"),
    ("the step of a stopped training is lost", "widgets/live_training",
     "if moments.all[-1].step < steps_before + finished:", "if False:", "widgets/test_explorer_trouble"),
    ("a live causal model is compared with the token itself", "evaluation/sweep",
     "[metric], ranks, shift=None)", "[metric], ranks, shift=False)", "widgets/test_live_model"),
    ("frozen weights changed through .data", "widgets/live_model", "{name} {changes} {total}",
     "{name} {changes}", "widgets/test_live_model"),
    ("frozen weights in another order", "widgets/live_model", "(whole.to(torch.int64) * places).sum()",
     "whole.to(torch.int64).sum()", "widgets/test_live_model widgets/test_explorer_trouble"),
    ("what a model says without adapters is shown with them", "widgets/live_model", "{handle._active.disabled} ", "",
     "widgets/test_live_model widgets/test_explorer_trouble"),
    ("a moment moves along with the model", "widgets/snapshots", "name: tensor.detach().clone() for",
     "name: tensor.detach() for", "widgets/test_snapshots"),
    ("going back loses what the model is now", "widgets/snapshots", "        self.keep_unknown()\n        for name",
     "        for name", "widgets/test_snapshots"),
    ("the scale of a spectrum follows the rank", "widgets/svg_cards/matrices",
     "layer.most if math.isfinite(layer.most) and layer.most > 0 else 1.0", "max([*now, *full, 1e-12])",
     "widgets/test_svg_cards"),
    ("a saved picture has the slider at its end", "widgets/svg_cards/__init__", "length * (value - low) / (high - low)",
     "length", "widgets/test_svg_cards"),
]  # fmt: skip
