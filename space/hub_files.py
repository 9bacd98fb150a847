"""A Hub id that somebody typed -> the few files of the checkpoint that the page needs."""

import re
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hf_synpre.data.connection import one_line_cause, read_error
from hf_synpre.errors import UsageError, in_message
from hf_synpre.initialization import STATISTICS_FILE, bundled_checkpoints, checkpoint_folder

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
MOST_DOWNLOADED = 2**30  # bytes
SECONDS = 30  # to wait for the Hub's list of files


def download(repository: str, folder: Path) -> Path:
    """Return a folder with a checkpoint's config and statistics, or with its weights.

    No access token is used: the page shows what everybody may see.

    Args:
        repository: the Hub id. One that is bundled with the package is not downloaded.
        folder: an empty folder for the files.

    Raises:
        UsageError: it is no Hub id, the Hub does not give the files, or they are too large.
    """
    repository = repository.strip()
    bundled = bundled_checkpoints().get(repository)
    if bundled is not None:
        return bundled
    if not HUB_ID.fullmatch(repository) or ".." in repository or Path(repository).exists():
        raise UsageError(f"{in_message(repository)} is no Hub id; write one as google-t5/t5-small.")

    try:
        info = HfApi(token=False).model_info(repository, files_metadata=True, timeout=SECONDS)
    except (HfHubHTTPError, OSError, ValueError) as error:
        cause = one_line_cause(error).rstrip(".")
        raise read_error(f"The Hub does not show {repository}: {cause}.", error) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}

    # Statistics are a small file; weights may be very large.
    wanted = [STATISTICS_FILE, "config.json"]
    if STATISTICS_FILE not in sizes:
        weights = [name for name in sizes if "/" not in name and name.endswith(".safetensors")]
        if "model.safetensors" in weights:
            weights = ["model.safetensors"]
        wanted += [*weights, "model.safetensors.index.json"]
    total = sum(sizes.get(name, 0) for name in wanted)
    if total > MOST_DOWNLOADED:
        raise UsageError(
            f"The weights of {repository} have {total / 1e9:.1f} GB, and this page downloads up to "
            f"{MOST_DOWNLOADED / 1e9:.1f} GB; run `synpre statistics {repository}` and give its "
            "file here."
        )
    return checkpoint_folder(
        repository, tuple(wanted), cache_dir=folder, revision=info.sha, token=False
    )
