"""Layer 4: metrics that need no download, as `evaluate.Metric`."""

import datasets
import evaluate


class ExactMatch(evaluate.Metric):
    """The share of predictions that equal their reference as strings (spec, section 4)."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description=self.__doc__, citation="", features=text)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        hits = sum(p == r for p, r in zip(predictions, references, strict=True))
        return {"exact_match": hits / len(references)}


METRICS = {"exact_match": ExactMatch}
