"""Plants faults in a copy of the library, one at a time, and shows which test catches each. Run by hand:

python tests/plant_faults.py            # all of them, up to an hour on two cores
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
     "(weight + delta.to(weight.dtype))", "core/test_layer"),
    ("merged twice", "core/merging",
     '        if self.merged:\n            raise ValueError("the adapters are merged already',
     '        if False:\n            raise ValueError("the adapters are merged already', "core/test_merging"),
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
    ("ranks of examples and of steps change places", "core/batch_axis",
     "return shape.numel() // (ranks * times), times",
     "return times, shape.numel() // (ranks * times)", "core/test_batch_axis"),
    ("batch_first read the other way round", "core/batch_axis", "return 0 if module.self_attn.batch_first else 1",
     "return 1 if module.self_attn.batch_first else 0", "core/test_batch_axis"),
    ("as many steps as examples: the axes are not told apart", "core/batch_axis", "== rows and not turned:", "== rows:",
     "core/test_batch_axis"),
    ("beams counted on after generating", "core/batch_axis", "active.generating, active.copies = before",
     "active.generating = before[0]", "core/test_batch_axis"),
    ("a mapping above a layer's maximum", "core/rank", "check_rank(value[name], self.limits[name],",
     "check_rank(value[name], self.r,", "core/test_rank"),
    ("half of the layers merged before an error", "core/merging",
     "        merged = self._merged_weights(rank)\n        for wrapper, weight in merged.items():\n"
     "            wrapper.swap_in(weight)",
     "        if rank is not None:\n            self.rank = rank\n        for wrapper in self.wrappers:\n"
     "            wrapper.swap_in(wrapper.merged_weight())", "core/test_adapters"),
    ("off until further notice after an error", "core/merging",
     "        try:\n            yield self\n        finally:\n            self._active.disabled = before",
     "        yield self\n        self._active.disabled = before", "core/test_merging"),
    ("the inner block without adapters ends the outer one", "core/merging",
     "before, self._active.disabled = self._active.disabled, True", "before, self._active.disabled = False, True",
     "core/test_merging"),
    ("an untied output layer stays frozen", "core/merging",
     "                self._requires_grad[wrapper.base_layer.weight] = flag\n", "", "core/test_merging"),
    ("detach leaves running statistics moved", "core/merging", "        self._record.restore_buffers(self.model)\n", "",
     "core/test_what_is_saved"),
    ("counters among the buffers forgotten", "core/base_record",
     "if buffer.is_floating_point() or buffer.numel() <= LARGE", "if buffer.is_floating_point()",
     "core/test_what_is_saved"),
    ("only the beginning of a weight is compared", "core/base_record",
     "flat[:: max(1, -(-len(flat) // SAMPLE))]", "flat[:SAMPLE]", "core/test_what_is_saved"),
    ("heads of query, key and value taken for three blocks", "core/splits",
     'return _in_groups(d_out // (3 * size), dict.fromkeys("qkv", size))',
     'return _in_groups(1, dict.fromkeys("qkv", d_out // 3))', "core/test_splits"),
    ("a part of a fused projection exported at the scale of another", "core/fused", "part_B * (part_scale / scale)",
     "part_B", "integrations/test_peft_import"),
    ("a detached handle is found", "core/saved_states", "    model.__dict__.pop(HANDLE, None)\n", "",
     "core/test_saved_states"),
    ("the handle of a model inside another is not found", "core/saved_states",
     "get(HANDLE) for module in model.modules())", "get(HANDLE) for module in [model])", "core/test_saved_states"),
    ("an excluded layer is adapted", "core/targets",
     "return {name: target for name, target in chosen.items() if name not in excluded}", "return dict(chosen)",
     "core/test_targets"),
    ("new weights warned of although they are trained along", "core/heads",
     "if parameter.requires_grad and parameter not in kept}", "if parameter.requires_grad}", "core/test_heads"),
    ("marks of what was read from a file ignored", "core/heads",
     'if any(getattr(parameter, "_is_hf_initialized", False) for parameter in parameters):', "if False:",
     "core/test_heads"),
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
     "(1 - decay * rates)", "(1 - decay * rates).square()",
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
     " / self.settings.gradient_accumulation", " / 1", "training/test_loop"),
    ("the learning rate is not warmed up", "training/run_settings",
     "return (step + 1) / (rising + 1) if step < rising else",
     "return 1.0 if step < rising else", "training/test_loop"),
    ("random state not restored", "training/checkpoint", '        torch.set_rng_state(tensors["rng"])\n', "",
     "training/test_loop"),
    ("a run resumes with other settings", "training/checkpoint", "if saved.get(key) != settings.get(key):", "if False:",
     "training/test_loop"),
    ("moments not restored", "training/checkpoint",
     "self.optimizer.load_state_dict(self._optimizer_state(tensors))", "self._optimizer_state(tensors)",
     "training/test_loop"),
    ("the sampler starts anew in a resumed run", "training/checkpoint",
     'self.sampler.load_state_dict(self.sampler.state_dict() | {"generator": tensors["sampler"]})', "pass",
     "training/test_loop"),
    ("buffers left out of a checkpoint", "training/checkpoint",
     'return trained | {f"buffer.{plain_name(name)}": buffer for name, buffer in buffers.items()}', "return trained",
     "training/test_loop"),
    ("a resumed run sees micro-batches again", "training/loop", "seed, len(rows) * gradient_accumulation, collate)",
     "seed, len(rows), collate)", "training/test_loop"),
    ("gradients are not clipped", "training/loop", "if self.settings.max_grad_norm is not None:", "if False:",
     "training/test_loop"),
    ("a step with gradients that are not finite", "training/loop",
     '        self.check_finite("gradient norm", float(norm), number, ranks[-1])\n', "", "training/test_loop"),
    ("a step on part of a batch", "training/loop", "if len(indices) == size:", "if True:", "training/test_loop"),
    ("examples meet each rank unequally often in one batch", "training/objectives",
     "torch.tensor(list(probabilities)).repeat_interleave(batch_size)",
     "torch.tensor(list(probabilities)).repeat(batch_size)", "training/test_objectives"),
    ("one weight per example, and the mean", "training/objectives", "(weight.to(loss) * loss).sum()",
     "(weight.to(loss) * loss).mean()", "training/test_objectives"),
    ("a run resumes at another scaling", "core/handle", '("lora_alpha", "scaling", "lora_dropout")',
     '("lora_alpha", "lora_dropout")', "training/test_loop"),
    # evaluation
    ("a sweep leaves the rank", "evaluation/sweep",
     "with adapters.at(rank):", "adapters.rank = rank\n                if True:",
     "evaluation/test_sweep"),
    ("answers in the order they were run in", "evaluation/sweep", "original = torch.tensor(order).argsort()",
     "original = torch.arange(len(order))", "evaluation/test_sweep"),
    ("modes are not given back", "core/modes", "            module.training = mode\n", "            pass\n",
     "evaluation/test_sweep"),
    ("the ordering takes the first rows for the best", "evaluation/ordering",
     "return (energies.cumsum(0) / energies.sum()).tolist()",
     "return (energies.flip(0).cumsum(0) / energies.sum()).tolist()",
     "evaluation/test_ordering"),
    ("the largest rank within the tolerance", "evaluation/select_rank", "return min(rule(values, best)), best",
     "return max(rule(values, best)), best", "evaluation/test_select_rank"),
    ("shifted towards the token before", "evaluation/next_token", "return outputs[:, :-1], labels[:, 1:]",
     "return outputs[:, 1:], labels[:, :-1]", "evaluation/test_numbers"),
    ("a batch without labels decides about the shift", "evaluation/next_token",
     "if (labels != IGNORED).any():", "if True:", "evaluation/test_numbers"),
    ("labels of −100 count as wrong", "evaluation/metrics",
     "mask = labels != IGNORED\n    return outputs.argmax", "mask = labels == labels\n    return outputs.argmax",
     "evaluation/test_numbers"),
    ("outputs that do not count must be finite", "evaluation/running",
     "(rows | (labels == metrics.IGNORED)).all()", "rows.all()", "evaluation/test_numbers"),
    ("every batch has the same weight in the loss", "evaluation/running",
     "mean()) * counted\n            self.counted += counted", "mean())\n            self.counted += 1",
     "evaluation/test_numbers"),
    ("padded labels are of class 0", "evaluation/sweep",
     "labels[0].is_floating_point() else IGNORED)", "labels[0].is_floating_point() else 0)",
     "evaluation/test_numbers"),
    ("a gain within the noise is taken", "evaluation/rank_per_layer", "max(standard_errors * error, 1e-9)", "1e-9",
     "evaluation/test_rank_per_layer"),
    ("parts of the data count alike, whatever their size", "evaluation/rank_per_layer",
     "float((self.of_parts * self.counted).sum() / self.counted.sum())", "float(self.of_parts.mean())",
     "evaluation/test_numbers"),
    ("the largest loss is the best", "evaluation/select_rank",
     'sign = -1.0 if str(frame["metric"].iloc[0]).lower() in LOWER_IS_BETTER else 1.0', "sign = 1.0",
     "evaluation/test_select_rank"),
    ("what costs the budget is too dear", "evaluation/select_rank", "costs[rank] <= budget", "costs[rank] < budget",
     "evaluation/test_select_rank"),
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
    ("the checksum is not looked at", "storage/files",
     'if ours != RECORD or record["sha256"] != _checksum([header, written, metadata], data):', "if ours != RECORD:",
     "storage/test_files"),
    ("an adapter on any base of its shape", "storage/base_model", "if not torch.allclose(",
     "if False and not torch.allclose(", "core/test_what_is_saved"),
    ("α of one layer is not told to PEFT", "storage/adapter_files",
     '**({"alpha_pattern": pattern} if pattern else {}),', "", "core/test_targets"),
    ("saved without use_rslora", "storage/adapter_files", '"use_rslora": config["scaling"] == "alpha/sqrt(b)"',
     '"use_rslora": False', "storage/test_adapter_files"),
    ("an export for serving without its scale", "storage/peft_files", "_padded(A, scale * B, largest)",
     "_padded(A, B, largest)", "integrations/test_peft_import"),
    # integrations
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
    ("PEFT's copies stay off", "integrations/peft_layers",
     "                    wrapper._disable_adapters = flag\n", "                    pass\n",
     "integrations/test_peft_layers"),
    ("nested layers leave autocast's type", "integrations/peft_layers",
     "torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype", "x.dtype",
     "integrations/test_peft_layers"),
    ("a resumed Trainer draws from the start", "integrations/trainer", "self.sampler.restart(state.global_step)",
     "self.sampler.restart()", "integrations/test_trainer"),
    ("the Trainer resumes with other settings", "integrations/trainer", "if state.global_step:", "if False:",
     "integrations/test_trainer"),
    # live views
    ("the slider does not turn the model", "widgets/rank_explorer",
     "            live.handle.rank = rank\n", "            pass\n", "widgets/test_rank_explorer"),
    ("stored numbers shown", "widgets/live_model", "if weights not in self._states:", "if not self._states:",
     "widgets/test_live_model widgets/test_explorer_training"),
    ("the step of a stopped training is lost", "widgets/rank_explorer",
     "if moments.all[-1].step < steps_before + finished:", "if False:", "widgets/test_explorer_trouble"),
    ("a live causal model is compared with the token itself", "widgets/live_model",
     "causal = per_token(outputs, self.labels) and named_causal(self.handle.model)", "causal = False",
     "widgets/test_live_model"),
    ("frozen weights changed through .data", "widgets/live_model", "{parameter._version} {total}",
     "{parameter._version}", "widgets/test_live_model"),
    ("a moment moves along with the model", "widgets/snapshots", "name: tensor.detach().clone() for",
     "name: tensor.detach() for", "widgets/test_snapshots"),
    ("going back loses what the model is now", "widgets/snapshots", "        self.keep_unknown()\n        for name",
     "        for name", "widgets/test_snapshots"),
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
    if run.returncode == 0:
        return None
    lines = (line.partition(" ")[2] for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR ")))
    failed = [line.partition(" - ")[0] for line in lines if "::" in line]
    if not failed:  # a file that cannot be imported notices nothing
        raise RuntimeError(f"no test ran to its end with {fault!r} in {file}.py:\n{run.stdout[-2000:]}{run.stderr}")
    return failed[0]


if __name__ == "__main__":
    chosen = [row for row in FAULTS if all(word in row[0] for word in sys.argv[1:])]
    survivors = 0
    for what, file, code, fault, names in chosen:
        caught = planted(file, code, fault, paths_of(names))
        survivors += caught is None
        print(f"{what}: {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} noticed")
    sys.exit(survivors > 0)
