"""Install llama-box into .venv, with native builds that fit this machine.

Both native packages are compiled here, and our own matrix products (``engine/native/kernels``). What uv's settings
cannot express is a choice by machine, so this script makes it, says what it chose and hands it to ``uv sync`` as build
settings (they are part of uv's cache key: another processor or other flags never get this build).

    python3 tools/install.py [--test] [--bench] [--no-demo] [--cuda | --no-cuda] [--define KEY=VALUE ...] [--dry-run]

``--define`` goes to CMake for both packages and wins over what was chosen; CMAKE_ARGS, CFLAGS and CXXFLAGS are
honoured as usual. Needs uv (``python3 -m pip install uv``); runs on any Python 3.8 or newer.

What was compiled is kept as wheels in the user's cache directory, by processor and flags: uv's own cache forgets a
build whenever the index does not confirm that the source is still the same, which any other use of uv can bring about.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("llama-cpp-python", "stable-diffusion-cpp-python")
OURS = ("llamabox", "engine", "api", "cli")
BUILD_ENV = ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS", "CC", "CXX")
# GCC removes the stores that fill the AMX tile configuration: every quantised prefill then dies with SIGSEGV.
AMX_CURE = "-fno-tree-dse -fno-dse"


def cpu_identity():
    """Name and instruction sets of the processor, as one text."""
    if sys.platform == "darwin":
        return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    keys = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in keys}))


def compiler_is_gcc():
    """Whether the C++ compiler that CMake will pick is GCC."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler or sys.platform == "darwin":
        return False
    answer = subprocess.run([*compiler.split(), "--version"], capture_output=True, text=True).stdout
    return "Free Software Foundation" in answer


def cuda_reason():
    """(use CUDA?, why)."""
    nvcc = shutil.which("nvcc") or next((p for p in ("/usr/local/cuda/bin/nvcc",) if os.path.exists(p)), None)
    if not nvcc:
        return False, "no CUDA toolkit (nvcc) found"
    if not (os.path.exists("/dev/nvidia0") or os.path.exists("/dev/dxg") or shutil.which("nvidia-smi")):
        return False, "CUDA toolkit found, but no NVIDIA driver on this machine (--cuda builds for another one)"
    return True, "CUDA toolkit and an NVIDIA driver found"


def choose(args):
    """CMake definitions per package, and the reasons, one line each."""
    llama, diffusion = {"GGML_RPC": "ON"}, {"GGML_RPC": "ON"}
    reasons = ["RPC: on, always"]
    cpu = cpu_identity()
    use_cuda, why = (args.cuda, "as asked") if args.cuda is not None else cuda_reason()
    reasons.append("CUDA: %s (%s)" % ("on" if use_cuda else "off", why))
    if use_cuda:
        llama["GGML_CUDA"] = diffusion["SD_CUDA"] = "ON"
    if sys.platform == "darwin":
        llama["GGML_METAL"] = diffusion["SD_METAL"] = "ON"
        reasons.append("Metal: on (macOS)")
    if "amx_tile" in cpu and compiler_is_gcc():
        for defines in (llama, diffusion):
            defines["CMAKE_C_FLAGS"] = defines["CMAKE_CXX_FLAGS"] = AMX_CURE
        reasons.append("AMX: kept, compiled with %s (GCC would crash it otherwise)" % AMX_CURE)
    for item in args.define:
        key, _, value = item.partition("=")
        llama[key] = diffusion[key] = value
        reasons.append("%s=%s: as asked" % (key, value))
    identity = cpu + "".join("%s=%s;" % (k, os.environ.get(k, "")) for k in BUILD_ENV)
    build = hashlib.sha256(identity.encode()).hexdigest()[:16]
    llama["LLAMABOX_BUILD"] = diffusion["LLAMABOX_BUILD"] = build
    return dict(zip(PACKAGES, (llama, diffusion))), reasons


