"""Folders of images."""

from pathlib import Path

from samebox.core.files import existing

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def images_in(folder: Path) -> list[Path]:
    """The images in a folder, without those in its subfolders, sorted by name.

    Raises SameboxError if the folder does not exist.
    """
    return sorted(path for path in existing(folder).iterdir() if path.suffix.lower() in SUFFIXES)
