"""What metrics can judge: averages, tag schemes, scripts, answers that are not there.

Run: pytest tests/finetuning/test_what_metrics_judge.py
"""

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from hf_synpre import UsageError
from hf_synpre.finetuning import LabelTask
from hf_synpre.finetuning.label_names import LabelNames, positive_number
from hf_synpre.finetuning.metrics import METRICS
from hf_synpre.finetuning.scores import SCORES, SCORINGS, Labels, prediction_notes
from hf_synpre.finetuning.tag_schemes import find_scheme
from hf_synpre.finetuning.text_units import unicode_words

TASK = LabelTask("mine", "classes", [["text"]], [["label"]], metric="accuracy_f1")


# --- classes --------------------------------------------------------------------------------------


def test_f1_of_three_classes_is_the_mean_over_classes():
    """By hand: class 0 has F1 1, class 1 has 2 of 3 found and 2 of 4 right, class 2 has 1 of 3."""
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    predictions = np.array([0, 0, 0, 1, 1, 2, 1, 1, 2])
    scores, _ = SCORES["accuracy_f1"](predictions, labels, Labels(("a", "b", "c")))
    by_class = [1, 2 * 2 / (3 + 4), 2 * 1 / (3 + 2)]
    assert scores["f1"] == scores["f1_weighted"] == pytest.approx(np.mean(by_class))

    # Another order of the names changes nothing, and rows weigh the other average
    renamed = np.array([2, 0, 1])
    again, _ = SCORES["accuracy_f1"](renamed[predictions], renamed[labels])
    assert again == pytest.approx(scores)
    uneven, _ = SCORES["accuracy_f1"](predictions[1:], labels[1:])
    assert uneven["f1_weighted"] == pytest.approx(np.average(by_class, weights=[2, 3, 3]))
    assert SCORINGS["accuracy_f1"](Labels(("a", "b", "c")))["f1"].startswith("macro")


def test_f1_of_two_classes_is_that_of_the_positive_one():
    predictions, labels = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1])
    first, _ = SCORES["accuracy_f1"](predictions, labels, Labels(("yes", "no"), positive=0))
    second, _ = SCORES["accuracy_f1"](predictions, labels, Labels(("no", "yes")))
    assert (first["f1"], second["f1"]) == (0.5, 0.5)
    assert SCORINGS["accuracy_f1"](Labels(("yes", "no"), 0)) == {
        "f1": "binary, the positive class is yes"
    }


@pytest.mark.parametrize(
    ("names", "declared", "positive"),
    [
        (["no", "yes"], False, "yes"),
        (["False", "True"], False, "True"),
        (["entailment", "not_entailment"], False, "entailment"),
        (["not spam", "spam"], False, "spam"),
        ([0, 1], False, 1),
        (["-1", "1"], False, "1"),
        ([1, 2], False, 1),
        ([3, 4], False, 4),
        (["ham", "spam"], True, "spam"),
    ],
)
def test_the_positive_class_is_found_by_its_name(names, declared, positive):
    assert names[positive_number(TASK, names, declared)] == positive


def test_a_positive_class_that_nothing_says_is_asked_for():
    with pytest.raises(UsageError, match="neither 'ham' nor 'spam' says that it is that; give pos"):
        positive_number(TASK, ["ham", "spam"], False)
    named = LabelTask("mine", "classes", [["text"]], [["label"]], positive_class="ham")
    assert positive_number(named, ["ham", "spam"], False) == 0
    with pytest.raises(UsageError, match="positive_class is 'ham', and the classes are a and b"):
        positive_number(named, ["a", "b"], False)


def test_matthews_of_three_classes_does_not_depend_on_their_numbers():
    """R_K of 3 classes by its formula: (c s - sum p t) / root((s^2 - sum p^2)(s^2 - sum t^2))."""
    labels, predictions = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 0])
    expected = (4 * 6 - (2 * 2 + 3 * 2 + 1 * 2)) / ((36 - 14) * (36 - 12)) ** 0.5
    for numbers in ([0, 1, 2], [2, 0, 1]):
        renamed = np.array(numbers)
        scores, _ = SCORES["matthews"](renamed[predictions], renamed[labels])
        assert scores["matthews_corr"] == pytest.approx(expected)
    constant, _ = SCORES["matthews"](np.full(6, 2), labels)
    assert constant["matthews_corr"] == 0


def test_correlations_of_what_does_not_vary_are_zero():
    numbers = np.array([1.0, 2.0, 3.0])
    for pair in ((numbers, np.ones(3)), (np.ones(3), numbers), (numbers[:1], numbers[:1])):
        scores = SCORES["pearson_spearman"](*pair)[0]
        assert {scores[name] for name in scores if "corr" in name} == {0.0}


