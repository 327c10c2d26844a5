"""The exercises: solutions in the notebooks pass, typical wrong answers get their hint, and nothing ever raises."""

import inspect
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from dylora_kit import lessons
from dylora_kit.lessons import EXERCISES
from dylora_kit.lessons.exercise import CORRECT, NO_GRADIENT, Exercise

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def texts(number: str) -> list[str]:
    """The cells of the notebook that an exercise belongs to."""
    (path,) = NOTEBOOKS.glob(f"{number[:2]}_*.ipynb")
    return [cell.source for cell in nbformat.read(path, 4).cells]


def solution_in_notebook(number: str) -> Any:
    """The function in the first solution after the exercise's text."""
    cells = texts(number)
    start = next(index for index, text in enumerate(cells) if f"**Exercise {number}.**" in text)
    text = next(text for text in cells[start:] if "<summary>Solution</summary>" in text)
    (code,) = re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.DOTALL)
    return function(code)


def function(code: str) -> Any:
    """The function that a piece of code defines."""
    names: dict[str, Any] = {"torch": torch}
    exec(code, names)
    return next(value for name, value in reversed(names.items()) if callable(value))


@pytest.fixture(params=EXERCISES)
def number(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_solution_in_the_notebook_is_correct(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    lessons.check(number, solution_in_notebook(number))
    assert capsys.readouterr().out == f"{number}: correct\n"


def test_the_notebook_checks_each_exercise_and_starts_with_an_empty_one(number: str) -> None:
    code = next(text for text in texts(number) if f'lessons.check("{number}"' in text)
    assert "    ...\n" in code
    assert EXERCISES[number].feedback(function(code.split("lessons.check")[0])).startswith("not done yet")


def test_what_a_student_writes_runs_in_a_later_cell(number: str) -> None:
    (path,) = NOTEBOOKS.glob(f"{number[:2]}_*.ipynb")
    code = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    asked = next(index for index, text in enumerate(code) if f'lessons.check("{number}"' in text)
    (name,) = re.findall(rf'lessons\.check\("{number}", (\w+)\)', code[asked])
    used = [index for index, text in enumerate(code) if f'lessons.yours("{number}", {name})' in text]
    assert len(used) == 1 and used[0] > asked


def test_yours_runs_once_it_is_right_and_the_kit_s_own_until_then(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    right = solution_in_notebook(number)
    assert inspect.unwrap(lessons.yours(number, right)) is right
    assert capsys.readouterr().out == f"{number}: yours runs here\n"
    for wrong in (None, lambda *_: None, next(iter(EXERCISES[number].mistakes.values()))):
        assert lessons.yours(number, wrong) is EXERCISES[number].solution
        assert capsys.readouterr().out == f"{number}: the kit's own runs here, until yours is right\n"


def test_an_exercise_that_there_is_not_cannot_run() -> None:
    with pytest.raises(ValueError, match=r"there is no exercise '9\.9'"):
        lessons.yours("9.9", None)


def test_lists_in_lists_that_differ_are_told() -> None:
    nested = Exercise(cases=lambda: [(1,)], solution=lambda n: [[1.0], [2.0]], mistakes={}, shapes="")
    assert nested.feedback(lambda n: [[1.0], [2.0]]) == CORRECT
    assert nested.feedback(lambda n: [[1.0], [3.0]]).startswith("not right yet")


def test_the_lesson_goes_on_with_tensors_like_its_own() -> None:
    def best_cut(delta: Any, b: int) -> Any:
        U, S, Vh = np.linalg.svd(np.asarray(delta, dtype=np.float64), full_matrices=False)
        return U[:, :b] * S[:b] @ Vh[:b]

    delta = torch.eye(5, 6)
    cut = lessons.yours("02.3", best_cut)(delta, 2)
    assert isinstance(cut, torch.Tensor) and cut.dtype == torch.float32
    assert torch.allclose(cut, lessons.yours("02.3", None)(delta, 2))
    halves = lessons.yours("01.1", lambda code, b: code[:, :b].half())(delta, 2)
    assert halves.dtype == torch.float32


def test_an_answer_with_numpy_takes_the_parameters_of_a_lesson() -> None:
    def forward(x: Any, W: Any, A: Any, B: Any, alpha: float) -> Any:
        return x.numpy() @ W.numpy().T + alpha / len(A) * (x.numpy() @ A.numpy().T) @ B.numpy().T

    arguments = (torch.ones(2, 6), *(torch.nn.Parameter(torch.ones(shape)) for shape in ((5, 6), (4, 6), (5, 4))), 8)
    by_hand = lessons.yours("02.1", forward)(*arguments)
    assert torch.equal(by_hand, lessons.yours("02.1", None)(*arguments)) and by_hand.dtype == torch.float32


def test_every_value_that_is_returned_is_a_tensor_like_the_lesson_s_own() -> None:
    def update(A: Any, B: Any, grad_A: Any, grad_B: Any, b: int, lr: float, decay: float) -> Any:
        A, B, grad_A, grad_B = (matrix.double().numpy() for matrix in (A, B, grad_A, grad_B))
        A[:b] -= lr * (grad_A[:b] + decay * A[:b])
        B[:, :b] -= lr * (grad_B[:, :b] + decay * B[:, :b])
        return A, B

    new = lessons.yours("03.3", update)(*(torch.ones(shape) for shape in ((4, 6), (5, 4)) * 2), b=2, lr=0.1, decay=0.1)
    assert [type(matrix) for matrix in new] == [torch.Tensor] * 2 and {matrix.dtype for matrix in new} == {torch.float}


def test_an_answer_that_works_in_place_spoils_nothing_of_the_lesson() -> None:
    def forward(x: Any, W: Any, A: Any, B: Any, b: int, alpha: float) -> Any:
        A[b:] = 0
        W += alpha / b * B @ A
        return x @ W.T

    layer = torch.nn.Linear(6, 5)
    before = layer.weight.detach().clone()
    A, B = (torch.nn.Parameter(torch.ones(shape)) for shape in ((4, 6), (5, 4)))
    out = lessons.yours("03.1", forward)(torch.ones(2, 6), layer.weight.detach(), A, B, 2, 8)
    out.sum().backward()
    assert torch.equal(layer.weight, before) and A.grad is not None and bool(A.grad[:2].all())


def test_an_answer_that_takes_things_out_of_what_it_is_given_spoils_nothing_of_the_lesson() -> None:
    def difference(ours: Any, theirs: Any) -> Any:
        ahead = []
        while ours:
            seed, value = ours.popitem()
            ahead += [value - theirs[seed]] if seed in theirs else []
        return statistics.mean(ahead), statistics.stdev(ahead) / len(ahead) ** 0.5

    ours = {10: 0.9, 42: 0.7}
    lessons.yours("08.1", difference)(ours, {10: 0.5, 42: 0.5})
    assert ours == {10: 0.9, 42: 0.7}


def test_a_number_computed_with_torch_is_a_number_for_the_lesson() -> None:
    compare = lessons.yours("08.1", function(RIGHT["08.1"]))
    assert [type(value) for value in compare({1: 0.5, 2: 0.7}, {1: 0.25, 2: 0.25})] == [float, float]
    lost = lessons.yours("00.1", function("def f(v, b): return 100 * (torch.tensor(v[max(v)]) - v[b])"))
    assert isinstance(lost({1: 0.5, 2: 0.75}, 1), float)


def test_every_case_is_made_for_itself() -> None:
    lost = function("def f(v, b):\n low = v[b]\n return 100 * (v.pop(max(v)) - low)")
    assert EXERCISES["00.1"].feedback(lost) == "correct"


@pytest.mark.parametrize("form", ["r", "True", "(r['method'], 1)", "{r['method']}"])
def test_right_methods_in_another_form_are_told_the_form(form: str) -> None:
    size = "size = lambda r: r['steps'] * r['batch_size'] * r['passes']"
    answer = f"def f(runs):\n {size}\n return [{form} for r in runs if size(r) != size(runs[0])]"
    assert "return the names of the methods" in EXERCISES["08.2"].feedback(function(answer))
    as_array = answer.replace(f"[{form}", "__import__('numpy').array([r['method']").replace("runs[0])]", "runs[0])])")
    assert EXERCISES["08.2"].feedback(function(as_array)) == "correct"


def test_a_forward_pass_that_stops_the_gradient_is_told() -> None:
    for code in (
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha / b * (x @ A[:b].detach().T) @ B[:, :b].T",
        "def f(x, W, A, B, b, alpha):\n with torch.no_grad(): return x @ (W + alpha / b * B[:, :b] @ A[:b]).T",
        "def f(x, W, A, B, b, alpha):\n A, B = A.detach().numpy(), B.detach().numpy()\n"
        " return x.numpy() @ (W.numpy() + alpha / b * B[:, :b] @ A[:b]).T",
        "def f(x, W, A, B, b, alpha): return x.numpy() @ (W + alpha / b * B[:, :b] @ A[:b]).numpy().T",
    ):
        assert EXERCISES["03.1"].feedback(function(code)) == f"hint: {NO_GRADIENT}"


def test_a_forward_pass_with_other_numbers_is_told_as_one() -> None:
    said = EXERCISES["03.1"].feedback(lambda x, W, A, B, b, alpha: 3 * x @ W.T)
    assert said == "not right yet: the shape is right, the numbers are not"
    assert "expected the shape (4, 5), got (4, 4)" in EXERCISES["03.1"].feedback(lambda x, W, A, B, b, alpha: x @ A.T)


def test_what_is_not_right_is_told_by_its_place() -> None:
    assert EXERCISES["06.1"].feedback(lambda p, t, e: [100] * len(p) + t + [e]) == (
        "not right yet: of the 7 values, number 1 is another one"
    )
    assert (
        EXERCISES["03.3"].feedback(lambda A, B, *_: (A * 2, B * 2)).endswith("of the 2 values, number 1 is another one")
    )
    assert EXERCISES["06.1"].feedback(lambda p, t, e: torch.tensor([-100] * len(p) + t + [e])) == (
        "not right yet: expected 7 values, as in a list, got a tensor or an array"
    )


def test_every_exercise_has_a_level_and_minutes(number: str) -> None:
    text = next(text for text in texts(number) if f"**Exercise {number}.**" in text)
    assert re.search(rf"\*\*Exercise {number}\.\*\* \*(Easy|Medium|Hard), \d+ minutes\.\* ", text)


def test_every_exercise_of_a_notebook_is_known() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        asked = re.findall(r'lessons\.check\(\\"([\d.]+)\\"', path.read_text())
        assert set(asked) == {number for number in EXERCISES if number[:2] == path.name[:2]}, path.name


def test_every_known_mistake_gets_its_own_hint(number: str) -> None:
    exercise = EXERCISES[number]
    assert {hint: exercise.feedback(mistake) for hint, mistake in exercise.mistakes.items()} == {
        hint: f"hint: {hint}" for hint in exercise.mistakes
    }


@pytest.mark.parametrize("nothing", [None, ..., lambda *_: None], ids=["None", "Ellipsis", "empty"])
def test_what_is_not_written_yet_is_not_done_yet(number: str, nothing: Any) -> None:
    assert EXERCISES[number].feedback(nothing).startswith("not done yet")


def not_written(*_: Any) -> None:
    raise NotImplementedError


def test_a_stub_that_raises_is_not_done_yet(number: str) -> None:
    assert EXERCISES[number].feedback(not_written) == "not done yet"


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def _fails(*_: Any) -> None:
    raise _Unprintable


WEIRD = [
    lambda *_: sys.exit(),
    _fails,
    lambda *_: torch.zeros(2, 2, device="meta"),
    lambda *_: torch.eye(2).to_sparse(),
    lambda *_: torch.zeros(2, 2, dtype=torch.complex64),
    lambda *_: np.zeros((2, 2)),
    3,
    "text",
    torch.zeros(3),
    lambda: 1,
    lambda *_: "text",
    lambda *_: {1: 2},
    lambda *_: object(),
    lambda *_: (1, 2, 3),
    lambda *_: torch.full((2, 2), torch.nan),
    lambda *_: 1 / 0,
    lambda *_: torch.randn(2, 3) @ torch.randn(2, 3),
    lambda *a: [argument.zero_() for argument in a if isinstance(argument, torch.Tensor)],
]


@pytest.mark.parametrize("answer", WEIRD, ids=range(len(WEIRD)))
def test_no_answer_makes_a_check_raise(number: str, answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lessons.check(number, answer)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{number}: ")
    assert printed.count("\n") == 1
    assert "correct" not in printed


def test_an_unknown_exercise_is_named_and_the_known_ones_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lessons.check("09.9", None)
    assert capsys.readouterr().out.startswith("there is no exercise '09.9': the exercises are 00.1, 01.1,")


def test_an_answer_cannot_spoil_the_next_one() -> None:
    """Cases are made anew, so an answer that writes into its arguments changes nothing for others."""
    exercise = EXERCISES["02.2"]
    exercise.feedback(lambda A, B, b: A.zero_())
    assert exercise.feedback(lambda A, B, b: B[:, :b] @ A[:b]) == "correct"


# As students write them, not as the library does.
WRONG = {
    "01.1": {
        "def f(code, b): return code[:, 0:b - 1]": "one unit too few",
        "def f(code, b): return code[:, range(b + 1)]": "one unit too many",
        "def f(code, b): return code[:, code.shape[1] - b:]": "last b units",
        "def f(code, b): return code[0:b, :]": "examples",
        "def f(code, b): code[:, b:] = 0; return code": "zero",
        "def f(code, b): return code[:, 1:b + 1]": "unit 1 out",
    },
    "01.2": {
        "def f(errors, p): return sum(errors.values()) / len(errors)": "every length",
        "def f(errors, p): return sum(errors[b] for b in p) / len(p)": "average",
        "def f(errors, p): return sum(errors[b] for b in p.keys())": "without their probabilities",
        "def f(errors, p): return sum(p[b] * e for b, e in errors.items())": "loop over the keys of p",
    },
    "02.1": {
        "def f(x, W, A, B, alpha): return x @ W.T + alpha // len(A) * x @ A.T @ B.T": "whole number",
        "def f(x, W, A, B, alpha): return x @ W.T + alpha / len(A) * x @ B.T @ A.T": "A first",
        "def f(x, W, A, B, alpha): return x @ W.T + x @ A.T @ B.T": "scale is missing",
        "def f(x, W, A, B, alpha): return x @ (W + alpha * B @ A).T": "α, and Eq. 4",
        "def f(x, W, A, B, alpha): return alpha / A.shape[0] * x @ (B @ A).T": "W x is missing",
        "def f(x, W, A, B, alpha): return W @ x + alpha / len(A) * B @ A @ x": "transposed",
        "def f(x, W, A, B, alpha): return x @ W.T + alpha / len(A) * x @ A @ B": "transposed",
        "def f(x, W, A, B, alpha): return x @ W.T + alpha / A.shape[1] * x @ A.T @ B.T": "number of rows of A",
    },
    "02.2": {
        "def f(A, B, b): return B @ A": "nothing is cut",
        "def f(A, B, b): return B[:, :b - 1] @ A[:b - 1]": "one row too few",
        "def f(A, B, b): return (A[:b].T @ B[:, :b].T)": "transposed",
        "def f(A, B, b): return B[:b] @ A[:b]": "wrong axis of B",
        "def f(A, B, b): return A[:b] @ B[:, :b]": "B[:, :b]",
        "def f(A, B, b): return B @ A[:b]": "columns of B",
    },
    "02.3": {
        "def f(d, b):\n U, S, Vh = torch.linalg.svd(d, full_matrices=False)\n return U[:, :b] @ Vh[:b]": "missing",
        "def f(d, b):\n U, S, V = torch.linalg.svd(d, full_matrices=False)\n"
        " return U[:, :b] @ torch.diag(S[:b]) @ V[:, :b].T": "wrong axis of Vh",
        "def f(d, b):\n U, S, Vh = torch.linalg.svd(d, full_matrices=False)\n"
        " return U[:, :b - 1] * S[:b - 1] @ Vh[:b - 1]": "too few",
        "def f(d, b):\n U, S, Vh = torch.linalg.svd(d)\n return U[:b] * S[:b] @ Vh[:b]": "belong together",
    },
    "03.1": {
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha / len(A) * x @ A.T @ B.T": "LoRA of lesson 02",
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha // b * x @ A[:b].T @ B[:, :b].T": "whole number",
        "def f(x, W, A, B, b, alpha): return x @ (W + alpha / A.shape[0] * B[:, :b] @ A[:b]).T": "α/r",
        "def f(x, W, A, B, b, alpha): return x @ (W + alpha / b * B[:b, :] @ A[:b]).T": "",
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha / b * x @ A[:b].T @ B[:b].T": "B[:, :b]",
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha / b * x @ A[:b] @ B[:, :b]": "transpose",
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha / b * x @ A.T @ B.T": "all rows",
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha / b * x @ A[:b-1].T @ B[:, :b-1].T": "one row too few",
        "def f(x, W, A, B, b, alpha): return x @ W.T + alpha / b * x @ A[-b:].T @ B[:, -b:].T": "last b rows",
    },
    "03.2": {
        "def f(a, s, o, loss, x): loss(x).backward(); o.step(); o.zero_grad()": "nothing is drawn",
        "def f(a, s, o, loss, x): s.draw(); loss(x).backward(); o.step(); o.zero_grad()": "does not know",
        "def f(a, s, o, loss, x): a.rank = s.draw(); loss(x).backward(); o.step()": "zero_grad()",
        "def f(a, s, o, loss, x): v = loss(x); a.rank = s.draw(); v.backward(); o.step(); o.zero_grad()": "after",
        "def f(a, s, o, loss, x): a.rank = s.draw(); loss(x).backward()": "optimizer.step()",
        "def f(a, s, o, loss, x): a.rank = s.draw(); v = loss(x); o.step(); v.backward(); o.zero_grad()": "no weight",
        "def f(a, s, o, loss, x): a.rank = s.draw(); loss(x); o.step(); o.zero_grad()": "needs loss(x).backward()",
        "def f(a, s, o, loss, x): a.rank = s.draw(); loss(x).backward(); o.zero_grad(); o.step()": "no weight",
        "def f(a, s, o, loss, x):\n a.rank = s.draw()\n for p in a.nested_parameters(): p.grad = None\n"
        " loss(x).backward(); o.step()": "not those of this step",
        "def f(a, s, o, loss, x):\n a.rank = s.draw()\n loss(x)\n"
        " loss(x).backward(); o.step(); o.zero_grad()": "loss more than once",
        "def f(a, s, o, loss, x): a.rank = 2; loss(x).backward(); o.step(); o.zero_grad()": "does not come from",
        "def f(a, s, o, loss, x):\n a.rank = {n: s.draw() for n in a.layers}\n"
        " loss(x).backward(); o.step(); o.zero_grad()": "of its own",
        "def f(a, s, o, loss, x):\n s.draw()\n a.rank = s.draw()\n"
        " loss(x).backward(); o.step(); o.zero_grad()": "draw twice",
        "def f(a, s, o, loss, x):\n a.rank = s.draw()\n s.draw()\n"
        " loss(x).backward(); o.step(); o.zero_grad()": "more than once",
    },
    "03.3": {
        "def f(A, B, gA, gB, b, lr, wd):\n m, n = gA.ne(0).any(1)[:, None], gB.ne(0).any(0)\n"
        " return A - lr * m * (gA + wd * A), B - lr * n * (gB + wd * B)": "gradient of zero",
        "def f(A, B, gA, gB, b, lr, wd): return A - lr * (gA + wd * A), B - lr * (gB + wd * B)": "all rows",
        "def f(A, B, gA, gB, b, lr, wd):\n A[b - 1] -= lr * (gA[b - 1] + wd * A[b - 1])\n"
        " B[:, b - 1] -= lr * (gB[:, b - 1] + wd * B[:, b - 1])\n return A, B": "frozen",
        "def f(A, B, gA, gB, b, lr, wd):\n A[:b] -= lr * (gA[:b] + wd * A[:b])\n"
        " B[:b] -= lr * (gB[:b] + wd * B[:b])\n return A, B": "wrong axis of B",
        "def f(A, B, gA, gB, b, lr, wd):\n A, B = A.clone(), B.clone()\n A[:b] -= lr * gA[:b]\n"
        " B[:, :b] -= lr * gB[:, :b]\n return A, B": "decay is missing",
        "def f(A, B, gA, gB, b, lr, wd): return A - lr * gA, B - lr * gB": "may not move",
        "def f(A, B, gA, gB, b, lr, wd):\n m = torch.arange(4) < b\n"
        " return A - lr * (gA + wd * A * m[:, None]), B - lr * (gB + wd * B * m)": "zero beyond row b",
    },
    "04.1": {
        "def f(p, row): return p[row]": "exactly the row",
        "def f(p, row): return sum(p.get(b, 0) for b in range(row + 1, 9))": "leave out b = row",
        "def f(p, row): return sum(p[b] for b in range(1, row + 1) if b in p)": "ranks below",
        "def f(p, row): return 1 - sum(v for b, v in p.items() if b >= row)": "leave the row out",
        "def f(p, row): return sum(p[b] for b in range(row, max(p) + 1))": "may leave a rank out",
        "def f(p, row): return sum(b >= row for b in p) / len(p)": "as likely",
    },
    "04.2": {
        "def f(m, d, row): return m[d == row, row - 1].sum() / m[:, row - 1].sum()": "the other steps",
        "def f(m, d, row): return m[:, row][d != row].sum() / m[:, row].sum()": "wrong column",
        "def f(m, d, row): return (d != row).float().mean()": "share of steps",
        "def f(m, d, row): return m[d != row, row - 1].sum()": "a distance",
        "def f(m, d, row): return m[d != row].sum() / m.sum()": "all rows",
    },
    "04.3": {
        "def f(fs): return [1 / f for f in fs]": "too much",
        "def f(fs): return [f ** 0.5 for f in fs]": "so divide",
        "def f(fs): return 1 / fs ** 0.5": "a list",
        "def f(fs): return [1 / f ** 1/2 for f in fs]": "divided by 2",
    },
    "05.1": {
        "def f(v, t): return min(r for r in v if v[r] >= max(v) - t)": "largest rank: the accuracies",
        "def f(v, t): return min(r for r in v if v[r] > max(v.values()) - t)": "use >= and not >",
        "def f(v, t): return max(v, key=v.get)": "best rank",
        "def f(v, t): return min(r for r in v if v[r] >= v[max(v)] - t)": "largest rank: it need not be the best",
        "def f(v, t):\n b = 1\n while b + 1 in v and v[b + 1] - v[b] > t: b += 1\n return b": "neighbours",
        "def f(v, t):\n b = max(v, key=v.get)\n"
        " while b > 1 and v[b - 1] >= max(v.values()) - t: b -= 1\n return b": "stop at the first",
    },
    "05.2": {
        "def f(s, r): return sum(r[n] * a + b for n, (a, b) in s.items())": "brackets",
        "def f(s, r): return sum(a * b for a, b in s.values())": "size of ΔW",
        "def f(s, r): return sum(r[n] * a * b for n, (a, b) in s.items())": "multiply",
    },
    "05.3": {
        "def f(k, r, loss): return min(k, key=lambda n: loss(k | {n: k[n] + 1}))": "cannot rise",
        "def f(k, r, loss): return min((n for n in k if k[n] < r), key=lambda n: loss(k | {n: k[n] - 1}))": "",
        "def f(k, r, loss):\n best = {}\n for n in k:\n  if k[n] < r:\n   k[n] += 1\n   best[n] = loss(k)\n"
        " return min(best, key=best.get)": "on a copy",
        "def f(k, r, loss):\n n = min((n for n in k if k[n] < r), key=lambda n: loss(k | {n: k[n] + 1}))\n"
        " k[n] += 1\n return n": "changes ranks",
        "def f(k, r, loss):\n now = loss(k)\n best = {n: loss(k | {n: k[n] + 1}) for n in k if k[n] < r}\n"
        " n = min(best, key=best.get)\n return n if best[n] < now else None": "in every case",
        "def f(k, r, loss): return sorted(k)[0]": "another layer",
        "def f(k, r, loss): return k": "the layer's name",
        "def f(k, r, loss): return 0": "the layer's name",
    },
    "08.1": {
        "def f(a, b):\n d = torch.tensor([b[s] - a[s] for s in a if s in b])\n"
        " return d.mean(), d.std() / len(d) ** 0.5": "other way round",
        "def f(a, b):\n d = torch.tensor([x - y for x, y in zip(a.values(), b.values())])\n"
        " return d.mean(), d.std() / len(d) ** 0.5": "same seed",
        "def f(a, b):\n d = torch.tensor([a[s] - b[s] for s in a if s in b])\n return d.mean(), d.std()": "√n times",
        "def f(a, b):\n d = torch.tensor([a[s] - b[s] for s in a if s in b])\n"
        " return d.mean(), d.std(correction=0) / len(d) ** 0.5": "n − 1",
        "def f(a, b): return [a[s] - b[s] for s in a]": "both have",
    },
    "08.2": {
        "def f(runs): return [r['method'] for r in runs if r['steps'] != runs[0]['steps']]": "no budget",
        "def f(runs): return [r['method'] for r in runs if r['steps'] * r['batch_size'] !="
        " runs[0]['steps'] * runs[0]['batch_size']]": "passes are missing",
        "def f(runs): return {r['method'] for r in runs if r['steps'] * r['batch_size'] * r['passes'] =="
        " runs[0]['steps'] * runs[0]['batch_size'] * runs[0]['passes']}": "return the others",
        "def f(runs):\n most = max(r['steps'] * r['batch_size'] * r['passes'] for r in runs)\n"
        " return [r['method'] for r in runs if r['steps'] * r['batch_size'] * r['passes'] < most]": "largest budget",
    },
    "06.1": {
        "def f(p, t, e): return p + t + [e]": "would learn to write facts",
        "def f(p, t, e): return [-100 for _ in p] + t": "the end is missing",
        "def f(p, t, e): return [-100] * len(p) + t + [-100]": "the end has to count",
        "def f(p, t, e): return t + [e]": "one for each id",
        "def f(p, t, e): return [0 for _ in p] + t + [e]": "a token like any other",
        "def f(p, t, e): return [-100 if i in p else i for i in p + t + [e]]": "by the place",
    },
    "06.2": {
        "def f(q, v): return torch.cat([q, 0 * q, v], 0)": "transpose ΔW",
        "def f(q, v): return torch.cat([q.T, v.T], -1)": "key's columns are missing",
        "def f(q, v): return torch.hstack([q.T, v.T, torch.zeros_like(v.T)])": "come last",
        "def f(q, v): return torch.vstack([q.T, 0 * q.T, v.T])": "side by side",
        "def f(q, v): return torch.cat([q.T, torch.zeros(2, 2), v.T], 1)": "(d_in, 3 · d)",
    },
    "06.3": {
        "def f(a, b, d): return a.mean() - b.mean()": "anew in each draw",
        "def f(a, b, d): return b[d].mean(1) - a[d].mean(1)": "sign",
        "def f(a, b, d): return a[d].mean(0) - b[d].mean(0)": "dim 1",
        "def f(a, b, d): return a[d].sum(1) - b[d].sum(1)": "average",
        "def f(a, b, d): return torch.stack([a[i].mean() for i in d]) - b.mean()": "the same texts for both",
        "def f(a, b, d): return a[d] - b[d]": "average over the texts",
    },
    "07.2": {
        "def f(shares, sure): return min(b for b in shares if shares[b] >= sure)": "add up the shares",
        "def f(shares, sure): return min(b for b in shares if sum(shares[a] for a in shares if a < b) >= sure)": (
            "of b itself"
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code", "hint"),
    [(number, code, hint) for number, all_of in WRONG.items() for code, hint in all_of.items()],
)
def test_a_wrong_answer_gets_the_hint_for_its_mistake(number: str, code: str, hint: str) -> None:
    line = EXERCISES[number].feedback(function(code))
    assert line.startswith("hint: "), line
    assert hint in line


RIGHT = {
    "08.1": "def f(a, b):\n d = torch.tensor([a[s] - b[s] for s in sorted(set(a) & set(b))], dtype=torch.float64)\n"
    " return [d.mean(), (d.var() / len(d)).sqrt()]",
    "08.2": "def f(runs):\n size = lambda r: r['passes'] * r['steps'] * r['batch_size']\n"
    " return {r['method'] for r in runs[1:] if size(r) / size(runs[0]) != 1}",
    "06.1": "def f(p, t, e):\n ids = [*p, *t, e]\n ids[: len(p)] = [-100] * len(p)\n return ids",
    "06.2": "def f(q, v):\n out = torch.zeros(q.shape[1], 3 * len(q))\n out[:, : len(q)] = q.T\n"
    " out[:, 2 * len(q) :] = v.T\n return out",
    "06.3": "def f(a, b, d): return torch.stack([(a[i] - b[i]).mean() for i in d])",
    "04.1": "def f(p, row): return 1 - sum(p.get(b, 0) for b in range(1, row))",
    "04.2": "def f(m, d, row): return 1 - m[d == row, row - 1].sum() / m[:, row - 1].sum()",
    "04.3": "def f(fs): return 1 / torch.tensor(fs).sqrt()",
    "05.1": "def f(v, t): return sorted(r for r in v if max(v.values()) - v[r] <= t)[0]",
    "05.2": "def f(s, r): return sum(r[n] * sum(s[n]) for n in r)",
    "05.3": "def f(k, r, loss):\n best = {n: loss({**k, n: k[n] + 1}) for n in k if k[n] < r}\n"
    " return min(best, key=best.get)",
    "01.1": "def f(code, b): return code.numpy()[:, :b]",
    "01.2": "def f(errors, p): return float(sum(p[b] * errors[b] for b in p))",
    "03.3": "def f(A, B, gA, gB, b, lr, wd):\n for i in range(b):\n  A[i] -= lr * (gA[i] + wd * A[i])\n"
    "  B[:, i] = B[:, i] * (1 - lr * wd) - lr * gB[:, i]\n return [A, B]",
    "02.3": "def f(d, b):\n U, S, V = torch.svd(d)\n return U[:, :b] @ torch.diag(S[:b]) @ V[:, :b].T",
    "02.1": "def f(x, W, A, B, alpha): return x @ (W + alpha / B.shape[1] * B @ A).T",
    "02.2": "def f(A, B, b): return sum(torch.outer(B[:, i], A[i]) for i in range(b))",
    "03.1": "def f(x, W, A, B, b, alpha): return x @ (W + alpha / b * B[:, :b] @ A[:b]).T",
    "03.2": "def f(a, s, o, loss, x):\n o.zero_grad()\n a.rank = s.draw()\n loss(x).backward()\n o.step()\n return 1",
}  # fmt: skip


def test_who_asks_the_sampler_for_what_it_has_not_is_told_what_it_has() -> None:
    said = EXERCISES["03.2"].feedback(function("def f(a, s, o, loss, x): a.rank = s.sample()"))
    assert said == "your function stops with AttributeError: the sampler has no sample(): ask it with draw()"


def test_half_precision_is_no_mistake() -> None:
    exercise = EXERCISES["02.2"]
    assert exercise.feedback(lambda A, B, b: (B[:, :b] @ A[:b]).bfloat16()) == "correct"
    assert exercise.feedback(lambda A, B, b: (B[:, : b + 1] @ A[: b + 1]).half()) != "correct"


@pytest.mark.parametrize("number", RIGHT)
def test_another_way_to_the_right_answer_is_correct_too(number: str) -> None:
    assert EXERCISES[number].feedback(function(RIGHT[number])) == "correct"
