"""The words of the lessons, on one page."""

from dylora_kit.classroom.sheet import BLUE, GREY, MARGIN, PALE, WIDTH, Sheet

Words = tuple[tuple[str, str], ...]
GROUPS: tuple[tuple[str, Words], ...] = (
    (
        "The adapter",
        (
            ("adapter", "A few new weights beside a layer. The layer's own weights W₀ stay as they are."),
            ("LoRA", "An adapter whose correction is a product of two thin matrices."),
            ("lora_A, lora_B", "Those matrices. A has r rows and d_in columns, B has d_out rows and r columns."),
            ("ΔW", "The correction: the scale times B times A. It is added to W₀."),
            ("r", "The largest rank: how many rows A has."),
            ("rank, b", "How many rows of A and columns of B take part now. From 1 to r."),
            ("lora_alpha, scale", "α is one number for the adapter. ΔW is multiplied by α/b, so a cut makes it "
             "louder. Some people use α/r at every rank."),
            ("head", "The last layer, which names the answer. It is trained too, and all ranks share it."),
        ),
    ),
    (
        "The training",
        (
            ("nested", "Each rank is part of the next: the rows of rank 2 are those of rank 1, and one more."),
            ("nested dropout", "A code is cut at a random length while it is learned. So its first numbers come to "
             "matter most. DyLoRA does this with rows."),
            ("p_B", "How b is drawn before each step. What is drawn often becomes better."),
            ("DyLoRA", "A LoRA that is trained with a drawn rank in each step. Afterwards every rank works."),
            ("exact update", "Rows beyond b keep their values, their momentum and their step count."),
            ("leaky update", "As the authors' code has it: AdamW moves rows that the step did not use."),
            ("frozen update", "Row b alone learns; rows 1 to b − 1 help, and stay (Eq. 10)."),
            ("self-distillation", "A LoRA at its full rank teaches its own lower ranks. No labels are needed. In the "
             "kit it is called nest."),
            ("teacher, divergence", "The teacher's answers are shares for each class. The divergence says how far "
             "the pupil's are from them; 0 is equal."),
        ),
    ),
    (
        "The cut",
        (
            ("truncation, cut to b", "You keep the first b rows of A and the first b columns of B. The rest is not "
             "read."),
            ("ordering", "The rows of a trained LoRA are sorted, the strongest direction first. ΔW stays the same."),
            ("prefix", "The first b of something that has an order: of rows, or of units."),
            ("singular values", "How strongly ΔW acts, direction by direction, the strongest first."),
            ("SVD cut", "The matrix of rank b that is closest to ΔW. It needs no training. Closest need not be best "
             "for the task."),
            ("energy", "The sum of the squared singular values. A share of it says how much of ΔW a cut keeps."),
            ("effective rank", "How many directions ΔW uses, by its singular values. It need not be whole."),
            ("ordering score", "What the first b rows span of ΔW, as a part of the most that b rows could."),
        ),
    ),
    (
        "The choice",
        (
            ("sweep", "One measurement at every rank."),
            ("search-free", "One training gives all ranks. A search trains once for each."),
            ("tolerance", "How much worse than the best rank you accept for a smaller one."),
            ("validation data", "What you choose a rank on. What you choose on looks better than it is, so you "
             "report on test data."),
            ("bootstrap", "You draw the data again, many times, and see how often the choice changes."),
            ("budget", "What a training is given: steps × batch × passes."),
            ("merge", "ΔW is added to W₀ once. The model is as fast as before, and its rank is fixed."),
        ),
    ),
    (
        "Sentences",
        (
            ("fused projection", "One matrix that makes query, key and value at once, such as GPT-2's c_attn."),
            ("label −100", "A token with it does not count in the loss: the facts that are given, and padding."),
            ("BLEU", "How many runs of one to four words a text shares with what people wrote."),
            ("slot error rate", "Facts that are wrong, missing or added, as a share of the facts that were given."),
            ("paired bootstrap", "Two ranks on the same examples, drawn again many times. Only the difference "
             "counts."),
        ),
    ),
)  # fmt: skip


def glossary() -> bytes:
    """The glossary as a PDF of one A4 page, in two columns."""
    sheet = Sheet("The words of the DyLoRA lessons")
    y = end = sheet.paragraph(MARGIN, 15, WIDTH - 2 * MARGIN, "The words", size=25, style="B", spacing=1.2)
    said = "What the lessons mean by them. Names in Python are written as you type them."
    top = sheet.paragraph(MARGIN, y + 1.5, WIDTH - 2 * MARGIN, said, size=9.6, colour=GREY) + 6
    half = (WIDTH - 2 * MARGIN - 10) / 2
    for column, groups in enumerate((GROUPS[:2], GROUPS[2:])):
        y = top
        for title, words in groups:
            y = _group(sheet, MARGIN + column * (half + 10), y, half, title, words) + 5
            end = max(end, y)
    sheet.line([(WIDTH / 2, top), (WIDTH / 2, end - 5)], colour=PALE)
    return sheet.content()


def _group(sheet: Sheet, x: float, y: float, width: float, title: str, words: Words) -> float:
    y = sheet.paragraph(x, y, width, title, size=12.5, style="B", colour=BLUE) + 1.5
    for word, meaning in words:
        y = sheet.paragraph(x, y, width, f"**{word}**: {meaning}", size=8.7, spacing=1.38) + 1.8
    return y
