import sys

import numpy as np
import onnx
import torch

from samebox.core import versions


def test_versions_are_those_of_the_imported_packages():
    installed = versions.versions()
    assert installed["python"] == ".".join(map(str, sys.version_info[:3]))
    assert installed["numpy"] == np.__version__
    assert installed["onnx"] == onnx.__version__
    assert (
        installed["torch"] == torch.__version__.partition("+")[0] or installed["torch"] == torch.__version__
    )


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(versions, "PACKAGES", ("numpy", "no-such-package"))
    assert set(versions.versions()) == {"python", "numpy"}
