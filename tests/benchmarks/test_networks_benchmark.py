import torch
from demo_forms import CHECKPOINT
from hydra.utils import instantiate
from omegaconf import OmegaConf

from benchmarks.describe import description
from benchmarks.networks import network_of
from samebox.networks.construct import build
from stages.compose import compose


def test_a_description_gives_the_network_that_hydra_instantiates():
    """This network has parts that are constructed later, by `_partial_`."""
    detector = "yolov3_mobilenetv2_320"
    config = compose("export", [f"detector={detector}"])
    ours = description(detector)
    OmegaConf.update(config.detector, "num_classes", len(ours["class_names"]))
    with torch.device("meta"):
        networks = instantiate(config.detector.network, _convert_="all"), build(ours["network"])
    expected, built = ({name: value.shape for name, value in n.state_dict().items()} for n in networks)
    assert built == expected
    assert str(networks[0]) == str(networks[1])


def test_weights_come_from_a_checkpoint_that_is_given(shapes):
    network, spec = network_of(description("retinanet_shapes"), CHECKPOINT)
    assert spec.checkpoint_sha256 == shapes.spec.checkpoint_sha256
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in shapes.network.state_dict().items())
