"""Compare every form of a detector with the reference, for the stages compare, report and track."""

from omegaconf import DictConfig

from samebox.coco.evaluated import read_evaluated
from samebox.comparing.other_canvases import checked_against_reference
from samebox.core.files import write_json
from stages.axes import axis
from stages.compared import compared, differences_file
from stages.compose import artifact, main


def run(config: DictConfig) -> None:
    """Write the metrics with the checks against the reference, the differences and the intervals.

    The forms are those in `runtimes` of params.yaml, the reference first. No form fails here.
    """
    folders = [artifact(config, config.paths.evaluated, name) for name in axis("runtimes")]
    forms = list(checked_against_reference(map(read_evaluated, folders)))
    write_json(differences_file(config), compared(config, forms).as_dict())


if __name__ == "__main__":
    main("differences", run)
