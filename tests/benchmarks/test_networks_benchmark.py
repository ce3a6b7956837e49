import torch
from demo_forms import CHECKPOINT
from omegaconf import OmegaConf

from benchmarks.describe import description
from benchmarks.networks import built, network_of
from stages import networks
from stages.compose import compose


def test_a_description_becomes_what_hydra_makes_of_it():
    """This network has parts that are made later, by a `_partial_`."""
    detector = "yolov3_mobilenetv2_320"
    config = compose("export", [f"detector={detector}"])
    ours = description(detector)
    OmegaConf.update(config.detector, "num_classes", len(ours["class_names"]))
    with torch.device("meta"):
        expected, found = networks.built(config.detector.network), built(ours["network"])
    assert str(found) == str(expected)
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (found, expected)]
    assert shapes[0] == shapes[1]


def test_weights_come_from_a_checkpoint_that_is_given(shapes):
    network, spec = network_of(description("retinanet_shapes"), CHECKPOINT)
    assert spec.checkpoint_sha256 == shapes.spec.checkpoint_sha256
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in shapes.network.state_dict().items())
