"""Puts the four folders of the checkout into the package `tutti`; all else is in pyproject.toml."""

from setuptools import find_packages, setup

ROOMS = ("augment", "datasets", "pipelines", "train")

setup(
    packages=["tutti", *(f"tutti.{name}" for name in find_packages(include=[f"{room}*" for room in ROOMS]))],
    package_dir={f"tutti.{room}": room for room in ROOMS},
    package_data={"": ["*.html", "*.json", "*.safetensors"]},
    options={"build": {"build_base": ".cache/setuptools"}, "egg_info": {"egg_base": "."}},
)
