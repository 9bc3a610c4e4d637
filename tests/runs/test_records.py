"""A file of a run that cannot be written is named."""

import resource

import pytest

from fourbeat.runs.records import write_json


def test_a_file_beyond_the_limit_of_its_size_is_named(tmp_path):
    path, limits = tmp_path / "result.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_json(path, {"step": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))  # bytes
    try:
        with pytest.raises(OSError) as caught:
            write_json(path, {"text": "a" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == f"[Errno 27] File too large: '{path}.unfinished'"
    assert path.read_text() == '{\n  "step": 1\n}\n'
