"""Fetch a headless Chromium for the tests of the page, where the machine has none.

    python3 tools/browser.py

It comes from the npm registry as a package of data (@sparticuz/chromium, 68 MB, Linux on x86-64; needs npm, node and
libnss3) and is unpacked into the user's cache directory, once. Prints where it is. A Chromium of the system serves as
well (Debian: `apt-get install chromium`); then nothing is fetched. Runs on any Python 3.8 or newer.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "@sparticuz/chromium"
VERSION = "153.0.0"
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_UNPACK = """\
const fs = require("fs"), zlib = require("zlib"), [source, target] = process.argv.slice(1);
fs.createReadStream(source).pipe(zlib.createBrotliDecompress()).pipe(fs.createWriteStream(target, {mode: 0o755}));
"""


def kept():
    """Where the fetched browser is, or would be."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "llama-box" / "browser" / VERSION / "chromium"


def fetch(target):
    """Get the package and unpack the browser from it. Raises CalledProcessError and OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        packed = subprocess.run(
            ["npm", "pack", "--silent", "%s@%s" % (PACKAGE, VERSION)], cwd=folder, check=True, capture_output=True
        )
        archive = packed.stdout.decode().split()[-1]
        shutil.unpack_archive(Path(folder) / archive, folder)
        unpacked = Path(folder) / "chromium"
        source = Path(folder) / "package" / "bin" / "chromium.br"
        subprocess.run(["node", "-e", _UNPACK, str(source), str(unpacked)], check=True)
        subprocess.run([str(unpacked), "--version"], check=True, stdout=subprocess.DEVNULL)
        unpacked.replace(target)


def main():
    found = next(filter(None, map(shutil.which, SYSTEM)), None)
    if found is None:
        target = kept()
        if not target.exists():
            try:
                fetch(target)
            except (OSError, subprocess.CalledProcessError) as error:
                print("no browser: %s" % error, file=sys.stderr)
                return 1
        found = str(target)
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
