"""Measures what adapters cost beside PEFT's, and beside none. Run by hand; forty minutes on a quiet machine.

python tests/bench/run.py                       # all that is not measured yet, then the table in README.md beside it
python tests/bench/run.py step --threads 1      # one group, measured again
python tests/bench/run.py --list
"""

import argparse
import csv
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
RESULTS, TABLE = FOLDER / "results.csv", FOLDER / "README.md"
MARKS = "<!-- table -->", "<!-- end of table -->"
# a heap that keeps what was freed: part of PEFT's time is page faults
CALM = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_TOP_PAD_": "268435456"}


class Line(NamedTuple):
    """One line of the table: what is compared, the ratio or number, its quartiles, the ratio of CPU times, the goal."""

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    cpu: float | None = None
    goal: str = ""


Lines = Iterator[Line]


def compared(what: str, costs: Any, above: str, below: str, goal: str = "") -> Line:
    """The ratio of two methods that took turns."""
    from bench.rounds import ratio

    return Line(f"{what}: {above} / {below}", *ratio(costs, above, below), goal)


def step(quick: bool) -> Lines:
    """A training step at the three shapes; with a calm heap at the two smaller ones."""
    from bench.models import DYLORA, LIMIT, PEFT, SHAPES
    from bench.training import step

    rounds = {"mini": 16, "minilm": 6} | ({} if CALM.keys() <= os.environ.keys() else {"base": 3})
    goals = {"mini": "≤ 1.07", "minilm": "≤ 1.02", "base": "≤ 1.02"}
    for name in rounds:
        costs = step(SHAPES[name], 3 if quick else rounds[name])
        yield compared(f"step, {name}", costs, DYLORA, LIMIT, goals[name])
        yield compared(f"step, {name}", costs, DYLORA, PEFT, "≤ 1.00")
        yield compared(f"step, {name}", costs, PEFT, LIMIT)
        pairs = zip(costs[DYLORA], costs[PEFT], strict=True)
        share = statistics.median(ours.wall / (8 * theirs.wall) for ours, theirs in pairs)
        yield Line(f"all ranks, {name}: one DyLoRA / eight LoRAs of PEFT", share, goal="≤ 0.13")


def dropout(quick: bool) -> Lines:
    """A training step of a backbone with dropout."""
    from bench.models import DYLORA, LIMIT, PEFT, SHAPES
    from bench.training import step

    costs = step(SHAPES["mini"], 3 if quick else 20, dropout=0.1)
    yield compared("step, mini with dropout", costs, DYLORA, PEFT, "≤ 1.00")
    yield compared("step, mini with dropout", costs, DYLORA, LIMIT)


