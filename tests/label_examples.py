"""Tiny labelled tasks, one for every head, whose labels can be learned; tiny encoders for them."""

from selfpre import ENCODER, WORDS, labelled, sentence

from hf_synpre.finetuning import LabelTask
from hf_synpre.initialization import build
from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import as_vocabulary

MODEL = ModelSpec("electra", overrides=ENCODER | {"embedding_size": 16})


TRAINING = {
    "optim": "adamw_torch",
    "learning_rate": 5e-3,
    "use_cpu": True,
    "per_device_train_batch_size": 16,
}


def pairs_of(first, count):
    one, two = ([sentence(i * k) for i in range(first, first + count)] for k in (1, 1))
    same = [i % 2 for i in range(first, first + count)]
    return {
        "sentence1": one,
        "sentence2": [f"{t} yes" if s else f"{t} no" for t, s in zip(two, same, strict=True)],
        "label": same,
    }


def multi(first, count):
    told = [[(i >> k) & 1 for k in range(3)] for i in range(first, first + count)]
    texts = [
        " ".join(w for w, on in zip(("red", "green", "blue"), row, strict=True) if on) or "none"
        for row in told
    ]
    return {"text": texts, "labels": told}


def numbers(first, count):
    shares = [i % 6 for i in range(first, first + count)]
    return {
        "sentence1": ["very " * n + "good" for n in shares],
        "sentence2": ["good"] * count,
        "label": [float(n) for n in shares],
    }


def choices(first, count):
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
    contexts = [
        f"{sentence(i)} the hero is {WORDS[i % 5 + 2]}." for i in range(first, first + count)
    ]
    words = [WORDS[i % 5 + 2] for i in range(first, first + count)]
    starts = [len(c) - len(w) - 1 for c, w in zip(contexts, words, strict=True)]
    answers = [{"text": [w], "answer_start": [s]} for w, s in zip(words, starts, strict=True)]
    return {"context": contexts, "question": ["who is the hero?"] * count, "answers": answers}


def tags(first, count):
    words = [sentence(i).split() for i in range(first, first + count)]
    return {
        "tokens": words,
        "ner_tags": [["B-pet" if w in ("dog", "cat") else "O" for w in row] for row in words],
    }


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
    return headed(data, MODEL, seed)


def headed(data, model, seed=0):
    config = model.config(as_vocabulary(data.tokenizer))
    head = data.head_for(config)
    return build(head.model_class, head.configure(config, data), {}, seed)
