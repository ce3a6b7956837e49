"""Helpers for tests of whole networks: inputs of several sizes, and checks of the exported graph."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from samebox.engine.build import engine_from_onnx
from samebox.engine.profile import Profile
from samebox.graph.export import check_standard, onnx_from_network
from samebox.graph.opset import at_opset
from samebox.networks.nets.contract import Deployable, Normalize


def padded_noise(sizes, height, width):
    """Normalised images of noise [N,3,height,width], zero beyond their sizes."""
    images = torch.randn(len(sizes), 3, height, width, generator=torch.Generator().manual_seed(1))
    for image, (image_height, image_width) in zip(images, sizes, strict=True):
        image[:, image_height:] = 0
        image[:, :, image_width:] = 0
    return images


def enlarge_weights(network, *parts):
    """`network` in eval mode, with the parameters of `parts` multiplied by 8, so that scores differ."""
    for name, parameter in network.named_parameters():
        if any(part in name for part in parts):
            parameter.data *= 8
    return network.eval()


def run(network, images, sizes):
    """The outputs of `network` for images [N,3,H,W] of `sizes`."""
    with torch.inference_mode():
        return network(images, torch.tensor(sizes))


def exported(network):
    """The network with a normalisation, and its serialised graph of dynamic batch and shape."""
    deployable = Deployable(Normalize([120.0] * 3, [60.0] * 3, "RGB"), network).eval()
    return deployable, onnx_from_network(deployable).SerializeToString()


def assert_onnx_matches(exported, opset, batches, atol, rtol=0.0):
    """The graph at `opset` in ONNX Runtime and PyTorch agree for each of `batches`: raw images and sizes."""
    deployable, graph = exported
    model = at_opset(onnx.ModelProto.FromString(graph), opset)
    check_standard(model, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for images, sizes in batches:
        expected = run(deployable, images, sizes)
        assert (expected["scores"] > 0).any(1).all()
        outputs = session.run(None, {"images": images.numpy(), "sizes": np.array(sizes)})
        for array, tensor in zip(outputs, expected.values(), strict=True):
            np.testing.assert_allclose(array, tensor.numpy(), rtol=rtol, atol=atol)


def assert_engine_builds(exported, folder, heights=(64, 128, 256), widths=(64, 160, 256)):
    """An engine is built for batches of one to four; `heights` and `widths`: smallest, usual, largest."""
    pytest.importorskip("tensorrt_rtx")
    path, served = folder / "model.onnx", Profile(batch=(1, 1, 4), height=heights, width=widths)
    path.write_bytes(exported[1])
    report = engine_from_onnx(path, folder / "model.engine", served, targets=["SM89"])
    assert report.layers > 10
    assert (folder / "model.engine").stat().st_size == report.plan_bytes
