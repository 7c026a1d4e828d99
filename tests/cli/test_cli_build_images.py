"""Which model makes what, and the files of an image model."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cli import rpc_server
from cli.build import build_settings, given_settings
from cli.errors import UsageError
from cli.image_placement import check_image_placement
from cli.main import USAGE_ERROR, main
from cli.parse import read_arguments, read_environment
from cli.report import report_ignored
from engine.errors import RpcError
from engine.native.rpc_server import ServeOptions
from llamabox import logs
from tests.cli.conftest import build
from tests.cli.test_cli_build import IMAGE_PARTS


@pytest.mark.parametrize("flag", IMAGE_PARTS)
def test_the_parts_of_an_image_model_are_files(model: str, flag: str):
    settings = build(model, "--images", flag, model)
    assert getattr(settings.images.engine.model, IMAGE_PARTS[flag]) == model
    with pytest.raises(UsageError, match="cannot read"):
        build(model, "--images", flag, f"{model}.absent")


def test_the_model_makes_images_or_text_or_there_are_two(model: str, tmp_path: Path):
    image = tmp_path / "image.safetensors"
    image.write_bytes(b"x")
    text = build(model)
    assert not text.images.running
    only = build(str(image), "--images", "-t", "3")
    assert (only.engine.model.path, only.images.engine.model.model) == ("", str(image))
    assert only.images.engine.model.n_threads == 3
    both = build(model, "--image-model", str(image), "--images")
    assert (both.engine.model.path, both.images.engine.model.model) == (model, str(image))
    assert both.images.engine.upscaler is None
    with_upscaler = build(str(image), "--images", "--image-upscale-model", model, "--image-lora", model)
    assert with_upscaler.images.engine.upscaler is not None
    assert with_upscaler.images.engine.upscaler.path == model
    assert with_upscaler.images.engine.model.loras == (model,)


def test_image_options_without_an_image_model_are_refused(model: str):
    with pytest.raises(UsageError, match=r"^--image-guidance: needs an image model"):
        build(model, "--image-guidance", "2")
    with pytest.raises(UsageError, match=r"^--images: needs an image model"):
        build_settings(read_arguments(["--images"]))
    with pytest.raises(UsageError, match=r"^--image-model: cannot read"):
        build(model, "--image-model", f"{model}.absent")


def test_who_says_how_often_to_upscale_must_say_by_what(model: str):
    with pytest.raises(UsageError, match=r"^--image-upscale-repeats: needs --image-upscale-model$"):
        build(model, "--images", "--image-upscale-repeats", "2")
    settings = build(model, "--images", "--image-upscale-repeats", "2", "--image-upscale-model", model)
    assert settings.images.upscale_repeats == 2


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *[(f"--image-{name}", value) for name in ("guidance", "cfg-scale", "slg-scale") for value in ("1001", "-1")],
        *[("--image-slg-skip-layer", value) for value in ("256", "7;256", "-1")],
    ],
)
def test_what_no_image_could_be_made_with_is_refused(flag: str, value: str):
    """The engine's own limits: a request that says nothing would be refused."""
    with pytest.raises(UsageError, match=f"^{flag}: "):
        read_arguments([flag, value])


@pytest.mark.parametrize(
    "arguments",
    ["--device none", "-ngl 0", "-mg 1", "-sm none", "--mlock", "--no-mmap", "-ot .=CPU"],
)
def test_what_the_image_library_cannot_be_told_is_refused(model: str, arguments: str):
    flag = arguments.split()[0]
    with pytest.raises(UsageError, match=f"^{flag}: not for image models"):
        build(model, "--images", *arguments.split())
    assert build(model, "--image-model", model, *arguments.split()).has_text


def test_an_image_model_can_lie_on_another_machine(model: str):
    servers = ("127.0.0.1:1", "127.0.0.1:2")
    first = build(model, "--images", "--rpc", ",".join(servers)).images.engine.model
    assert (first.rpc_servers, first.device) == (servers, None)
    second = build(model, "--images", "--rpc", ",".join(servers), "-ts", "0,1").images.engine.model
    assert (second.rpc_servers, second.device) == (servers, 1)
    beside = build(model, "--image-model", model, "--rpc", servers[0], "-ts", "1,1")
    assert beside.engine.model.rpc_servers == servers[:1]
    assert beside.images.engine.model == build(model, "--image-model", model).images.engine.model


def test_flash_attention_is_both_models(model: str):
    assert build(model, "--images", "-fa", "on").images.engine.model.flash_attention
    assert not build(model, "--images", "-fa", "auto").images.engine.model.flash_attention
    assert not build(model, "--images").images.engine.model.flash_attention
    assert build(model, "--image-model", model, "-fa", "on").images.engine.model.flash_attention


@pytest.mark.parametrize("shares", ["1,1", "1/0/2", "1,1,1"])
def test_the_image_library_computes_on_one_device(model: str, shares: str):
    with pytest.raises(UsageError, match=r"^-ts: [23] devices: .* computes on one") as caught:
        build(model, "--images", "-ts", shares)
    assert "--image-no-vae-model-offload" in str(caught.value)


