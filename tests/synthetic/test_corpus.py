"""Text to pretrain on: the same again, with marked facts, right answers, and nothing that gives a test away."""

import re
from itertools import islice

import pytest
from synthetic.entailed import follows

from dylora_kit.synthetic import corpus, errors, facts, read, reviews
from dylora_kit.synthetic.document_kinds import ANSWERS, IN_COMMON, JUDGED, STATEMENTS, Document
from dylora_kit.synthetic.examples import rows
from dylora_kit.synthetic.lexicon import PHRASES
from dylora_kit.synthetic.names import TEST


def documents(count: int, *, stage: str = "corpus", kind: str | None = None) -> list[Document]:
    """The first documents of a stage; of one kind only those among them."""
    first = islice(corpus.documents(3, stage=stage), count)
    return [document for document in first if kind in (None, document.kind)]


def marked(document: Document) -> list[str]:
    """What stands at the spans of a document."""
    return [(document.second or document.first)[start:end] for start, end in document.spans]


def test_the_corpus_has_no_text_that_corrects_a_test():
    wrong = [row for row in rows("acceptability", "test", TEST) if row["label"] == 0]
    assert wrong and all(row["correct"] in corpus.test_texts() and row["correct"] != row["first"] for row in wrong)


def test_an_unknown_stage_lists_the_known():
    with pytest.raises(ValueError, match="unknown stage 'late': expected one of 'easy', 'unanswered', 'corpus'"):
        next(corpus.documents(stage="late"))


def test_the_corpus_is_the_same_again_and_marks_facts():
    first, second = documents(400), documents(400)
    assert first == second
    assert {document.kind for document in first} == set(corpus.SHARES["corpus"])
    assert not {document.first for document in first} & corpus.test_texts()
    for document in first:
        text = document.second or document.first
        assert all(0 <= start < end <= len(text) for start, end in document.spans)
        assert document.spans or document.kind in ("remark", "sentence", "review")


def test_the_first_texts_are_short_and_say_what_they_mean():
    easy, usual = documents(400, stage="easy"), documents(400)
    assert {document.kind for document in easy} == set(corpus.SHARES["easy"])
    easy_lengths, usual_lengths = (
        [len(document.first) for document in some if document.kind == "pair"] for some in (easy, usual)
    )
    assert sum(easy_lengths) / len(easy_lengths) < 0.75 * sum(usual_lengths) / len(usual_lengths)
    good = {word for aspect in reviews.ASPECTS for word in aspect.good}
    praise = {words[1] for _, words in reviews.VERDICTS}
    for document in easy:
        if document.kind == "review":
            has_good_words = bool(good & set(re.findall(r"\w+", document.first)))
            assert has_good_words == (marked(document)[0] in praise), document


def held_out_ways(kind: str) -> list[str]:
    """The ways that are kept for tests and that a document of a kind could have."""
    if kind == "review":
        ways = [*reviews.KEEPING, *reviews.TURNING, *reviews.CONCESSIONS, *reviews.HEARSAY, *reviews.AGREEING,
                *reviews.DENYING]  # fmt: skip
        return [way[1:] for way in ways if way.startswith("+")]
    if kind == "judged":
        lists = [words for words in vars(errors).values() if isinstance(words, tuple)]
        return [word[1:] for words in lists for word in words if isinstance(word, str) and word.startswith("+")]
    return [way.words for ways in PHRASES.values() for way in ways if way.held_out and way.role != "verb"]


@pytest.mark.parametrize("kind", ["review", "answer", "likeness", "judged"])
def test_what_tests_hold_out_is_never_seen_with_its_meaning(kind: str):
    parts = [max(re.split(r"\{\w+\}", way), key=len).strip(" ,") for way in held_out_ways(kind)]
    kept = re.compile("|".join(rf"\b{re.escape(part)}\b" for part in parts), re.IGNORECASE)
    names = [name.lower() for name in facts.TEST_NAMES]
    with_meaning, without = [], []
    for document in documents(3000, stage="last", kind=kind):
        text = f"{document.first} {document.second}"
        holds_out = bool(kept.search(text)) or any(name in text.lower() for name in names)
        (with_meaning if document.spans else without).append(holds_out)
    assert with_meaning and not any(with_meaning)
    assert kind != "review" or sum(without) > 0.2 * len(without)


def test_answers_follow_from_the_facts_that_are_read():
    pairs = []
    for document in documents(1000, kind="answer"):
        answered = re.findall(r"(.+?\.) (Yes|Perhaps|No)\.(?: |$)", document.second)
        assert len(answered) == len(document.spans) in (1, STATEMENTS)
        assert [answer for _, answer in answered] == marked(document)
        if len(answered) == STATEMENTS:
            pairs += [(follows(document.first, statement), ANSWERS.index(answer)) for statement, answer in answered]
    checked = [(expected, label) for expected, label in pairs if expected is not None]
    assert len(checked) > 300 and all(expected == label for expected, label in checked)
    assert {label for _, label in checked} == {0, 1, 2}


def test_what_two_restaurants_have_in_common_is_counted():
    counted = []
    for document in documents(600, stage="last", kind="likeness"):
        first, second = read.read(document.first), read.read(document.second)
        shared = sum(first[key] == second.get(key) for key in first)
        assert marked(document)[0] == IN_COMMON[shared]
        counted.append(shared)
    assert set(counted) == {0, 1, 2, 3, 4} and len(counted) > 50


def test_judged_sentences_are_right_and_wrong_ones_in_equal_shares():
    judged = documents(1500, stage="last", kind="judged")
    verdicts = [JUDGED.index(marked(document)[0]) for document in judged]
    assert 0.4 < sum(verdicts) / len(verdicts) < 0.6
    correct = {row["correct"] for row in rows("acceptability", "test", TEST)}
    assert not correct & {document.first for document in judged}


def test_what_is_said_of_a_sentence_is_so():
    wrong = re.compile(
        r"\bmore \w+er than\b|\ba (old|ugly|orange|Italian|expensive)\b|\ban (new|lovely|French|green)\b"
    )
    right = re.compile(r"\b(much|far|little) \w+er than\b|\ban (old|ugly|orange|Italian|expensive)\b")
    recognised = [
        (expected, document.second)
        for document in documents(4000, stage="last", kind="judged")
        for expected, sign in (("wrong", wrong), ("correct", right)) if sign.search(document.first)
    ]  # fmt: skip
    assert len(recognised) > 30 and {expected for expected, _ in recognised} == set(JUDGED)
    assert all(verdict == f"This is {expected}." for expected, verdict in recognised)


def test_of_a_sentence_the_words_that_an_error_would_change_are_marked():
    for document in documents(400, kind="sentence"):
        assert len(marked(document)) <= 5 and all(word.isalpha() for word in marked(document)), document
