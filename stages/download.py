"""Fetch the checkpoint of a detector, and the data set that it is scored on."""

from omegaconf import DictConfig

from samebox.coco.archive import download_archive
from samebox.core.fetch import fetch
from stages.compose import artifact, main


def run(config: DictConfig) -> None:
    """Copy or download the checkpoint, and the data set's archives to the folders that they name."""
    target = artifact(config, config.paths.torch, config.paths.checkpoint_file)
    fetch(config.detector.source, target, config.detector.sha256)
    for archive in config.dataset.archives:
        download_archive(archive)


if __name__ == "__main__":
    main("download", run)
