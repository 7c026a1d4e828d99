"""Which model makes what, and the files of an image model."""

from pathlib import Path

import pytest

from cli.build import build_settings
from cli.errors import UsageError
from cli.main import USAGE_ERROR, main
from cli.parse import read_arguments, read_environment
from cli.report import report_ignored
from llamabox.settings import Settings
from tests.cli.test_cli_build import IMAGE_PARTS


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    return str(path)


def build(model: str, *arguments: str) -> Settings:
    return build_settings(read_arguments(["-m", model, *arguments]))


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


@pytest.mark.parametrize(
    "arguments",
    ["-ts 3,1", "--rpc 127.0.0.1:1", "--device none", "-ngl 0", "-mg 1", "-sm none", "--mlock", "--no-mmap"],
)
def test_where_an_image_model_lies_cannot_be_chosen(model: str, arguments: str):
    flag = arguments.split()[0]
    with pytest.raises(UsageError, match=f"^{flag}: not for image models"):
        build(model, "--images", *arguments.split())
    assert build(model, "--image-model", model, *arguments.split()).has_text


def test_variables_for_text_models_do_not_stop_images(model: str):
    environment = read_environment({"LLAMA_ARG_N_GPU_LAYERS": "3"})
    assert build_settings(environment | read_arguments(["-m", model, "--images"])).images.running


@pytest.mark.parametrize("flag", ["--images", "--image-model"])
def test_devices_are_not_served_for_images(model: str, flag: str, capsys: pytest.CaptureFixture[str]):
    words = [flag] if flag == "--images" else [flag, model]
    assert main(["--rpc-server-port", "1", *words]) == USAGE_ERROR
    assert capsys.readouterr().err == (
        f"llama-box: {flag}: not with --rpc-server-port, which serves devices: no model, no HTTP\n"
    )


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
