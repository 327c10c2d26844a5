"""The table of answers to one input."""

import math

import numpy as np

from dylora_kit.widgets.answer_table import Answer, answer, answer_table, in_a_sentence

ANSWERS = {"DyLoRA": {1: Answer("7", 0.8), 2: Answer("<i>", 0.6)}, "a <b>": {1: Answer("4", 1.0), 2: Answer("4", 0.5)}}


def test_an_answer_is_the_largest_output_and_its_share() -> None:
    outputs = np.array([0.0, np.log(3.0), 1000.0 - 1000.0])
    assert answer(outputs, ["bad", "good"]).name == "good"
    assert math.isclose(answer(outputs, []).sure, 0.6) and answer(outputs, []).name == "1"
    assert answer(np.array([1e4, 0.0]), []).sure == 1.0
    assert answer(np.array([np.nan, 0.0]), []).told == "not finite"


def test_the_active_rank_is_marked_by_more_than_colour_and_names_are_escaped() -> None:
    table = answer_table(ANSWERS, [1, 2], 2)
    assert table.count('aria-current="true"') == 3, "its head, and a cell of each method"
    assert 'aria-current="true">▾ 2</th>' in table and ">1</th>" in table
    assert "<b>&lt;i&gt;</b><small>60 %</small>" in table and "a &lt;b&gt;" in table
    assert "<i>" not in table


def test_without_answers_there_are_dashes() -> None:
    assert answer_table({"DyLoRA": {}}, [1, 2], 1).count("<b>–</b>") == 2


def test_the_sentence_is_about_the_active_rank() -> None:
    assert in_a_sentence(ANSWERS, 1) == "At rank 1, DyLoRA answers 7, 80 % sure; a <b> answers 4, 100 % sure."


def test_a_wide_table_can_be_scrolled_by_keys_and_long_names_are_small() -> None:
    short, long = ({"LoRA": {1: Answer(name, 0.9)}} for name in ("good", "ungrammatical"))
    assert "tabindex" not in answer_table(short, [1], 1) and "dk-long" not in answer_table(short, [1], 1)
    assert 'tabindex="0"' in answer_table(long, [1], 1) and 'class="dk-long"' in answer_table(long, [1], 1)
    assert 'tabindex="0"' in answer_table(short, range(1, 10), 1)
