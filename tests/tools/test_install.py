"""What tools/install.py keeps of a build: wheels that an installer takes."""

import zipfile
from pathlib import Path

from tools.install import PACKAGES, keep_wheels, wheel_directory


def install(site_packages: Path, name: str) -> None:
    """A package as an installer leaves it."""
    info = f"{name}-1.2.dist-info"
    files = {
        f"{name}/__init__.py": "x = 1\n",
        f"{name}/__pycache__/__init__.pyc": "compiled",
        f"{info}/METADATA": "Name: x\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-linux_x86_64\n",
        f"{info}/INSTALLER": "uv",
    }
    for path, text in files.items():
        target = site_packages / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    listed = [*files, "../../../bin/script", f"{info}/RECORD"]
    (site_packages / info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))


def test_wheels_hold_what_was_built_and_nothing_that_the_installer_added(tmp_path: Path) -> None:
    site_packages, folder = tmp_path / "site-packages", tmp_path / "wheels"
    names = [package.replace("-", "_") for package in PACKAGES]
    for name in names:
        install(site_packages, name)
    keep_wheels(site_packages, folder)
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}-1.2-py3-none-linux_x86_64.whl" for n in names]
    name = names[0]
    with zipfile.ZipFile(folder / f"{name}-1.2-py3-none-linux_x86_64.whl") as wheel:
        info = f"{name}-1.2.dist-info"
        kept = [f"{name}/__init__.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
        assert wheel.namelist() == kept
        assert wheel.read(f"{info}/RECORD").decode().splitlines() == [f"{path},," for path in kept]


def test_a_wheel_that_is_there_is_kept(tmp_path: Path) -> None:
    site_packages, folder = tmp_path / "site-packages", tmp_path / "wheels"
    name = PACKAGES[0].replace("-", "_")
    install(site_packages, name)
    folder.mkdir()
    wheel = folder / f"{name}-1.2-py3-none-linux_x86_64.whl"
    wheel.write_text("here already")
    keep_wheels(site_packages, folder)
    assert wheel.read_text() == "here already"


def test_other_flags_have_wheels_of_their_own() -> None:
    plain = {package: {"GGML_RPC": "ON"} for package in PACKAGES}
    other = {package: {"GGML_RPC": "ON", "GGML_CUDA": "ON"} for package in PACKAGES}
    assert wheel_directory(plain) != wheel_directory(other)
    assert wheel_directory(plain) == wheel_directory(dict(plain))
