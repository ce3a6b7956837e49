"""The packages of the wheel: pyproject.toml can find packages, but not add conf/ under another name."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["samebox*", "stages*", "pipelines*"]), "stages.conf"],
    package_dir={"stages.conf": "conf"},
)
