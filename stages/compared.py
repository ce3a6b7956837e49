"""The forms of a detector against the reference: written by the stage differences, read by later ones."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from samebox.coco.dataset import dataset_of
from samebox.coco.evaluated import EvaluatedForm
from samebox.comparing.compared_forms import ComparedForms, compare_forms
from samebox.core.files import existing, read_json
from stages.compose import artifact, plain


def compared(config: DictConfig, forms: Sequence[EvaluatedForm]) -> ComparedForms:
    """The forms against the first, by the settings in `differences`."""
    settings = config.differences
    return compare_forms(forms, dataset_of(plain(config.dataset)), settings.resamples, settings.seed)


def read_compared(config: DictConfig) -> ComparedForms:
    """The compared forms of the detector. Raises SameboxError if the stage differences has not run."""
    path = existing(differences_file(config), "run stages.differences first")
    return ComparedForms.from_dict(read_json(path))


def differences_file(config: DictConfig) -> Path:
    """The file that the stage differences writes."""
    return artifact(config, config.paths.differences, config.paths.differences_file)