def tokens(quick: bool) -> Lines:
    """A training step, from 8 to 4,096 tokens."""
    from bench.models import DYLORA, LIMIT, PEFT, Shape
    from bench.training import step

    for width, layers, heads in ((128, 4, 4), (384, 6, 12)):
        for count in (8, 16, 32, 64, 128, 256, 1024, 4096):
            rounds = 3 if quick else max(4, min(16, 4000 // (count + 100)) * 128 // width)
            costs = step(Shape(layers, width, heads, max(count // 32, 1), min(count, 32)), rounds)
            yield compared(f"step, width {width}, {count:,} tokens", costs, DYLORA, PEFT, "≤ 1.00")
            yield compared(f"step, width {width}, {count:,} tokens", costs, DYLORA, LIMIT)


def rank(quick: bool) -> Lines:
    """A training step, r from 8 to 256, at MiniLM's shape; PEFT's adapter has the same r."""
    from bench.models import DYLORA, PEFT, SHAPES
    from bench.training import step

    goals = {8: "≤ 1.00", 64: "≤ 0.94", 256: "≤ 0.86"}
    for r in (8, 16, 32, 64, 128, 256):
        costs = step(SHAPES["minilm"], 2 if quick else 4, r=r)
        yield compared(f"step, minilm, r = {r}", costs, DYLORA, PEFT, goals.get(r, ""))


def layers(quick: bool) -> Lines:
    """A training step, 2 to 16 layers of width 128."""
    from bench.models import DYLORA, LIMIT, PEFT, Shape
    from bench.training import step

    for count in (2, 4, 8, 16):
        costs = step(Shape(count, 128, 4, 32, 32), 3 if quick else 50 // count)
        yield compared(f"step, {count} layers of width 128", costs, DYLORA, PEFT, "≤ 1.00")
        yield compared(f"step, {count} layers of width 128", costs, DYLORA, LIMIT)


def optimizer(quick: bool) -> Lines:
    """The update alone, and setting the rank."""
    from bench.training import optimizer_step, set_rank

    for count, width in ((24, 768), (12, 384), (8, 128)):
        costs = optimizer_step(4 if quick else 60, count, width)
        goal = "≤ 0.80" if width == 768 else ""
        yield compared(f"update, {count} adapters of {width}", costs, "exact", "AdamW", goal)
    yield Line("setting the rank of 24 adapters, µs", 1e6 * set_rank(), goal="≤ 20")


def memory(quick: bool) -> Lines:
    """What a forward keeps for its backward, beside parameters."""
    from bench.models import DYLORA, LIMIT, PEFT, SHAPES
    from bench.training import kept_bytes

    for name, shape in SHAPES.items():
        kept = kept_bytes(shape)
        yield Line(f"kept bytes, {name}: {DYLORA} / {PEFT}", kept[DYLORA] / kept[PEFT], goal="≤ 1.00")
        yield Line(f"kept bytes, {name}: {DYLORA} / {LIMIT}", kept[DYLORA] / kept[LIMIT])


def peak(quick: bool) -> Lines:
    """The most memory of ten training steps at MiniLM's shape, each method in a process of its own."""
    from bench.models import DYLORA, LIMIT, PEFT

    code = "from bench.training import *; from bench.models import SHAPES; print(peak_bytes({!r}, SHAPES['minilm']))"
    peaks = {name: int(_python(code.format(name))) for name in (DYLORA, PEFT, LIMIT)}
    yield Line(f"peak memory, minilm: {DYLORA} / {PEFT}", peaks[DYLORA] / peaks[PEFT], goal="≤ 1.00")
    yield Line(f"peak memory, minilm: {DYLORA} / {LIMIT}", peaks[DYLORA] / peaks[LIMIT])


def generation(quick: bool) -> Lines:
    """Writing 16 tokens."""
    from bench.inference import NONE
    from bench.inference import generation as generate

    for name, rounds in (("world-gpt2", 30), ("smollm2 shape", 6)):
        costs = generate(name, 3 if quick else rounds)
        for above, below, goal in (
            ("rank 8", NONE, "≤ 1.05"),
            ("rank 2", NONE, "≤ 1.05"),
            ("PEFT LoRA", NONE, ""),
            ("merged", NONE, "≤ 1.01"),
            ("a rank for each of eight rows", "no adapter, eight rows", ""),
            ("another rank at each token", "no adapter, token by token", ""),
        ):
            yield compared(f"writing, {name}", costs, above, below, goal)


def sweep(quick: bool) -> Lines:
    """A sweep over eight ranks."""
    from bench.inference import sweep as sweep_costs

    for name, rounds in (("digits-vit", 8), ("minilm shape", 5)):
        costs = sweep_costs(name, 2 if quick else rounds)
        yield compared(f"eight ranks, {name}", costs, "sweep", "forwards", "≤ 1.01")


def compiled(quick: bool) -> Lines:
    """A compiled training step at the mini shape."""
    from bench.models import DYLORA, LIMIT, PEFT, SHAPES
    from bench.training import step

    costs = step(SHAPES["mini"], 3 if quick else 20, compiled=True)
    yield compared("compiled step, mini", costs, DYLORA, LIMIT, "≤ 1.08")
    yield compared("compiled step, mini", costs, DYLORA, PEFT)


def importing(quick: bool) -> Lines:
    """`import dylora_kit`, in new processes."""
    ratios = []
    for _ in range(3 if quick else 9):
        seconds = {}
        for name in ("torch", "dylora_kit"):
            start = time.perf_counter()
            _python(f"import {name}")
            seconds[name] = time.perf_counter() - start
        ratios.append(seconds["dylora_kit"] / seconds["torch"])
    low, median, high = statistics.quantiles(ratios, n=4)
    yield Line("import dylora_kit / import torch", median, low, high, goal="≤ 1.15")


GROUPS: dict[str, Callable[[bool], Lines]] = {
    group.__name__: group
    for group in (
        step, dropout, tokens, rank, layers, optimizer, memory, peak, generation, sweep, compiled, importing,
    )
}  # fmt: skip
ONE_THREAD = {"memory", "peak", "importing", "rank", "layers", "compiled", "tokens"}  # a second says nothing new


def _python(code: str) -> str:
    paths = os.pathsep.join([str(FOLDER.parent), str(FOLDER.parent.parent)])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def measure(group: str, threads: int, calm: bool) -> None:
    """Measures a group in a process of its own, and adds what it says to the results."""
    command = [sys.executable, "-W", "ignore", __file__, group, "--threads", str(threads), "--here"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"} | (CALM if calm else {})
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    load = f"{os.getloadavg()[1]:.1f}"
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["date", "load", "group", "threads", "heap", *Line._fields])
        for text in run.stdout.decode().splitlines():
            if text.startswith("["):
                writer.writerow([date, load, group, threads, "calm" if calm else "usual", *json.loads(text)])


def read_results() -> list[dict[str, str]]:
    """All that was measured, the oldest first."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table() -> str:
    """The latest two runs of each line, side by side, as Markdown."""
    rows: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in read_results():
        rows.setdefault((row["what"], row["threads"], row["heap"]), []).append(row)
    lines = ["| what | threads | latest run (quartiles) | CPU time | run before | goal | met |", "| --- " * 7 + "|"]
    for (what, threads, heap), runs in rows.items():
        values = [_shown(run) for run in runs[-2:]]
        latest = runs[-1]
        before = values[0] if len(values) > 1 else ""
        cpu = f"{float(latest['cpu']):.3f}" if latest["cpu"] else ""
        goal = latest["goal"]
        met = "" if not goal else "yes" if all(float(r["value"]) <= float(goal.split()[1]) for r in runs[-2:]) else "no"
        name = what + (", calm heap" if heap == "calm" else "")
        lines.append(f"| {name} | {threads} | {values[-1]} | {cpu} | {before} | {goal} | {met} |")
    return "\n".join(lines)


def _shown(row: dict[str, str]) -> str:
    spread = f" ({float(row['low']):.3f} to {float(row['high']):.3f})" if row["low"] else ""
    return f"{float(row['value']):.3f}{spread}"


def write_table() -> None:
    """Puts the table into the README beside this file."""
    text = TABLE.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    TABLE.write_text(f"{before}{MARKS[0]}\n\n{table()}\n\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it runs; nothing is written")
    parser.add_argument("--list", action="store_true", help="what is measured, and how often it was")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.groups if name not in GROUPS]
    if unknown:
        parser.error(f"there is no group {unknown[0]!r}: expected some of {', '.join(GROUPS)}")
    if arguments.list:
        for name, group in GROUPS.items():
            dates = {row["date"] for row in read_results() if row["group"] == name}
            print(f"{name}: {(group.__doc__ or '').strip()} Measured {len(dates)} times.")
        return
    if arguments.here or arguments.quick:
        import torch

        torch.set_num_threads(arguments.threads[0])
        for name in arguments.groups or GROUPS:
            for line in GROUPS[name](arguments.quick):
                print(json.dumps(line), flush=True)
        return
    for name in arguments.groups or GROUPS:
        for threads in [1] if name in ONE_THREAD else arguments.threads:
            for calm in (False, True) if name == "step" and threads == 1 else (False,):
                measure(name, threads, calm)
                write_table()
                print(f"{name}, {threads} threads{', calm heap' if calm else ''}: done", flush=True)


if __name__ == "__main__":
    main()
