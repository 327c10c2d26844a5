"""The paper's central comparison (Table 2) on real digits: one DyLoRA, one LoRA cut to rank b, one LoRA per rank.

    python -m dylora_kit.paper.digits            # five seeds, into data/results/; goes on where it stopped
    python -m dylora_kit.paper.digits --adapters # the adapters that notebook 00 opens, into data/adapters/

Every method has the same steps, batches, learning rate and head. The learning rate was chosen on validation images.
Where a head is trained anew, it has 500 steps more. Gradients are not clipped.
`table2-digits-turned.csv` has the accuracies, `ordering-digits-turned.csv` how well
the rows of the two adapters are ordered.
"""

import argparse
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit import backbones
from dylora_kit.baselines.svd_cut import refit_head, svd_cut
from dylora_kit.core.adapters import Adapters, attach
from dylora_kit.evaluation.ordering import ordering
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper import SEEDS, command, compared_methods, keep, table
from dylora_kit.paper.compared_methods import DYLORA, FROZEN, FULL, HEAD, HELD, LORA, ONE, SVD, R
from dylora_kit.storage.files import write_files
from dylora_kit.tasks import digits

TRAINING: dict[str, Any] = {"steps": 1500, "batch_size": 32}
LR = 4e-3
NEW_HEAD, NO_ADAPTER, DYLORA_HELD = "LoRA, cut by SVD, new head", "no adapter, new head", "DyLoRA, scale α/r"


def trained(method: str, domain: str, seed: int, r: int = R) -> tuple[nn.Module, Adapters]:
    """The mini ViT, trained on one domain by a method."""
    held = method == DYLORA_HELD
    return compared_methods.trained(
        partial(backbones.load, "digits-vit"),
        digits.load(domain),
        DYLORA if held else method,
        seed,
        r=r,
        lr=LR,
        scaling="alpha/r" if held else "alpha/b",
        max_grad_norm=None,
        **TRAINING,
    )


def run(domain: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """LoRA and DyLoRA on one domain with one seed: accuracy on the test images, and the ordering of their adapters."""
    test, train_data = digits.load(domain).test, digits.load(domain).train
    frames, orders = [], []

    def measure(method: str, model: nn.Module, adapters: Adapters, ranks: list[int] | None = None) -> None:
        frames.append(sweep(model, adapters, test, ranks=ranks, method=method, seed=seed, progress=False))

    for method in (DYLORA, DYLORA_HELD, LORA):
        model, adapters = trained(method, domain, seed)
        measure(method, model, adapters)
        orders.append(ordering(adapters, method=method))
    svd_model, svd = svd_cut(adapters)
    measure(SVD, svd_model, svd)
    for rank in range(1, svd.r + 1):
        measure(NEW_HEAD, *refit_head(svd, train_data, rank=rank, seed=seed), ranks=[rank])
    as_it_was = backbones.load("digits-vit")
    bare = attach(as_it_was, r=R, target_modules="attention", modules_to_save=["classifier"])  # its ΔW is zero
    measure(NO_ADAPTER, *refit_head(bare, train_data, rank=1, seed=seed), ranks=[1])
    adapters.scaling = "alpha/r"
    measure(HELD, model, adapters)
    for r in (1, 2, 4):
        measure(ONE, *trained(ONE, domain, seed, r), ranks=[r])
    whole = frames[2][frames[2]["rank"] == R]  # a LoRA of rank 8 cut to 8 is a LoRA of rank 8
    frames.append(whole.assign(method=ONE))
    return pd.concat(frames).assign(domain=domain), pd.concat(orders).assign(seed=seed, domain=domain)


def run_others(domain: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What stands beside them in Table 2: a frozen DyLoRA, full fine-tuning and the head alone, without orderings."""
    frames = []
    for method in (FROZEN, FULL, HEAD):
        model, adapters = trained(method, domain, seed)
        ranks = None if method == FROZEN else [R]  # their adapters are zero: every rank is the same
        test = digits.load(domain).test
        frames.append(sweep(model, adapters, test, ranks=ranks, method=method, seed=seed, progress=False))
    return pd.concat(frames).assign(domain=domain), pd.DataFrame()


PARTS = {DYLORA: run, FROZEN: run_others}  # by the method whose rows tell that they were done


def _all(domains: list[str], path: Path) -> None:
    order_path = path.with_name("ordering-digits-turned.csv")
    results, orders = (
        pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["domain", "seed", "method"])
        for file in (path, order_path)
    )
    settings = TRAINING | {"lr": LR}
    for key, value in settings.items():
        other = results[key][results[key] != value].unique().tolist() if key in results else []
        if other:
            raise ValueError(f"{path} has trainings with {key} = {other[0]}, now it is {value}: name another file to "
                             "write to by --out, or move this one away")  # fmt: skip
    for seed, domain, first in product(SEEDS, domains, PARTS):
        done = (results["domain"] == domain) & (results["seed"] == seed) & (results["method"] == first)
        if not done.any():
            new, order = PARTS[first](domain, seed)
            new = new.assign(**settings)
            results = new if results.empty else pd.concat([results, new])
            orders = order if orders.empty else pd.concat([orders, order])
            tables = {path.name: results, order_path.name: orders}
            write_files(path.parent, {name: _as_csv(frame) for name, frame in tables.items()})
            print(f"{domain}, {first} and others, seed {seed}: done", flush=True)
    print(table(results[results["domain"].isin(domains)], ["domain"]).to_string())


def _as_csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, float_format="%.6g").encode()


def _adapters(folder: Path) -> None:
    for method, name in ((DYLORA, "dylora"), (LORA, "lora")):
        _, adapters = trained(method, "turned", SEEDS[0])
        what = "DyLoRA, ranks 1 to 8" if method == DYLORA else "Plain LoRA of rank 8"
        keep(
            adapters,
            folder / f"digits-turned-{name}",
            f"{what}, for the backbone `digits-vit`, trained on digits turned by 90°",
            "python -m dylora_kit.paper.digits --adapters",
            TRAINING | {"lr": LR, "seed": SEEDS[0]},
            "table2-digits-turned.csv",
        )


def _main(arguments: argparse.Namespace) -> None:
    if arguments.adapters:
        _adapters(arguments.out or backbones.data_folder() / "adapters")
    else:
        _all(arguments.domains, arguments.out or backbones.data_folder() / "results" / "table2-digits-turned.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and compare on digits.")
    parser.add_argument("--adapters", action="store_true", help="make the shipped adapters")
    parser.add_argument("--domains", nargs="+", choices=list(digits.DOMAINS)[1:], default=["turned"])
    parser.add_argument("--out", type=Path, help="another place to write to")
    command(parser, _main)
