"""Training arguments: wrong ones are named.

Run: pytest tests/training/test_arguments.py
"""

import pytest

from hf_synpre import UsageError
from hf_synpre.training.arguments import training_arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rat": 1.0}, "Did you mean 'learning_rate'"),
        ({"eval_strategy": "no"}, "set by hf_synpre itself"),
        ({"lr_scheduler_type": "bogus"}, "were refused"),
    ],
)
def test_wrong_training_arguments_are_named(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        training_arguments(tmp_path, given, eval_strategy="steps")
