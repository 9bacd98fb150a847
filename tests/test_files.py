"""Files and folders that appear complete or not at all, locks, fractions as text.

Run: pytest tests/test_files.py
"""

import numpy as np
import pytest

from hf_synpre import UsageError
from hf_synpre.files import (
    atomic_file,
    atomic_folder,
    content_digest,
    held,
    pack_fractions,
    read_json,
    unpack_fractions,
    write_json,
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


def test_a_number_that_json_does_not_have_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "result.json", {"score": float("nan")})
    assert not (tmp_path / "result.json").exists()


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"There is no file .*none\.json\."):
        read_json(tmp_path / "none.json")
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
