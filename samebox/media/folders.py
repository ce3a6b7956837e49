"""Folders of images."""

from pathlib import Path

from samebox.core.files import existing

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by name, those of its own folders left out.

    Raises SameboxError where the folder is absent.
    """
    return sorted(path for path in existing(folder).iterdir() if path.suffix.lower() in SUFFIXES)
