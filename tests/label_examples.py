"""Tiny labelled tasks, one for every head, whose labels can be learned; tiny encoders for them."""

from encoder_examples import ENCODER, WORDS, labelled, sentence
from headed_models import headed

from hf_synpre.finetuning import LabelTask
from hf_synpre.models.spec import ModelSpec

MODEL = ModelSpec("electra", overrides=ENCODER | {"embedding_size": 16})


TRAINING = {
    "optim": "adamw_torch",
    "learning_rate": 5e-3,
    "use_cpu": True,
    "per_device_train_batch_size": 16,
}


def pairs_of(first, count):
    """Two sentences; the last word of the second says the label."""
    sentences = [sentence(i) for i in range(first, first + count)]
    labels = [i % 2 for i in range(first, first + count)]
    answers = ["yes" if label else "no" for label in labels]
    return {
        "sentence1": sentences,
        "sentence2": [f"{t} {answer}" for t, answer in zip(sentences, answers, strict=True)],
        "label": labels,
    }


def multi(first, count):
    """Colours; each of three labels says whether a colour is there."""
    labels = [[(i >> k) & 1 for k in range(3)] for i in range(first, first + count)]
    texts = []
    for row in labels:
        colours = [w for w, on in zip(("red", "green", "blue"), row, strict=True) if on]
        texts.append(" ".join(colours) or "none")
    return {"text": texts, "labels": labels}


def numbers(first, count):
    """Praise; the label is how often it says very."""
    shares = [i % 6 for i in range(first, first + count)]
    return {
        "sentence1": ["very " * n + "good" for n in shares],
        "sentence2": ["good"] * count,
        "label": [float(n) for n in shares],
    }


def choices(first, count):
    """A sentence and four endings, of which one says that it is right."""
    rights = [i % 4 for i in range(first, first + count)]
    endings = [
        ["ends right" if k == r else f"ends {WORDS[(i + k) % 16]}" for k in range(4)]
        for i, r in enumerate(rights)
    ]
    return {
        "ctx": [sentence(i) for i in range(first, first + count)],
        "endings": endings,
        "label": [str(r) for r in rights],
    }


def spans(first, count):
    """A text whose last word is the answer."""
    contexts = [
        f"{sentence(i)} the hero is {WORDS[i % 5 + 2]}." for i in range(first, first + count)
    ]
    words = [WORDS[i % 5 + 2] for i in range(first, first + count)]
    starts = [len(c) - len(w) - 1 for c, w in zip(contexts, words, strict=True)]
    answers = [{"text": [w], "answer_start": [s]} for w, s in zip(words, starts, strict=True)]
    return {"context": contexts, "question": ["who is the hero?"] * count, "answers": answers}


def tags(first, count):
    """Words, of which dog and cat are entities."""
    words = [sentence(i).split() for i in range(first, first + count)]
    return {
        "tokens": words,
        "ner_tags": [["B-pet" if w in ("dog", "cat") else "O" for w in row] for row in words],
    }


# name -> the task, a function (first, count) that makes its rows, the least score after training
TASKS = {
    "classes": (LabelTask("classes", "classes", [["text"]], [["label"]]), labelled, 0.9),
    "pairs": (
        LabelTask(
            "pairs", "classes", [["sentence1", "sentence2"]], [["label"]], metric="accuracy_f1"
        ),
        pairs_of,
        0.9,
    ),
    "labels": (LabelTask("labels", "labels", [["text"]], [["labels"]]), multi, 0.9),
    "number": (
        LabelTask("number", "number", [["sentence1", "sentence2"]], [["label"]]),
        numbers,
        0.8,
    ),
    "choices": (
        LabelTask("choices", "choices", [["ctx"]], [["label"]], [["endings"]]),
        choices,
        0.8,
    ),
    "span": (
        LabelTask("span", "span", [["context", "question"]], [["answers"]], max_source=48),
        spans,
        0.6,
    ),
    "tags": (LabelTask("tags", "tags", [["tokens"]], [["ner_tags"]]), tags, 0.9),
}


def fresh(data, seed=0):
    """Return a tiny ELECTRA with the head of a prepared task."""
    return headed(data, MODEL, seed)
