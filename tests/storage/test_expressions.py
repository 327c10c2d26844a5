"""Expressions of a file are matched in bounded time, or refused."""

import re
import time

import pytest

from dylora_kit.storage.expressions import check_expressions

NAME = "model.language_model.layers.17.self_attn.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

FINE = [
    r".*q_proj",
    r".*\.(q|v)_proj",
    r"model\.layers\.(1[0-9]|2\d)\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
    r".*layers\.\d+\..*attn.*(q|k|v)_proj",
    r"^(?!.*visual).*(?:q_proj|v_proj)$",
    r"^(model\.language_model(?=\.).*\.(o_proj|v_proj|down_proj))$",
    r"(?:.*?(?:vision|image|visual|patch).*?(?:attn|attention).*?(?:q_proj|v_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:attn|mlp)\.(?:(?:q_proj|k_proj)))",
    r"(layers\.\d+\.)?up",
    r"(?i)encoder\..*",
    r"[(a+)+]b",
    r"(?P<kind>q|v)_proj",
    "layer.0.up",
    "|".join(re.escape(f"model.layers.{i}.self_attn.{name}_proj") for i in range(80) for name in "qkvo"),
]
HOSTILE = [
    "(a+)+b",
    "(.*a)*b",
    "(a|a)*b",
    "(ab|ab|.)*c",
    "(?:a|aa)+$",
    "(?i)(a|A)*b",
    "(a?){40}a{40}",
    "a?" * 40 + "a" * 40,
    ".*" * 12 + "x",
    "(?:(?:a{1,30}){1,30}){1,30}b",
    "(?=(a+)+b).*",
    "(?x)(a+ #)\n)+b",
    "((a*)*)*b",
    "a{,}" * 9 + "b",
    r"(\w|\d|a)*\.",
    "(" * 3000 + "a" + ")" * 3000,
]


@pytest.mark.parametrize("expression", FINE, ids=range(len(FINE)))
def test_expressions_that_people_write_are_taken_and_fast(expression):
    check_expressions([expression], "the file gives target_modules")
    start = time.process_time()
    for _ in range(100):
        re.fullmatch(expression, NAME)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("expression", HOSTILE, ids=range(len(HOSTILE)))
def test_expressions_that_would_take_for_ever_are_refused_in_a_sentence(expression):
    with pytest.raises(ValueError, match=r"the file gives alpha_pattern = .*, which can take too long") as caught:
        check_expressions(["fine", expression], "the file gives alpha_pattern")
    assert len(str(caught.value)) < 500


def test_what_is_no_expression_is_left_to_whoever_matches_it():
    check_expressions(["(up", "*", "a{2"], "the file gives target_modules")


def test_many_expressions_may_take_no_longer_than_one():
    check_expressions([r"layers\.\d+\.up"] * 200, "the file", ends=True)
    with pytest.raises(ValueError, match="can take too long"):
        check_expressions([f"{i}.*.*.*" for i in range(200)], "the file", ends=True)
