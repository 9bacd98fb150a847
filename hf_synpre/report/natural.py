"""Natural pre-training by its tokens: the arms that read natural text, the fewest tokens first."""

from hf_synpre.report.exchange import is_control
from hf_synpre.report.schema import NATURAL, RANDOM, Report

# Other arms that are drawn beside natural's scores.
MOST_BESIDE = 6


def natural_tokens(report: Report) -> dict[str, float]:
    """Return the arms on natural text -> the tokens of their pre-training, which rise.

    An arm is one of them where it is called natural, or begins so with a hyphen or an underscore.
    {} unless the tokens of two are known: one size says nothing of others.
    """
    tokens: dict[str, float] = {}
    for arm, phases in report["phases"].items():
        known = (phases["pretraining"] or {}).get("tokens")
        if is_natural(arm) and known:
            tokens[arm] = known
    return dict(sorted(tokens.items(), key=lambda item: item[1])) if len(tokens) > 1 else {}


def is_natural(arm: str) -> bool:
    """Say whether an arm was pre-trained on natural text, by its name."""
    return arm == NATURAL or arm.startswith((f"{NATURAL}_", f"{NATURAL}-"))


def arms_beside(report: Report) -> list[str]:
    """Return the first arms with another pre-training, of the usual budget, that are no control."""
    arms = [
        arm
        for arm, phases in report["phases"].items()
        if phases["pretraining"] and not is_natural(arm) and not is_control(arm)
    ]
    recipes = report["recipes"].values()
    usual = [arm for arm in arms if not any("budget" in of.get(arm, {}) for of in recipes)]
    return [arm for arm in usual if arm != RANDOM][:MOST_BESIDE]
