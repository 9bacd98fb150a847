"""The ids of names and numbers in the vocabularies that tasks are generated with.

Run: pytest tests/tasks/test_vocabulary.py
"""

from task_rows import SMALL, TASKS, body_of, pairs

from hf_synpre.tasks import get_task
from hf_synpre.vocabulary import Vocabulary


def test_no_two_functions_share_their_name_ids():
    names = [name for name in TASKS if getattr(get_task(name), "named", False)]
    assert len(names) == 18
    for v in (Vocabulary.t5(), SMALL, Vocabulary.plain(128)):
        assert len({tuple(get_task(name).prefix(v)) for name in names}) == 18


class Spelling:
    """A stand-in tokenizer whose only text is digits and a bare '▁' before numbers from 10 on."""

    def encode(self, text, add_special_tokens):
        return ([3] if int(text) > 9 else []) + [40 + int(digit) for digit in text]

    def convert_ids_to_tokens(self, i):
        return "▁" if i == 3 else str(i - 40)


def test_numbers_come_from_the_tokenizer_without_a_bare_space():
    v = Vocabulary(100, 0, 1, 2, 80, SMALL.special_ids, tokenizer=Spelling())
    row, target = pairs("length", stop=1, vocabulary=v)[0]
    assert target == [40 + int(digit) for digit in str(len(body_of("length", row, v)))]


def test_former_names_of_a_vocabulary_still_give_its_ids():
    assert (SMALL.first, SMALL.content) == (SMALL.first_regular, SMALL.regular_count)
    assert SMALL.marks == SMALL.special_ids
    assert SMALL.spell(30) == SMALL.decode(30)
