"""Every metric against the examples that the public implementations publish, and known values.

Run: pytest tests/finetuning/test_metrics.py
"""

import numpy as np
import pytest

from hf_synpre.finetuning.metrics import METRICS, normalized_answer
from hf_synpre.finetuning.scores import (
    accuracy_f1,
    auc,
    matthews,
    pearson_spearman,
    ranks,
    span_f1,
)
from hf_synpre.finetuning.tag_schemes import find_scheme


def scores(name, predictions, references):
    return METRICS[name](keep_in_memory=True).compute(
        predictions=predictions, references=references
    )


DOGS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
BITES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]
FOX = "The quick brown fox jumps over the lazy dog"
PUBLISHED = {
    # huggingface.co/spaces/evaluate-metric/exact_match
    "exact_match": (
        ["cat?", "theater", "yelling", "agent"],
        ["the cat", "theater", "YELLING", "agent007"],
        0.25,
    ),
    # github.com/google-research/google-research/tree/master/rouge: README
    "rouge1": (["The quick brown dog jumps on the log."], [FOX], 0.7058823529411765),
    # github.com/mjpost/sacrebleu: README
    "exact_match_bleu": (DOGS, BITES, 0.48530827009929865),
    # huggingface.co/spaces/evaluate-metric/squad
    "squad": (
        ["1976", "Beyonce", "climate change"],
        [["1976"], ["Beyoncé and Bruno Mars"], ["climate change"]],
        2 / 3,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_examples(name):
    predictions, references, expected = PUBLISHED[name]
    score = "bleu" if name == "exact_match_bleu" else METRICS[name]().main
    assert scores(name, predictions, references)[score] == pytest.approx(expected)


def test_rouge_equals_its_library_on_the_other_published_examples():
    texts = ["hello there", "general kenobi"]
    assert scores("rouge1", texts, texts)["rouge1"] == 1
    assert scores("rouge1", ["testing"], ["testing one two"])["rouge1"] == pytest.approx(0.5)


def test_squad_takes_the_best_reference_and_normalises():
    assert normalized_answer("The  U.S. Army, an army!") == "us army army"
    best = scores("squad", ["in the Denver Broncos"], [["Carolina Panthers", "Denver Broncos"]])
    assert best == {"exact_match": 0.0, "f1": pytest.approx(0.8)}
    assert scores("squad", ["the Broncos."], [["x", "broncos"]]) == {"exact_match": 1.0, "f1": 1.0}
    # Nothing is left of either: the official script gives 0 too
    assert scores("squad", ["the"], [["a"]])["f1"] == 0


def test_token_f1_counts_repeated_tokens_once_each():
    assert scores("exact_match_f1", ["a a b"], ["a b b"]) == {
        "exact_match": 0.0,
        "f1": pytest.approx(2 / 3),
    }
    assert scores("token_f1", [""], ["a"])["f1"] == 0


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_the_mean_of_its_examples_and_takes_both_kinds_of_references(name):
    predictions, references = ["[IN:X a ]", "b"], ["[IN:X a ]", "c"]
    metric = METRICS[name](keep_in_memory=True)
    means = metric.compute(predictions=predictions, references=references)
    lists = [[reference] for reference in references]
    assert means == metric.compute(predictions=predictions, references=lists)
    each = metric.each(predictions, references)
    assert {k: v.mean() for k, v in each.items()} == {k: means[k] for k in metric.score_functions}
    assert means[metric.main] == 0.5


def test_scores_have_known_values():
    predictions, labels = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])
    assert accuracy_f1(predictions, labels)[0] == {"accuracy": 0.5, "f1": 0.5}
    assert matthews(predictions, labels)[0]["matthews_corr"] == 0.0
    assert matthews(labels, labels)[0]["matthews_corr"] == pytest.approx(1.0)
    assert matthews(np.ones(4), labels)[0]["matthews_corr"] == 0.0
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]
    curved = pearson_spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 11.0]))[0]
    assert curved["spearman_corr"] == pytest.approx(1.0)
    assert curved["pearson_corr"] < 0.95
    two = auc(
        np.array([[0.1, 0.0], [0.4, 0.0], [0.35, 0.0], [0.8, 0.0]]),
        np.array([[0, 1], [0, 1], [1, 1], [1, 1]]),
    )[0]
    assert two["auc"] == 0.75  # the second label never varies
    tags = ["B-a", "I-a", "I-b", "O", "I-a", "B-a"]
    assert find_scheme(tags).entities(tags) == {
        ("a", 0, 1),
        ("b", 2, 2),
        ("a", 4, 4),
        ("a", 5, 5),
    }
    assert span_f1([["B-a", "O"]], [["B-a", "B-b"]])[0] == {
        "span_f1": pytest.approx(2 / 3),
        "tag_accuracy": 0.5,
    }
