"""Faults to plant in what writes texts and scores them."""

from planted import Fault

FAULTS: list[Fault] = [
    # metrics of texts
    ("BLEU's brevity penalty the wrong way round", "evaluation/text_metrics",
     "np.minimum(0.0, 1 - wanted / written)", "np.minimum(0.0, 1 - written / wanted)", "evaluation/test_text_metrics"),
    ("BLEU compares lengths with the first reference", "evaluation/text_metrics",
     "columns: Any = _columns(references, filler)\n",
     "columns: Any = _columns([refs[:1] for refs in references], filler)\n", "evaluation/test_text_metrics"),
    ("TER of the first reference", "evaluation/text_metrics",
     "min(edit_rate(written, ref) for ref in wanted)", "edit_rate(written, wanted[0])", "evaluation/test_text_metrics"),
    ("every n-gram tells as much as its first word", "evaluation/ngram_metrics",
     "begun = counts[gram[:-1]] if n > 1 else total", "begun = total", "evaluation/test_ngram_metrics"),
    ("no shifts are tried in TER", "evaluation/edit_rate", "    while left:\n", "    while False:\n",
     "evaluation/test_edit_rate"),
    ("empty texts are left out of the scores", "evaluation/text_metrics",
     "    empty = sum(not text.strip() for text in texts)\n",
     "    empty = sum(not text.strip() for text in texts)\n"
     "    given = [refs for text, refs in zip(texts, given) if text.strip()]\n"
     "    texts = [text for text in texts if text.strip()]\n", "evaluation/test_text_metrics"),
    # what is learned
    ("labels that do not count are smoothed too", "training/counting",
     "F.cross_entropy(logits[mask].float(), labels[mask], label_smoothing=self._smoothing)",
     "F.cross_entropy(logits.flatten(0, -2).float(), labels.clamp(min=0).flatten(), label_smoothing=self._smoothing)",
     "training/test_label_smoothing"),
    ("the line of facts counts in the loss", "tasks/generation", "[IGNORED] * len(prompt) + target",
     "[*prompt, *target]", "tasks/test_generation"),
    ("the line of facts lacks the last one", "tasks/e2e", "for slot, value in facts.items())",
     "for slot, value in list(facts.items())[:-1])", "tasks/test_generation"),
    ("the line of triples lacks the last one", "tasks/generation", "for triple in triples)",
     "for triple in triples[:-1])", "tasks/test_generation"),
    ("an input has the references of its first text alone", "tasks/generation",
     'if text not in group["references"]]', 'if not group["references"]]', "tasks/test_generation"),
    # what is written
    ("each prompt at the rank of its neighbour", "evaluation/writing", "handle.rank = per_prompt[part]",
     "handle.rank = per_prompt[part].roll(1)", "evaluation/test_writing"),
    ("every batch at the ranks of the first", "evaluation/writing", "handle.rank = per_prompt[part]",
     "handle.rank = per_prompt[: len(ids[part])]", "evaluation/test_writing"),
    ("beams without a length penalty", "evaluation/writing", 'options["length_penalty"] = length_penalty', "pass",
     "evaluation/test_writing"),
    ("what the prompt says is not repeated", "evaluation/writing", "processor(ids[:, prompt:], logits)",
     "processor(ids, logits)", "evaluation/test_writing"),
    ("a sweep that goes on writes a row again", "evaluation/text_sweep",
     "[number for number in order if (rank, number) not in kept.texts]", "list(order)", "evaluation/test_text_sweep"),
    ("texts stand beside the rows of others", "evaluation/text_sweep", "for number, text in zip(part, texts,",
     "for number, text in zip(sorted(part), texts,", "evaluation/test_text_sweep"),
    ("texts of other weights are taken", "evaluation/text_sweep", '{"weights": _weights(adapters), ', "{",
     "evaluation/test_text_sweep"),
    # facts in texts
    ("what a text adds counts as said", "tasks/slots", 'MADE_UP: "added"', 'MADE_UP: "said"', "tasks/test_slots"),
    ("what a text adds is no error", "tasks/slots", "mark.state != SAID for mark in",
     "mark.state in (MISSING, WRONG) for mark in", "tasks/test_slots"),
    ("what a text adds is among what is given", "lessons/lesson_06", 'counts.drop(columns="added")', "counts",
     "lessons/test_lesson_06"),
    # the paper's tables
    ("a cut at α/r has the scale of α/b", "paper/generation", 'handle.scaling = "alpha/r"', "pass",
     "paper/test_generation"),
    ("rows of other methods stand twice after a job that is done again", "paper/runs",
     'results = _without(results, new, [*job.part, "seed", "method", "rank", "metric"])', "pass", "paper/test_runs"),
]  # fmt: skip