def cache_directory():
    """Where the user's caches are on this system."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def wheel_directory(settings):
    """The folder of the wheels that were built with these settings."""
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return cache_directory() / "llama-box" / "wheels" / key


def keep_wheels(site_packages, folder):
    """Pack the installed native packages into wheels again, those that ``folder`` does not have yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        for info in site_packages.glob(package.replace("-", "_") + "-*.dist-info"):
            lines = (info / "WHEEL").read_text().splitlines()
            tag = next(line.split(": ")[1] for line in lines if line.startswith("Tag: "))
            wheel = folder / ("%s-%s.whl" % (info.name[: -len(".dist-info")], tag))
            if not wheel.exists():
                unfinished = wheel.with_suffix(".%d.part" % os.getpid())
                pack(site_packages, info.name, unfinished)
                unfinished.replace(wheel)


def pack(site_packages, info, wheel):
    """Write a wheel of what the RECORD of an installed package lists; what the installer added stays out."""
    added = {"%s/%s" % (info, name) for name in ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")}
    record = info + "/RECORD"
    with (site_packages / record).open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[0] not in added]
    rows = [row for row in rows if "__pycache__" not in row[0] and not row[0].startswith("..")]
    listing = io.StringIO()
    csv.writer(listing, lineterminator="\n").writerows(rows)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, *_ in rows:
            if name != record:
                archive.write(site_packages / name, name)
        archive.writestr(record, listing.getvalue())


def fetch_browser():
    """A Chromium for the tests of the page. Without one they are skipped, and say so."""
    print("install: a browser for the tests of the page:", flush=True)
    subprocess.run([sys.executable, str(ROOT / "tools" / "browser.py")], cwd=ROOT)


def main():
    parser = argparse.ArgumentParser(description="Install llama-box into .venv, with native builds for this machine.")
    parser.add_argument("--test", action="store_true", help="with the test tools")
    parser.add_argument("--bench", action="store_true", help="with the benchmark tools")
    parser.add_argument("--no-demo", action="store_true", help="without the demo model's packages (491 MB)")
    parser.add_argument("--cuda", action="store_true", default=None, help="build for CUDA even if no GPU is seen")
    parser.add_argument("--no-cuda", dest="cuda", action="store_false", help="never build for CUDA")
    parser.add_argument("--define", action="append", default=[], metavar="KEY=VALUE", help="a CMake definition")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    args = parser.parse_args()
    settings, reasons = choose(args)
    command = [sys.executable, "-m", "uv", "sync", "--no-default-groups", "--project", str(ROOT), "--compile-bytecode"]
    command += ["--group", "test"] * args.test + ["--group", "bench"] * args.bench
    command += ["--extra", "demo"] * (not args.no_demo)
    for package, defines in settings.items():
        for key, value in defines.items():
            command += ["--config-settings-package", "%s:cmake.define.%s=%s" % (package, key, value)]
    wheels = wheel_directory(settings)
    if wheels.is_dir():
        # A lock that was made before the wheels were there names the sources: these two are looked up anew.
        command += ["--find-links", str(wheels)]
        command += [word for package in PACKAGES for word in ("--upgrade-package", package)]
        reasons.append("native packages: as they were built here before, in %s (remove it to build anew)" % wheels)
    for reason in reasons:
        print("install: " + reason)
    print("install: " + " ".join(command), flush=True)
    if args.dry_run:
        return 0
    if subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True).returncode:
        print("install: uv is missing: python3 -m pip install uv", file=sys.stderr)
        return 2
    if not wheels.is_dir():
        print("install: the first build of the native packages takes about 15 minutes on two cores", flush=True)
    if subprocess.run([*command, "--offline"], cwd=ROOT, capture_output=True).returncode == 0:
        print("install: done, with what is in uv's cache")
    elif status := subprocess.run(command, cwd=ROOT).returncode:
        return status
    for site_packages in (ROOT / ".venv").glob("lib*/**/site-packages"):
        keep_wheels(site_packages, wheels)
    if args.test:
        fetch_browser()
    # Where Python may not write its bytecode, each start would compile a thousand modules anew.
    python = ROOT / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    # Without them the server is slower, not broken: what went wrong is said, the installation stands.
    subprocess.run([str(python), "-m", "engine.native.kernels.build"], cwd=ROOT)
    return subprocess.run([str(python), "-m", "compileall", "-q", *OURS], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
