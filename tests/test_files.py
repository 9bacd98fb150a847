"""Files and folders that appear complete or not at all, locks, fractions as text.

Run: pytest tests/test_files.py
"""

import errno
import resource

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from hf_synpre import UsageError
from hf_synpre.errors import TemporaryError
from hf_synpre.files import (
    atomic_file,
    atomic_folder,
    content_digest,
    held,
    open_safetensors,
    pack_fractions,
    read_json,
    read_object,
    temporary_name,
    unpack_fractions,
    write_json,
    writing,
)


def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path):
    file = tmp_path / "result.json"
    write_json(file, {"score": 1})

    def write_half():
        with atomic_file(file) as partial:
            partial.write_text("half of")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert read_json(file) == {"score": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_with_all_its_files_or_not_at_all(tmp_path):
    folder = tmp_path / "data"

    def write_half():
        with atomic_folder(folder) as partial:
            (partial / "a").write_text("first")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []

    with atomic_folder(folder) as partial:
        (partial / "a").write_text("first")
        assert not folder.exists()
    assert (folder / "a").read_text() == "first"


def test_a_temporary_name_cannot_be_foreseen_and_a_link_is_not_followed(tmp_path, monkeypatch):
    assert temporary_name(tmp_path / "a") != temporary_name(tmp_path / "a")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "guessed").symlink_to(victim)
    monkeypatch.setattr("hf_synpre.files.temporary_name", lambda _: tmp_path / "guessed")
    with pytest.raises(UsageError, match="File exists"):
        write_json(tmp_path / "cell.json", {})
    assert victim.read_text() == "precious"


def test_what_a_killed_run_left_of_a_folder_is_deleted_and_nothing_else(tmp_path):
    for name in (".data.0123abcd.partial", ".data.partial", ".data.more.0123abcd.partial", ".data"):
        (tmp_path / name).mkdir()
    with atomic_folder(tmp_path / "data"):
        pass
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == [".data", ".data.more.0123abcd.partial", "data"]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError(errno.ENOSPC, ""), TemporaryError, "write model (No space left on device); make"),
        (OSError(errno.EMFILE, ""), TemporaryError, "open model (Too many open files); allow more"),
        (OSError(errno.EROFS, ""), UsageError, "write model (Read-only file system); give another"),
        (
            SafetensorError("I/O error: File too large (os error 27)"),
            TemporaryError,
            "File too large); allow larger files",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed"),
            TemporaryError,
            "No space left on device); make room",
        ),
        (
            RuntimeError("inline_container.cc:747] . open file failed: Too many open files"),
            TemporaryError,
            "open model (Too many open files); allow more",
        ),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_the_system_refuses_is_one_line_that_says_what_to_do(tmp_path, error, kind, text):
    with pytest.raises(UsageError) as caught, writing("model"):
        raise error
    assert type(caught.value) is kind
    assert text in str(caught.value)


def test_a_file_that_the_system_does_not_open_is_not_called_missing(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "a.safetensors")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            open_safetensors(tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with open_safetensors(tmp_path / "a.safetensors", "np") as tensors:
        assert tensors.keys() == ["a"]


def test_an_error_of_the_program_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"), writing("model"):
        raise RuntimeError("shapes do not fit")


def test_a_lock_where_nothing_may_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match=r"Cannot write .*/file \(.*; give another folder"),
        held(tmp_path / "file" / "run"),
    ):
        pass


def test_a_number_that_json_does_not_have_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "result.json", {"score": float("nan")})
    assert not (tmp_path / "result.json").exists()


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"There is no file .*none\.json\."):
        read_json(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UsageError, match=r"list\.json holds no JSON object; make it again"):
        read_object(tmp_path / "list.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UsageError, match=r"broken\.json is not valid JSON .*; make it again"):
        read_json(tmp_path / "broken.json")


def test_a_folder_that_somebody_holds_is_refused_to_others(tmp_path):
    target = tmp_path / "run"

    def hold():
        with held(target):
            return True

    with held(target), pytest.raises(UsageError, match="Another command is writing"):
        hold()
    assert hold()


def test_the_message_names_the_folder_that_the_user_knows(tmp_path):
    lock_name = tmp_path / "run" / "checkpoints"
    with (
        held(lock_name),
        pytest.raises(UsageError, match=r"is writing .*/run; wait"),
        held(lock_name, shown=tmp_path / "run"),
    ):
        pass


def test_a_digest_follows_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("one")
    before = content_digest(tmp_path)
    assert content_digest(tmp_path) == before
    (tmp_path / "a").write_text("other")
    after = content_digest(tmp_path)
    assert after != before
    (tmp_path / "a").rename(tmp_path / "b")
    assert content_digest(tmp_path) not in (before, after)


def test_fractions_come_back_from_text():
    values = np.array([0, 1, 0.5, 1 / 3])
    unpacked = unpack_fractions(pack_fractions(values))
    assert unpacked[:2].tolist() == [0, 1]
    assert np.abs(unpacked - values).max() <= 0.5 / 65_535
    with pytest.raises(ValueError, match="no packed fractions"):
        unpack_fractions("AAAA")
