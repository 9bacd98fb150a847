"""What cells start from: tokenized tasks and checkpoints, each made once in a work folder.

The name of a folder ends with a hash of its recipe. A recipe that was made before, by this
experiment or another that shares the work folder, is found by that name and not made again.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_synpre.config import stored_form, without_place
from hf_synpre.data.corpora import Corpus, corpus_source, count_seen, open_corpus
from hf_synpre.data.documents import check_splits
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError
from hf_synpre.experiments.spec import SELF, ExperimentSpec
from hf_synpre.files import content_digest, lock
from hf_synpre.finetuning import PreparedTask, prepare
from hf_synpre.initialization import find_config
from hf_synpre.initialization.checkpoints import NAMESPACE, bundled_checkpoints
from hf_synpre.tasks.imports import task_files
from hf_synpre.training.pretraining import pretrain, tokenizer_metadata
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.progress import reported_in
from hf_synpre.training.run_folder import read_result

# The folder of files that say how far work is, in the folder of that work.
PROGRESS_FOLDER = ".progress"


class Artifacts:
    """The tokenized tasks and the checkpoints of an experiment.

    Args:
        spec: the experiment.
        folder: the work folder; data/ and pretraining/ are in it. Several experiments may share it.
    """

    def __init__(self, spec: ExperimentSpec, folder: Path):
        self.spec = spec
        self.folder = folder
        # Where it is told how far the runs and the tasks are that are being made.
        self.progress_folder = folder / PROGRESS_FOLDER

    def validate(self) -> None:
        """Check that the folders and corpora that the experiment names exist.

        Raises:
            UsageError: one is missing.
        """
        for arm in self.spec.arms.values():
            if arm.checkpoint is None or arm.checkpoint in self.spec.pretraining:
                continue
            is_in_folder = "/" in arm.checkpoint and Path(arm.checkpoint).parent.is_dir()
            is_file = Path(arm.checkpoint).is_file()  # of statistics
            is_local = is_in_folder or arm.checkpoint.startswith((".", "/"))
            # Not on the Hub either: the name of a released checkpoint without its namespace.
            lacks_namespace = NAMESPACE + arm.checkpoint in bundled_checkpoints()
            if not is_file and (is_local or lacks_namespace):
                find_config(arm.checkpoint)

        # Pairs of a corpus and whether it is read as the rows of a dataset.
        corpora = {(run.corpus, run.text is not None) for run in self.spec.pretraining.values()}
        for task in self.spec.tasks.values():
            corpora |= {(name, True) for name in task.tokenizer_corpora or ()}
        for name, files in sorted(corpora, key=str):
            if name is None or name in ("stdlib", SELF, *self.spec.tasks):
                continue
            try:
                source = Path(corpus_source(name, self.spec.data_dir, files=files))
            except UsageError as error:
                tasks = ", ".join(self.spec.tasks)
                raise UsageError(f"{error} Or a task of the experiment: {tasks}.") from error
            if not files and source.is_dir():
                check_splits(source)

    def prepared_task(self, name: str) -> PreparedTask:
        """Return a downstream task as token ids on disk; it is prepared if it was not before."""
        spec = self.spec.tasks[name]
        task = self.spec.finetuning_task(name)
        tokenizer_corpora = spec.tokenizer_corpora or []

        # The recipe, which decides the ids: the rows, and the tokenizer.
        tokenizer_recipe = {"tokenizer": spec.tokenizer, "vocab_size": spec.vocab_size}
        sources = [self._source_recipe(source) for source in (name, *tokenizer_corpora)]
        recipe = [task.rows_recipe(), tokenizer_recipe, sources]
        folder = self.folder / "data" / folder_name(name, recipe)

        corpus = None
        if tokenizer_corpora:
            corpus = Corpus(
                lambda split: self._joined_texts(tokenizer_corpora, split),
                {"name": ", ".join(tokenizer_corpora)},
            )
        with lock(folder), reported_in(self.progress_folder, f"data of {name}", "preparing"):
            return prepare(
                task,
                folder,
                data_dir=self.data_dir(name),
                tokenizer=spec.tokenizer,
                vocab_size=spec.vocab_size,
                corpus=corpus,
            )

    def checkpoint(self, run: str, task: str, seed: int = 0) -> Path:
        """Return the folder of a pre-training run; the run is made if it was not before.

        A run on text is made once for each corpus and each tokenizer.

        Args:
            run: the name of the run.
            task: the task whose text the corpus "self" means, and whose tokenizer a run on text
                uses.
            seed: what is added to the seed of the run, and of those that it needs.
        """
        spec = self.run_spec(run, task, seed)
        recipe: list[Any] = [without_place(stored_form(spec)), stored_form(self.spec.model)]
        name = run

        # A task of one's own is decided by the file that defines it.
        if files := task_files(spec.task):
            recipe.append(files)

        # Other runs come first: the one whose tokens are the budget, and the one to start from.
        tokens = None
        if spec.match_tokens_of:
            matched = self.checkpoint(spec.match_tokens_of, task, seed)
            tokens = read_result(matched)["tokens"]
            recipe.append(tokens)
        start = None
        if spec.start in self.spec.pretraining:
            start = self.checkpoint(spec.start, task, seed)
            recipe.append(start.name)

        # A run on text reads it with the task's tokenizer.
        tokenizer = corpus = None
        if spec.corpus:
            tokenizer = self.prepared_task(task).tokenizer
            corpus = self.corpus(spec.corpus, spec.text)
            recipe += [corpus.metadata, tokenizer_metadata(tokenizer)]
            name = f"{spec.objective or 'text'}-{Path(spec.corpus).name}"

        folder = self.folder / "pretraining" / folder_name(name, recipe)
        title = f"pre-training {run}"
        if spec.corpus:
            title += f" for {task}"
        if seed:
            title += f", seed {spec.seed}"
        with lock(folder), reported_in(self.progress_folder, title):
            pretrain(
                spec,
                self.spec.model,
                folder,
                tokenizer=tokenizer,
                tokens=tokens,
                corpus=corpus,
                start=start,
                keep_checkpoints=0,  # cells read the finished model
                title=title if seed else f"{title}, seed {spec.seed}",
            )
        return folder

    def run_spec(self, run: str, task: str, seed: int = 0) -> PretrainingSpec:
        """Return the spec of a pre-training run for a task: the corpus "self" becomes that task.

        A run on "self" and a run on the same task's text by name so share one checkpoint.

        Args:
            run: the name of the run.
            task: the name of the task.
            seed: what is added to the seed of the run.
        """
        spec = self.spec.pretraining[run]
        corpus = task if spec.corpus == SELF else spec.corpus
        text = spec.text
        if text is None and corpus in self.spec.tasks:
            text = TextSpec()
        return replace(spec, corpus=corpus, text=text, seed=(spec.seed + seed) % 2**32)

    def corpus(self, name: str, text: TextSpec | None) -> Corpus:
        """Return the text of a task's train split, or of a corpus by name.

        Args:
            name: a task of the experiment, a folder, a Hub id or stdlib.
            text: how the corpus is made from rows of a dataset.
        """
        if name in self.spec.tasks:
            task = self.spec.finetuning_task(name)
            return task.corpus(self.data_dir(name), text or TextSpec())
        return open_corpus(name, self.spec.data_dir, text)

    def data_dir(self, name: str) -> str | None:
        """Return the folder where the rows of a task or a corpus are, None for the Hub."""
        task = self.spec.tasks.get(name)
        if task is not None and task.data_dir:
            return task.data_dir
        return self.spec.data_dir

    def test_rows_seen(self, run: str, task: str) -> dict[str, int]:
        """Return how many test rows of a task are in the texts that a pre-training run has read.

        The text of a task itself is checked to hold none of its test rows. The texts of other
        datasets are not, so they are counted here.

        Args:
            run: the name of the run.
            task: the name of the task.

        Returns:
            The name of each task whose text was read, by the run or by one that it started from ->
            number of test rows in it.
        """
        rows_seen = {}
        for name in self.spec.dependencies(run):
            spec = self.run_spec(name, task)
            if spec.corpus not in self.spec.tasks or spec.text is None:
                continue
            # Search for rows in unbroken texts: shuffled sentences would hide them.
            text = spec.text
            if text.order == "shuffled_sentences":
                text = replace(text, order="shuffled_rows")
            test_rows = self.spec.finetuning_task(task).test_texts(self.data_dir(task))
            rows_seen[spec.corpus] = count_seen(test_rows, self.corpus(spec.corpus, text))
        return rows_seen

    def _source_recipe(self, name: str) -> list[str | None]:
        """Return what decides the rows of a task or corpus.

        These are its name and, for a local copy, a digest of its files.
        """
        source: Path | None = None
        if name in self.spec.tasks:
            source = self.spec.finetuning_task(name).data_folder(self.data_dir(name))
        elif name != "stdlib":
            source = Path(corpus_source(name, self.spec.data_dir, files=True))
        if source is None or not source.exists():
            return [name, None]
        return [name, content_digest(source)]

    def _joined_texts(self, names: list[str], split: str) -> Iterator[str]:
        """Yield the texts of several tasks or corpora, one after the other."""
        for name in names:
            yield from self.corpus(name, TextSpec()).texts(split)


def folder_name(name: str, recipe: Any) -> str:
    """Return a name with the hash of a recipe (any value that JSON can hold)."""
    text = json.dumps(recipe, sort_keys=True)
    return f"{name}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