@pytest.mark.parametrize(
    ("head", "metric"), [("classes", "auc"), ("tags", "accuracy"), ("number", "accuracy_f1")]
)
def test_a_metric_of_another_head_is_refused(head, metric):
    with pytest.raises(UsageError, match=f"Unknown metric of the head {head} '{metric}'"):
        LabelTask("mine", head, [["text"]], [["label"]], metric=metric)


def test_an_integer_and_its_text_are_one_label_unless_names_are_declared():
    assert LabelNames([0, 1], declared=False).number("1") == 1
    assert LabelNames(["1", "2"], declared=False).number(1) == 0
    assert LabelNames(["1", "2"]).number(1) == 1
    with pytest.raises(ValueError, match="2"):
        LabelNames(["a", "b"]).number(2)


# --- tags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        ("O B-PER I-PER", "IOB (IOB1 and IOB2 alike)"),
        ("O I-PER I-LOC", "IO"),
        ("O B-PER I-PER E-PER S-PER", "IOBES"),
        ("O S-PER", "IOBES"),
        ("O B-PER I-PER L-PER U-PER", "BILOU"),
        ("O B-PER M-PER E-PER S-PER", "BMES"),
        ("O B-PER M-PER E-PER W-PER", "BMEWO"),
        ("O B_PER I_PER", "IOB (IOB1 and IOB2 alike)"),
        ("O PER-B PER-I", "IOB (IOB1 and IOB2 alike)"),
        ("O B:PER I:PER E:PER S:PER", "IOBES"),
        ("O PER/B PER/I", "IOB (IOB1 and IOB2 alike)"),
        ("o b-per i-per", "IOB (IOB1 and IOB2 alike)"),
        ("O B I", "IOB (IOB1 and IOB2 alike)"),
        ("O PER LOC", "types without a prefix"),
        ("O I-PER E-PER", "tags with E, I"),
    ],
)
def test_schemes_are_recognised_by_the_names_of_tags(names, scheme):
    assert find_scheme(names.split()).name == scheme


def test_tags_without_entities_have_no_scheme():
    assert find_scheme(["NOUN", "VERB"]) is None
    assert find_scheme(["0", "1"]) is None
    assert find_scheme(["N", "O", "V"]) is None  # O is a part of speech here
    mixed = find_scheme(["O", "B-PER", "I-PER", "X"])
    assert mixed.ignored == ("X",)
    assert mixed.description().endswith("outside of entities: X")


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        # IOB1: B- only between neighbours of one type; IOB2: B- always
        ("I-A I-A B-A O I-B", {("A", 0, 1), ("A", 2, 2), ("B", 4, 4)}),
        ("B-A I-A B-A O B-B", {("A", 0, 1), ("A", 2, 2), ("B", 4, 4)}),
        ("I-A I-B I-B O", {("A", 0, 0), ("B", 1, 2)}),
        # Closed schemes: an entity without its end is none
        ("S-A O B-A I-A E-A", {("A", 0, 0), ("A", 2, 4)}),
        ("B-A O B-A E-B E-A S-A", {("A", 5, 5)}),
        ("U-A O B-A I-A L-A", {("A", 0, 0), ("A", 2, 4)}),
        ("B-A M-A E-A W-A O", {("A", 0, 2), ("A", 3, 3)}),
        ("B-A E-A B-A E-A O S-A", {("A", 0, 1), ("A", 2, 3), ("A", 5, 5)}),
        # E ends an entity where nothing begins one, as conlleval has it
        ("I-A E-A E-A O", {("A", 0, 1), ("A", 2, 2)}),
        ("PER PER O LOC PER", {("PER", 0, 1), ("LOC", 3, 3), ("PER", 4, 4)}),
        ("B I O B B", {("", 0, 1), ("", 3, 3), ("", 4, 4)}),
    ],
)
def test_entities_of_each_scheme(tags, entities):
    assert find_scheme([*tags.split(), "O"]).entities(tags.split()) == entities


def test_ends_that_are_missed_count():
    names = Labels(("O", "S-PER", "B-LOC", "I-LOC", "E-LOC"))
    true = [["O", "S-PER", "O", "O", "B-LOC", "E-LOC"]]
    missed = [["O", "S-PER", "O", "O", "B-LOC", "O"]]
    assert SCORES["span_f1"](true, true, names)[0]["span_f1"] == 1
    assert SCORES["span_f1"](missed, true, names)[0]["span_f1"] == pytest.approx(2 / 3)
    assert "IOBES" in SCORINGS["span_f1"](names)["span_f1"]
    assert SCORES["tag_accuracy"](missed, true)[0] == {"tag_accuracy": pytest.approx(5 / 6)}


# --- texts ----------------------------------------------------------------------------------------

