"""Export the checkpoint to ONNX."""

from omegaconf import DictConfig

from samebox.core.text import print_text
from samebox.graph.export import export
from stages.compose import artifact, main
from stages.networks import batch_size, load_network


def run(config: DictConfig) -> None:
    """Export the detector with the opset, lowering and shape in `export`."""
    loaded = load_network(config, artifact(config, config.paths.torch, config.paths.checkpoint_file))
    export(
        loaded.network,
        loaded.spec,
        artifact(config, config.paths.onnx, config.paths.onnx_file),
        opset=config.export.opset,
        lowering=config.export.lowering,
        batch=batch_size(config.export.batch),
    )
    if loaded.refusal:
        print_text(loaded.refusal)


if __name__ == "__main__":
    main("export", run)
