"""The Hugging Face Hub: a folder of this package -> its card and a commit; a dataset -> its rows.

1. `cards.dataset_card`, `cards.model_card`: footers of shards, or JSON files of a run -> README.md.
2. `plan_push`: a folder -> the files that would be published, each of them checked (checks.py).
3. `push`: a folder -> one commit on the Hub, and its URL.
4. `callback.PushToHub`: the same at the end of a Trainer's run. It is not imported here, because it
   needs torch.
5. `rebuild`: the card of a published dataset -> its rows, generated again, and how they differ.
6. `reproduce.reproduce_weights`: the card of a pre-trained model -> its weights, trained again, and
   how they differ. It is not imported here either, because it needs torch.
"""

from hf_synpre.errors import PushError
from hf_synpre.hub.checks import check_file_name, check_repo_id
from hf_synpre.hub.publish import PushPlan, plan_push, push
from hf_synpre.hub.rebuild import rebuild

__all__ = [
    "PushError",
    "PushPlan",
    "check_file_name",
    "check_repo_id",
    "plan_push",
    "push",
    "rebuild",
]
