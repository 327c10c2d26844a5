"""Faults to plant in what cuts a LoRA from its files."""

from planted import Fault

FAULTS: list[Fault] = [
    ("how it was started is copied", "resizing/peft_folder", '{"dylora", "init_lora_weights",', '{"dylora",',
     "resizing/test_resize"),
    ("a cut keeps the α of the whole", "resizing/adapter_file",
     "self.lora_alpha * (math.sqrt(b / self.r) if self.rslora else b / self.r)", "self.lora_alpha",
     "resizing/test_resize resizing/test_kohya_file"),
    ("a cut under rsLoRA takes α as without it", "resizing/adapter_file",
     "self.lora_alpha * (math.sqrt(b / self.r) if self.rslora else b / self.r)", "self.lora_alpha * b / self.r",
     "resizing/test_resize"),
    ("a budget is spent without the scales of layers", "resizing/adapter_file",
     " * abs(self.layers[name].scale)", "", "resizing/test_resize commands/test_command_line"),
    ("a budget is spent by energy and not by energy per parameter", "resizing/rank_choice",
     "(energy / costs[name], name, before)", "(energy, name, before)", "resizing/test_rank_choice"),
    ("the energy of a layer is the sum of its singular values", "resizing/rank_choice",
     "s.double().square().cumsum(0)", "s.double().cumsum(0)", "resizing/test_rank_choice"),
    ("layers that stay as they are get the rank of the cut", "resizing/peft_folder",
     "layers = self.layers | self.fixed\n        ranks", "layers = self.layers\n        ranks",
     "resizing/test_resize"),
    ("an adapter of another rank than its config's", "resizing/peft_folder", "if r != layer.r:", "if False:",
     "resizing/test_resize"),
    ("the adapter itself is replaced", "resizing/peft_folder", "if out.resolve() == self.path.resolve():",
     "if out == self.path:", "resizing/test_resize"),
    ("a hash of the old weights stays in the header", "resizing/kohya_file", "if key not in HASHES}", "}",
     "resizing/test_kohya_file"),
    ("α of a file is kept in half precision", "resizing/kohya_file", "dtype=torch.float32)", "dtype=torch.int32)",
     "resizing/test_kohya_file"),
]  # fmt: skip