SCRIPTS = {
    "Russian": "Привет, мир! Как дела?",
    "Hindi": "नमस्ते दुनिया, आप कैसे हैं?",
    "Chinese": "今天天气很好，我们去公园玩。",
    "Japanese": "今日は良い天気ですね。公園へ行きましょう。",
    "Thai": "สวัสดีครับ วันนี้อากาศดี",
    "Arabic": "مرحبا بالعالم كيف حالك",
    "Korean": "안녕하세요 세계 여러분 반갑습니다",
    "Greek": "Καλημέρα σε όλο τον κόσμο",
}


@pytest.mark.parametrize("language", SCRIPTS)
def test_equal_texts_of_any_script_score_one(language):
    text = SCRIPTS[language]
    half = text[: len(text) // 2]
    for name, score in (("rouge1", "rouge1"), ("token_f1", "f1"), ("squad", "f1")):
        metric = METRICS[name](keep_in_memory=True)
        assert metric.compute(predictions=[text], references=[text])[score] == 1
        assert 0 < metric.compute(predictions=[half], references=[text])[score] < 1
        assert metric.compute(predictions=["hello"], references=[text])[score] == 0


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("Chinese", "zh"), ("Japanese", "char"), ("Russian", "13a")]
)
def test_bleu_takes_the_tokenizer_of_the_language(language, tokenizer):
    text = SCRIPTS[language] + " " + SCRIPTS[language]
    metric = METRICS["exact_match_bleu"](keep_in_memory=True)
    changed = text.replace(text[1], "x")
    found = metric.compute(predictions=[text, changed], references=[text, text])["bleu"]
    expected = sacrebleu.corpus_bleu([text, changed], [[text, text]], tokenize=tokenizer)
    assert found == expected.score / 100
    assert 0 < found < 1
    assert metric.scoring([text])["bleu"].endswith(f"tokenizer {tokenizer}")


def test_english_scores_are_those_of_the_libraries():
    references = ["It's a naïve test, isn't it?", "U.S. exports rose 3.5 %", "α-helix of the test"]
    predictions = ["it is a naive test", "US exports rose by 3.5 percent", "the helix test"]
    scorer = RougeScorer(["rouge1"])
    pairs = zip(references, predictions, strict=True)
    expected = [scorer.score(*pair)["rouge1"].fmeasure for pair in pairs]
    metric = METRICS["rouge1"](keep_in_memory=True)
    assert metric.each(predictions, references)["rouge1"].tolist() == expected
    assert metric.scoring(references) == {"rouge1": "rouge-score's words (a-z, 0-9)"}
    assert unicode_words("It's 3.5 _ok_") == ["it", "s", "3", "5", "ok"]

    bleu = METRICS["exact_match_bleu"](keep_in_memory=True)
    found = bleu.compute(predictions=predictions, references=references)["bleu"]
    assert found == sacrebleu.corpus_bleu(predictions, [references]).score / 100


def test_the_result_says_how_many_references_are_of_other_scripts():
    scoring = METRICS["rouge1"](keep_in_memory=True).scoring(["one", ["Привет", "мир"]])
    assert scoring["rouge1"].endswith("words of any script in 2 of 3 references")


# --- answers --------------------------------------------------------------------------------------


def test_questions_without_an_answer_are_scored_as_in_squad_2():
    """Right where nothing is predicted; what the official script gives for each kind beside it."""
    labels = [["Denver Broncos"], [], ["a town"], []]
    scores, each = SCORES["f1"](["the Broncos", "", "", "guess"], labels)
    assert each.tolist() == [pytest.approx(2 / 3), 1, 0, 0]
    assert scores == {
        "f1": pytest.approx(5 / 12),
        "exact_match": 0.25,
        "has_answer_f1": pytest.approx(1 / 3),
        "no_answer_f1": 0.5,
    }
    assert SCORES["f1"](["the Broncos"], [["Broncos"]])[0] == {"f1": 1.0, "exact_match": 1.0}


def test_no_references_are_no_answer_for_squad_and_refused_elsewhere():
    squad = METRICS["squad"](keep_in_memory=True)
    assert squad.each(["", "guess"], [[], []])["f1"].tolist() == [1, 0]
    with pytest.raises(UsageError, match="The prediction 'guess' has no reference; give one text"):
        METRICS["rouge1"](keep_in_memory=True).each(["guess"], [[]])
    with pytest.raises(UsageError, match="There are no predictions to score"):
        METRICS["rouge1"](keep_in_memory=True).each([], [])


@pytest.mark.parametrize("metric", ["accuracy", "accuracy_f1"])
def test_predictions_of_one_class_are_said(metric):
    assert "have learnt" not in str(prediction_notes(metric, np.array([0, 1, 0])))
    (note,) = prediction_notes(metric, np.array([1, 1, 1]))
    assert note == "all predictions of test are the same: the model has learnt no difference"
