"""The answers of a span task: logits of windows -> the text of each example's best span."""

import math

import numpy as np

from hf_synpre.finetuning.label_rows import SpanRows

LONGEST_ANSWER = 30  # the most ids of an answer (Devlin et al. 2019)


def extract_answers(rows: SpanRows, start_logits: np.ndarray, end_logits: np.ndarray) -> list[str]:
    """Return for each example the text of the best span over all its windows.

    Args:
        rows: the windows of the logits, in their order.
        start_logits: the logit of each position as the first of the answer, [windows, positions].
        end_logits: the logit of each position as the last of the answer, [windows, positions].

    Returns:
        The texts. If some questions of the rows have no answer, a text is empty where the first
        position of the row is likelier than every span of the context, as for SQuAD 2.0 in Devlin
        et al. 2019: the lowest sum of its two logits over the windows is compared.
    """
    # The score of "no answer" of each example, where there may be none.
    no_answer: dict[int, float] = {}
    if not all(rows.true_labels):
        for index, window in enumerate(rows.windows):
            score = float(start_logits[index, 0] + end_logits[index, 0])
            no_answer[window.example] = min(no_answer.get(window.example, math.inf), score)

    # example -> (score, first id, last id) of its best span in the context.
    best: dict[int, tuple[float, int, int]] = {}
    for index, window in enumerate(rows.windows):
        begin = rows.context_start(index)
        end = begin + window.count
        score, first, last = best_span(start_logits[index, begin:end], end_logits[index, begin:end])

        candidate = (score, window.first + first, window.first + last)
        best[window.example] = max(best.get(window.example, (-math.inf, 0, 0)), candidate)
    texts = span_texts(rows, best)
    for example, score in no_answer.items():
        if score > best[example][0]:
            texts[example] = ""
    return texts


def best_span(start_logits: np.ndarray, end_logits: np.ndarray) -> tuple[float, int, int]:
    """Return (score, first, last) of the span of at most LONGEST_ANSWER ids with the highest sum.

    Args:
        start_logits: the logit of each position as the first, [positions].
        end_logits: the logit of each position as the last, [positions].
    """
    count = len(start_logits)
    best = (-math.inf, 0, 0)
    for extra in range(min(LONGEST_ANSWER, count)):  # a span of extra + 1 ids
        sums = start_logits[: count - extra] + end_logits[extra:]  # [positions - extra]
        first = int(sums.argmax())
        best = max(best, (float(sums[first]), first, first + extra))
    return best


def span_texts(rows: SpanRows, spans: dict[int, tuple[float, int, int]]) -> list[str]:
    """Return the text of each example's span.

    Args:
        rows: the examples: their contexts, and the characters of each id.
        spans: example -> (score, first id, last id).
    """
    contexts = rows.encoded["context"].to_pylist()
    offsets = rows.encoded["offsets"].to_pylist()  # begin and end of each id, one after the other

    texts = []
    for example, (context, ends) in enumerate(zip(contexts, offsets, strict=True)):
        if not ends:  # a context without ids
            texts.append("")
            continue
        _, first, last = spans[example]
        texts.append(context[ends[2 * first] : ends[2 * last + 1]].strip())
    return texts
