"""What tests of whole networks share: images of several sizes, and the graph beside PyTorch."""

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


def mixed(sizes, height, width):
    """Normalised images of noise [N,3,height,width], zero beyond their sizes."""
    images = torch.randn(len(sizes), 3, height, width, generator=torch.Generator().manual_seed(1))
    for image, (own_height, own_width) in zip(images, sizes, strict=True):
        image[:, own_height:] = 0
        image[:, :, own_width:] = 0
    return images


def answered(network, images, sizes):
    with torch.inference_mode():
        return network(images, torch.tensor(sizes))


def exported(network):
    """The network with a normalisation, and its graph of any batch and shape."""
    deployable = Deployable(Normalize([120.0] * 3, [60.0] * 3, "RGB"), network).eval()
    return deployable, onnx_from_network(deployable).SerializeToString()


def assert_alike(exported, opset, batches, atol, rtol=0.0):
    """ONNX Runtime gives at `opset` what PyTorch gives, for each of `batches`: raw images and sizes."""
    deployable, written = exported
    model = at_opset(onnx.ModelProto.FromString(written), opset)
    check_standard(model, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for images, sizes in batches:
        expected = answered(deployable, images, sizes)
        assert (expected["scores"] > 0).any(1).all()
        found = session.run(None, {"images": images.numpy(), "sizes": np.array(sizes)})
        for array, tensor in zip(found, expected.values(), strict=True):
            np.testing.assert_allclose(array, tensor.numpy(), rtol=rtol, atol=atol)


def assert_builds(exported, folder, heights=(64, 128, 256), widths=(64, 160, 256)):
    """An engine is built of any batch up to four and of any canvas from the least to the largest."""
    pytest.importorskip("tensorrt_rtx")
    path, served = folder / "model.onnx", Profile(batch=(1, 1, 4), height=heights, width=widths)
    path.write_bytes(exported[1])
    report = engine_from_onnx(path, folder / "model.engine", served, targets=["SM89"])
    assert report.layers > 10
    assert (folder / "model.engine").stat().st_size == report.plan_bytes
