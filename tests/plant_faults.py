"""Plants faults in a copy of the library, one at a time, and shows which test catches each. Run by hand:

python tests/plant_faults.py            # all of them, a few minutes on two cores
python tests/plant_faults.py dropout    # those whose name has the word
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
# by wing: what goes wrong, the file, the code as it is, the code with the fault, and the tests that should notice
FAULTS: list[tuple[str, str, str, str, str]] = [
    # the product
    ("scale over r", "core/low_rank", "alpha, b, r: alpha / b", "alpha, b, r: alpha / r", "core/test_layer"),
    ("scale over b where it is over √b", "core/low_rank", "alpha / math.sqrt(b)", "alpha / b", "core/test_layer"),
    ("reversed prefix", "core/low_rank_product", "_cast(A[:b], dtype).T  # (n", "_cast(A[-b:], dtype).T  # (n",
     "core/test_layer"),
    ("last columns of B", "core/low_rank_product",
     "columns = _cast(B[:, :b], dtype).T", "columns = _cast(B[:, -b:], dtype).T",
     "core/test_layer"),
    ("frozen ignored", "core/low_rank", "low, scale, gate, mask = (b - 1 if frozen else 0)",
     "low, scale, gate, mask = (0)", "core/test_layer"),
    ("no gradient through the adapter to x", "core/low_rank_product",
     "(g @ weight).addmm_(grad_z.T, rows)", "(g @ weight)",
     "core/test_layer"),
    ("gradient of B without its scale", "core/low_rank_product",
     ".T @ g).mul_(ctx.scale)", ".T @ g)", "core/test_layer"),
    ("gradient of A one row off", "core/low_rank_product", "(0, 0, low, A.shape[0] - b)", "(0, 0, A.shape[0] - b, low)",
     "core/test_layer"),
    ("a second derivative takes z for a constant", "core/low_rank_product", "if torch.is_grad_enabled():", "if False:",
     "core/test_derivatives"),
    ("torch.func takes the plain function", "core/low_rank", "torch._C._are_functorch_transforms_active()", "False",
     "core/test_derivatives"),
    ("the product's type under autocast", "core/low_rank",
     "dtype = h.dtype if torch.is_autocast_enabled(x.device.type) else self.lora_A.dtype", "dtype = self.lora_A.dtype",
     "core/test_layer"),
    ("dropout in evaluation", "core/low_rank", "F.dropout(x, self.lora_dropout, self.training)",
     "F.dropout(x, self.lora_dropout, True)", "core/test_layer"),
    ("dropout skipped on the fast path", "core/layer", "and not (self.lora_dropout and self.training)", "and True",
     "core/test_layer"),
    ("the fast path past hooks", "core/layer",
     "and not (base._forward_hooks or base._forward_pre_hooks or base._backward_hooks or base._backward_pre_hooks)",
     "and True", "core/test_layer"),
    ("the fast path past a replaced forward", "core/layer", 'and "forward" not in base.__dict__', "and True",
     "core/test_layer"),
    ("one example's rank for its neighbour", "core/low_rank", "ranks[:, None]) * scales[ranks - 1, None]",
     "ranks[:, None]) * scales[ranks.flip(0) - 1, None]", "core/test_layer"),
    ("ΔW without its scale", "core/low_rank", "return self.scale(b) * (self.lora_B[:, :b] @ self.lora_A[:b])",
     "return self.lora_B[:, :b] @ self.lora_A[:b]", "core/test_layer"),
    ("lora_A of deviation 1", "core/low_rank", "std=d_in**-0.5", "std=1.0", "core/test_layer"),
    # rank
    ("rank 0 accepted", "core/rank", "if rank < 1 or (r", "if rank < 0 or (r", "core/test_rank"),
    ("True taken for rank 1", "core/rank", "if isinstance(value, bool) or", "if", "core/test_rank"),
    ("rank not given back", "core/rank", "finally:\n            self.rank = before", "finally:\n            pass",
     "core/test_adapters"),
    ("a small layer past its maximum", "core/rank", "return min(self.b, self.limits[layer])", "return self.b",
     "core/test_adapters"),
    ("the caller's tensor kept as the rank", "core/rank", "torch.long, copy=True)", "torch.long)", "core/test_rank"),
    # merging
    ("unmerge by W + D - D", "core/layer", "self._original, weight.data = weight.data, merged",
     "self._original, weight.data = merged - self.delta_as_weight(), merged", "core/test_layer"),
    ("merging summed in the type of a half-precision base", "core/layer", "(weight.to(delta.dtype) + delta)",
     "(weight + delta.to(weight.dtype))", "core/test_layer core/test_adapters"),
    ("merged twice", "core/merging",
     '        if self.merged:\n            raise ValueError("the adapters are merged already',
     '        if False:\n            raise ValueError("the adapters are merged already', "core/test_adapters"),
    ("Conv1D merged the wrong way round", "core/layer", "return self.delta().T if stores_transposed(self.base_layer)",
     "return self.delta() if stores_transposed(self.base_layer)", "core/test_layer core/test_fused"),
    # attaching
    ("every layer starts alike", "core/adapters",
     "DyLoRALinear(base, limits[name], alphas[name], *options)",
     "DyLoRALinear(base, limits[name], alphas[name], *options[:2], torch.Generator().manual_seed(0))",
     "core/test_adapters"),
    ("the base is not frozen", "core/adapters", "    model.requires_grad_(False)\n", "", "core/test_adapters"),
    ("detach forgets requires_grad", "core/merging",
     "            parameter.requires_grad_(flag)\n", "            pass\n",
     "core/test_adapters"),
    ("the last pattern wins", "core/patterns", "pattern[fitting[0]]", "pattern[fitting[-1]]",
     "core/test_adapters core/test_targets"),
    ("a name in the middle matches", "core/matching", 'return name == end or name.endswith(f".{end}")',
     "return end in name", "core/test_adapters"),
    ("the key is adapted for the value", "core/splits",
     '"kv" if attention.is_cross_attention else "qkv"', '"kv" if attention.is_cross_attention else "qvk"',
     "core/test_splits core/test_fused"),
    ("a group's key taken for its value", "core/splits",
     '// groups * size, "k": size, "v": size}', '// groups * size, "v": size, "k": size}', "core/test_splits"),
    # training
    ("every row is selected", "training/row_update", "reached = stacked.any(2 - half.dim)",
     "reached = stacked.any(2 - half.dim) | True", "training/test_optim"),
    ("lora_A alone selects rows", "training/row_update", "            if members:\n                reached",
     "            if members and half.dim == 0:\n                reached", "training/test_optim"),
    ("one step count for all rows", "training/row_update", "steps += 1\n", "steps[:] = steps.max() + 1\n",
     "training/test_optim"),
    ("layers of a family mixed up", "training/row_update", "narrow(self.dim, low, high - low) for index in members]",
     "narrow(self.dim, low, high - low) for index in range(len(members))]", "training/test_optim"),
    ("weight decay on every step of every row", "training/row_update",
     "(1 - decay * rates)", "(1 - decay * rates) ** 2",
     "training/test_optim"),
    ("the mask forgets the moments", "training/row_update", "stack[members] = torch.where(mask, new, stack[members])",
     "stack[members] = new", "training/test_optim"),
    ("the authors' update is exact", "training/optim", 'if group["nested"] and self.update == "exact":',
     'if group["nested"]:', "training/test_optim"),
    ("the head learns at the adapters' rate", "training/optim", '"lr": lr if head_lr is None else head_lr', '"lr": lr',
     "training/test_optim"),
    ("sampler draws from the global generator", "training/sampling", "n, generator=self._generator,", "n,",
     "training/test_sampling"),
    ("geometric counts from 1 whatever lo is", "training/sampling", "(1 - p) ** (b - lo)", "(1 - p) ** (hi - b)",
     "training/test_sampling"),
    ("the summation loss forgets its weights", "training/objectives",
     "return [(p, rank) for rank, p in sampler", "return [(1.0, rank) for rank, p in sampler",
     "training/test_objectives"),
    ("rank left at the last draw", "training/loop", "            adapters.rank = rank\n", "", "training/test_loop"),
    ("a rank for each micro-batch", "training/loop", "for weight, rank in self.objective(b, self.sampler,",
     "for weight, rank in self.objective(self.sampler.draw(), self.sampler,", "training/test_loop"),
    ("gradients are not averaged over micro-batches", "training/loop",
     "loss = loss / shares[index]", "loss = loss / 1", "training/test_loop"),
    ("micro-batches count alike whatever their labels", "training/loop", "own.counted(part) if own else 1", "1",
     "training/test_loop"),
    ("the learning rate is not warmed up", "training/run_settings",
     "return (step + 1) / (rising + 1) if step < rising else",
     "return 1.0 if step < rising else", "training/test_loop"),
    ("random state not restored", "training/checkpoint", '        torch.set_rng_state(tensors["rng"])\n', "",
     "training/test_loop"),
    ("a run resumes with other settings", "training/checkpoint", "if saved.get(key) != settings.get(key):", "if False:",
     "training/test_loop"),
    # evaluation
    ("a sweep leaves the rank", "evaluation/at_ranks",
     "with adapters.at(rank):", "adapters.rank = rank\n                if True:",
     "evaluation/test_sweep"),
    ("answers in the order they were run in", "evaluation/at_ranks", "original = torch.tensor(run).argsort()",
     "original = torch.arange(len(run))", "evaluation/test_sweep"),
    ("modes are not given back", "core/modes", "            module.training = mode\n", "            pass\n",
     "evaluation/test_sweep"),
    ("the ordering takes the first rows for the best", "evaluation/ordering",
     "return (energies.cumsum(0) / energies.sum()).tolist()",
     "return (energies.flip(0).cumsum(0) / energies.sum()).tolist()",
     "evaluation/test_ordering"),
    ("the largest rank within the tolerance", "evaluation/select_rank", "return min(rule(values, best)), best",
     "return max(rule(values, best)), best", "evaluation/test_select_rank"),
    # files
    ("partial load accepted", "storage/adapter_files",
     "if name not in read:", "if False:", "storage/test_adapter_files"),
    ("tensors of another save", "storage/adapter_files",
     "if metadata[CONFIG_HASH] != _hash_of(config):", "if False:", "storage/test_adapter_files"),
    ("files are written in place", "storage/files", "file.path.replace(file.place)",
     "file.place.write_bytes(file.path.read_bytes())", "storage/test_files storage/test_adapter_files"),
    ("values that are not finite are saved", "storage/adapter_files",
     "if not is_finite(tensor):", "if False:",
     "storage/test_adapter_files"),
    ("alpha_pattern without ^", "storage/peft_files",
     "            pattern_of(name): layer_alpha", "            re.escape(name): layer_alpha",
     "integrations/test_peft_import"),
    ("fan_in_fan_out is always false", "storage/peft_files",
     '"fan_in_fan_out": base.transposed', '"fan_in_fan_out": False',
     "integrations/test_peft_import"),
    ("an export forgets the scale of α/√b", "storage/peft_files", "scale * (math.sqrt(len(A)) if rslora else len(A))",
     "scale * len(A)", "integrations/test_peft_import"),
    # integrations
    ("the Trainer's rank is left", "integrations/trainer",
     "            self.adapters.rank, self._outside = self._outside, None\n", "            self._outside = None\n",
     "integrations/test_trainer"),
    ("every process saves under the Trainer", "integrations/trainer", "if state.is_world_process_zero:", "if True:",
     "integrations/test_trainer"),
    ("PEFT's own scale counts twice", "integrations/peft_layers", "adapter.add_to(h, x) / layer.scaling[name]",
     "adapter.add_to(h, x)", "integrations/test_peft_layers"),
    # live views
    ("the slider does not turn the model", "widgets/rank_explorer",
     "            live.handle.rank = rank\n", "            pass\n", "widgets/test_rank_explorer"),
    ("stored numbers shown", "widgets/live_model", "if weights not in self._states:", "if not self._states:",
     "widgets/test_live_model widgets/test_explorer_training"),
    ("the step of a stopped training is lost", "widgets/rank_explorer",
     "if moments.all[-1].step < steps_before + finished:", "if False:", "widgets/test_explorer_trouble"),
]  # fmt: skip


def paths_of(names: str) -> list[str]:
    return [f"tests/{name}.py" for name in names.split()]


def planted(file: str, code: str, fault: str, tests: Sequence[str]) -> str | None:
    """The first test that fails with a fault in the library, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("dylora_kit", "tests", "data"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / part, copy)
        path = copy / "dylora_kit" / f"{file}.py"
        text = path.read_text()
        assert text.count(code) >= 1, f"{file}.py no longer holds {code!r}"
        path.write_text(text.replace(code, fault, 1))
        environment = os.environ | {"PYTHONPATH": folder}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    failed = [line.split(" ")[1] for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0] if failed else None


if __name__ == "__main__":
    survivors = 0
    for what, file, code, fault, names in FAULTS:
        if all(word in what for word in sys.argv[1:]):
            caught = planted(file, code, fault, paths_of(names))
            survivors += caught is None
            print(f"{what}: {caught or 'NOT CAUGHT'}", flush=True)
    sys.exit(survivors)
