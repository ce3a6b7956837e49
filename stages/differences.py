"""How every form of a detector differs from the reference: detection by detection, and ΔAP by chance."""

from omegaconf import DictConfig

from samebox.coco.dataset import dataset_of
from samebox.comparing.difference import difference
from samebox.core.files import write_json
from samebox.scoring.bootstrap import intervals
from stages.compare import forms
from stages.compose import artifact, main, plain


def run(config: DictConfig) -> None:
    """Leave the differences and the intervals of the measured forms, by runtime; nothing is judged here."""
    found, dataset, settings = forms(config), dataset_of(plain(config.dataset)), config.differences
    within = intervals(found, dataset, settings.resamples, settings.seed)
    reference, *others = found
    detections = {
        form.metrics["runtime"]: difference(reference.results, form.results).as_dict()
        for form in others
        if reference.measured and form.measured
    }
    path = artifact(config, config.paths.differences, config.paths.differences_file)
    write_json(path, {"detections": detections, "intervals": within})


if __name__ == "__main__":
    main("differences", run)
