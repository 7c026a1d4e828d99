"""What a server of text alone must not pay for when it starts."""

import subprocess
import sys

LATE = ("PIL", "httpcore", "httpx", "httpx2", "huggingface_hub", "pydantic", "stable_diffusion_cpp")


def test_what_only_media_images_and_downloads_need_is_imported_late() -> None:
    code = (
        "import sys, cli.main, cli.build, cli.placement, cli.serve, api.app, api.server, llamabox.chat.worker\n"
        f"print([name for name in {LATE!r} if name in sys.modules])"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
