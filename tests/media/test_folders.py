import pytest

from samebox.core.errors import SameboxError
from samebox.media.folders import images_in


def test_the_images_of_a_folder_are_sorted_by_name(tmp_path):
    for name in ("b.JPG", "a.tif", "c.txt", "inner/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert images_in(tmp_path) == [tmp_path / "a.tif", tmp_path / "b.JPG"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(SameboxError, match="absent: no such file"):
        images_in(tmp_path / "absent")
