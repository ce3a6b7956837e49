"""The norms, convolutions and activations that MMDetection's components are configured with."""

from typing import Any

from samebox.adopt.section import Section

DEFAULT_EPS = 1e-5


def batch_norm_eps(section: Section) -> float:
    """The `eps` of the BatchNorm in `norm_cfg`, which may be absent; another norm is rejected."""
    if "norm_cfg" not in section:
        return DEFAULT_EPS
    with section.section("norm_cfg") as norm:
        norm.choice("BN", "SyncBN", "MMSyncBN", "BatchNorm2d", "SyncBatchNorm")
        norm.ignore("requires_grad", "momentum")
        return float(norm.number("eps", DEFAULT_EPS))


def expect_batch_norm(section: Section) -> None:
    """Reject a `norm_cfg` that is not a BatchNorm with PyTorch's default `eps`."""
    if batch_norm_eps(section) != DEFAULT_EPS:
        section.reject("norm_cfg.eps")


def group_norm_groups(section: Section) -> int:
    """The number of groups of the GroupNorm in `norm_cfg`; another norm is rejected."""
    if "norm_cfg" not in section:
        return 32
    with section.section("norm_cfg") as norm:
        norm.choice("GN", "GroupNorm")
        norm.expect("eps", DEFAULT_EPS)
        norm.ignore("requires_grad")
        return norm.integer("num_groups")


def expect_plain_convolutions(section: Section) -> None:
    """Reject convolutions with a norm, or other than Conv2d."""
    section.expect("norm_cfg", None)
    section.expect("conv_cfg", None, {"type": "Conv2d"})


def expect_leaky_relu(section: Section) -> None:
    """Reject an activation other than YOLOv3's LeakyReLU."""
    section.expect("act_cfg", {"type": "LeakyReLU", "negative_slope": 0.1})


def batch_norm_factory(eps: float) -> dict[str, Any]:
    """The config of a function that builds a BatchNorm for a number of channels."""
    return {"_target_": "torch.nn.BatchNorm2d", "_partial_": True, "eps": eps}


def activation_factory(section: Section, default: str) -> dict[str, Any]:
    """The config of a function that builds the activation in `act_cfg`."""
    with section.section("act_cfg") as act:
        name = act.choice("ReLU", "ReLU6", "LeakyReLU", default=default)
        act.ignore("inplace")
        slope = {"negative_slope": act.number("negative_slope", 0.01)} if name == "LeakyReLU" else {}
    return {"_target_": f"torch.nn.{name}", "_partial_": True, **slope}


def ssd_convolutions(section: Section) -> dict[str, Any]:
    """The norm and activation of SSDLite's depthwise separable convolutions; SSD's have no norm."""
    section.expect("conv_cfg", None)
    if not section.flag("use_depthwise", False):
        section.expect("norm_cfg", None)
        section.expect("act_cfg", {"type": "ReLU"})
        return {"norm": None}
    norm = batch_norm_factory(batch_norm_eps(section))
    return {"norm": norm, "activation": activation_factory(section, "ReLU")}