def test_a_device_for_images_must_be_there():
    asked: list[Sequence[str]] = []

    def known(servers: Sequence[str]) -> list[str]:
        asked.append(servers)
        return ["RPC0", "CUDA0"] if servers else []

    def check(*arguments: str) -> None:
        check_image_placement(read_arguments(["--images", *arguments]), known)

    check("--rpc", "a:1")
    assert not asked, "nothing was named that could be wrong"
    check("--rpc", "a:1", "-ts", "0,1")
    check("-ts", "1")
    assert asked == [("a:1",), ()]
    with pytest.raises(UsageError, match=r"^-ts: 3 numbers for 2 devices \(RPC0, CUDA0\)$"):
        check("--rpc", "a:1", "-ts", "0,0,1")
    with pytest.raises(UsageError, match=r"^-ts: 2 numbers for 0 devices \(none but the processor\)$"):
        check("-ts", "0,1")


def test_variables_for_text_models_do_not_stop_images(model: str):
    environment = read_environment({"LLAMA_ARG_N_GPU_LAYERS": "3"})
    assert build_settings(environment | read_arguments(["-m", model, "--images"])).images.running


def test_who_serves_devices_has_no_model(model: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--images", "--rpc-server-port", "1", "--image-model", model]) == USAGE_ERROR
    assert capsys.readouterr().err == (
        "llama-box: --image-model: not with --rpc-server-port, which serves devices: no model, no HTTP\n"
    )


@pytest.mark.parametrize("images", [False, True])
def test_devices_are_served_by_the_library_of_the_models(images: bool, monkeypatch: pytest.MonkeyPatch):
    """By its own function, with its own devices, and its own guard."""
    chosen = rpc_server.IMAGES if images else rpc_server.TEXT
    guarded: list[object] = []
    for side in (rpc_server.TEXT, rpc_server.IMAGES):
        monkeypatch.setattr(side.guard, "install", lambda _, guard=side.guard: guarded.append(guard))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(logs, "configure", lambda settings: None)
    made: list[tuple[object, ...]] = []

    class Server:
        def __init__(self, on_line: object, function: Callable[[], int]) -> None:
            self.function = function

        def start(self, options: ServeOptions, ended: Callable[[], None]) -> None:
            made.append((self.function, options.device))
            raise RpcError("not really")

    arguments = ["--rpc-server-port", "1", *(["--images"] if images else [])]
    assert rpc_server.run(given_settings(read_arguments(arguments)), Server) == rpc_server.FAILURE
    (function, device) = made[0]
    assert function is chosen.function
    assert device.handle in [known.handle for known in chosen.devices()]
    assert guarded == [chosen.guard]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lora", "FILE"), ("--lora-scaled", "FILE", "1"), ("--control-vector", "FILE"), ("--mmproj", "FILE"),
        ("--embeddings",), ("--rerank",), ("--infill",), ("--slot-save-path", "DIRECTORY"),
        ("--hf-repo", "a/b"), ("--model-url", "http://a.example/b.gguf"),
    ],
)  # fmt: skip
def test_options_that_need_a_text_model_are_refused_without_one(model: str, arguments: tuple[str, ...]):
    places = {"FILE": model, "DIRECTORY": str(Path(model).parent)}
    flag, *values = (places.get(argument, argument) for argument in arguments)
    with pytest.raises(UsageError, match=rf"^{flag}: needs a text model"):
        build(model, "--images", flag, *values)


def test_what_serves_images_too_is_no_reason_to_refuse(model: str):
    settings = build(model, "--images", "--metrics", "--slots", "-t", "2", "--api-key", "k", "--alias", "a", "-v")
    assert settings.images.running
    assert settings.ignored == ()
    assert build(model, "--images", "--image-model", model, "--infill", "--slots").has_text


def test_flags_that_only_text_has_a_use_for_are_named(model: str):
    flags = ("-c", "512", "-np", "4", "--temp", "0.5", "-tps", "5", "--threads-http", "2", "--no-escape", "--jinja")
    assert build(model, "--images", *flags).ignored == tuple(flag for flag in flags if flag.startswith("-"))
    assert build(model, "--images", "--image-model", model, *flags).ignored == ()
    assert build(model, *flags).ignored == ()
    environment = read_environment({"LLAMA_ARG_CTX_SIZE": "512"})
    assert build_settings(environment | read_arguments(["-m", model, "--images"])).ignored == ()


def test_the_log_names_them(model: str, caplog: pytest.LogCaptureFixture):
    report_ignored(build(model, "--images", "-c", "512", "-np", "4"))
    report_ignored(build(model, "--images"))
    assert caplog.messages == ["without effect: -c -np: the only model makes images, text models take them"]


def test_what_both_kinds_of_models_have_a_use_for(model: str):
    plain = build(model, "--images").images
    assert (plain.seed, plain.engine.warmup, plain.engine.model.flash_attention) == (None, False, False)
    for words in (["--images"], ["--image-model", model]):
        settings = build(model, *words, "--seed", "7", "--warmup", "-fa")
        images = settings.images
        assert (images.seed, images.engine.warmup, images.engine.model.flash_attention) == (7, True, True)
        assert settings.ignored == ()
    other = build(model, "--images", "--seed", "-1", "--no-warmup", "-fa", "off").images
    assert (other.seed, other.engine.warmup, other.engine.model.flash_attention) == (None, False, False)
