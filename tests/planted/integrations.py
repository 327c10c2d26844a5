"""Faults to plant in PEFT and the Trainer."""

from planted import Fault

FAULTS: list[Fault] = [
    ("a folder of this kit loses its scale in an import", "integrations/peft_import",
     'own.get("scaling") if isinstance(own, dict) else None', "None", "integrations/test_peft_import"),
    ("the Trainer's rank is left", "integrations/trainer",
     "            self.adapters.rank, self._outside = self._outside, None\n", "            self._outside = None\n",
     "integrations/test_trainer"),
    ("every process saves under the Trainer", "integrations/trainer", "if state.is_world_process_zero:", "if True:",
     "integrations/test_trainer"),
    ("PEFT's own scale counts twice", "integrations/peft_layers", "adapter.add_to(h, x) / layer.scaling[name]",
     "adapter.add_to(h, x)", "integrations/test_peft_layers"),
    ("rslora imported at α/r", "integrations/peft_import",
     "alphas[name] / (math.sqrt(layer.r) if rslora else layer.r)", "alphas[name] / layer.r",
     "integrations/test_peft_import"),
    ("PEFT's copies stay off", "core/rank", "                    also(False)", "                    pass",
     "integrations/test_peft_layers"),
    ("PEFT's copies answer without adapters", "integrations/peft_layers", "wrapper._disable_adapters = off", "pass",
     "integrations/test_peft_layers"),
    ("nested layers leave autocast's type", "integrations/peft_layers",
     "torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype", "x.dtype",
     "integrations/test_peft_layers"),
    ("a resumed Trainer draws from the start", "integrations/trainer", "self.sampler.restart(state.global_step)",
     "self.sampler.restart()", "integrations/test_trainer"),
    ("the Trainer resumes with other settings", "integrations/trainer", "if state.global_step:", "if False:",
     "integrations/test_trainer"),
    ("a refused Trainer keeps what it has loaded", "integrations/before_loading",
     "            tensor.copy_(self._kept[name])\n", "            pass\n", "integrations/test_trainer_resume"),
    ("other missing keys are left out of the log", "integrations/missing_keys", "base.issuperset(keys.missing_keys)",
     "True", "integrations/test_trainer_resume"),
]  # fmt: skip
