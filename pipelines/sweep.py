"""The chain over many points: every combination of the values given.

python -m pipelines.sweep -m detector=retinanet_shapes export.opset=16,18,20 export.shape=256x384,320x480
    [hydra/launcher=joblib]
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipelines.chain import run
from samebox.errors import SameboxError
from stages.compose import CONF, check, compose, guarded


@hydra.main(config_path=str(CONF), config_name="chain", version_base="1.3")
def sweep(config: DictConfig) -> None:
    """One point. A mistake in it is told in one line, and ends the sweep."""
    point = " ".join(HydraConfig.get().overrides.task)
    try:
        run(config, point)
    except SameboxError as error:
        sys.exit(f"error: {point}: {error}")


def main() -> None:
    """Check the command line, then hand it to Hydra, which would tell a mistake in many lines."""
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    many = {"-m", "--multirun"}.intersection(sys.argv)
    (check if many else compose)("chain", overrides)
    sweep()


if __name__ == "__main__":
    guarded(main)
