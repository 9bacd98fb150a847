"""Cards, and pushes of datasets, models and reports; datasets rebuilt from their cards."""

from hf_synpre.hub.publish import (
    PushError,
    check_file_name,
    check_repo_id,
    plan_push,
    push,
    rebuild,
)

__all__ = ["PushError", "check_file_name", "check_repo_id", "plan_push", "push", "rebuild"]
