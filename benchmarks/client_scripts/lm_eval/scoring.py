"""What texts.yaml scores: a document with its end, by the bytes of the document alone."""


def process_results(doc: dict, results: list[float]) -> dict:
    """Return the log-likelihood of a document, and its bytes in UTF-8."""
    (loglikelihood,) = results
    return {"bits_per_byte": (loglikelihood, len(doc["text"].encode()))}
