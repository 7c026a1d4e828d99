"""The entry point: exit statuses, streams, and what the information flags print."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from cli.help import help_text
from cli.main import main
from cli.options import OPTIONS


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for option in OPTIONS:
        for name in option.env:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(monkeypatch) -> list:
    """The settings of the servers that were run; each run answers 7."""
    runs: list = []

    def run(settings) -> int:
        runs.append(settings)
        return 7

    monkeypatch.setitem(sys.modules, "cli.start", types.SimpleNamespace(run=run))
    return runs


def test_help_names_every_flag_variable_and_default():
    text = help_text(100)
    words = set(text.replace(",", " ").replace("[", " ").replace("]", " ").split())
    for option in OPTIONS:
        assert words.issuperset((*option.flags, *option.off, *option.env))
    assert "(default: 8080)" in text
    assert "(default: penalties;dry;top_k;typ_p;top_p;min_p;xtc;temperature)" in text


@pytest.mark.parametrize("width", [80, 132])
def test_help_fits_the_terminal(width: int):
    assert max(len(line) for line in help_text(width).splitlines()) <= width


@pytest.mark.parametrize("flag", ["-h", "--help", "--usage"])
def test_help_wins_over_unavailable_options_and_bad_variables(flag: str, capsys, monkeypatch, served: list):
    monkeypatch.setenv("LLAMA_ARG_PORT", "x")
    assert main(["--images", flag]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: llama-box")
    assert (err, served) == ("", [])


def test_version_names_the_packages(capsys):
    assert main(["--version"]) == 0
    names = [line.rsplit(" ", 1)[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["llama-box", "Python", "llama-cpp-python", "stable-diffusion-cpp-python"]


def test_devices_are_listed(capsys, monkeypatch):
    device = types.SimpleNamespace(name="A0", description="An accelerator", total_mib=100, free_mib=60)
    module = types.SimpleNamespace(
        devices=lambda: [device], buffer_types=lambda: ["CPU", "A0"], system_info=lambda: "AVX2 = 1"
    )
    monkeypatch.setitem(sys.modules, "engine.native.devices", module)
    assert main(["--list-devices"]) == 0
    assert main(["--list-buffer-types"]) == 0
    assert main(["--system-info"]) == 0
    assert capsys.readouterr().out == "A0: An accelerator (100 MiB, 60 MiB free)\nCPU\nA0\nAVX2 = 1\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--prot=1"], "llama-box: --prot: unknown option; did you mean --port?\n"),
        (["-ngld", "1"], "llama-box: -ngld: needs --model-draft\n"),
        (["-lcs", "a"], "llama-box: -lcs: needs --lookup-ngram-min\n"),
        (["--draft-min", "2"], "llama-box: --draft-min: needs --model-draft or --lookup-ngram-min\n"),
        (
            ["--lookup-ngram-min", "2", "--draft", "3", "--draft-min", "4"],
            "llama-box: --draft-min: 4 is more than --draft 3\n",
        ),
        (
            ["--lookup-ngram-min", "2", "-lcs", "absent"],
            "llama-box: --lookup-cache-static: cannot read absent: No such file or directory\n",
        ),
        (["-md", "absent"], "llama-box: --model-draft: cannot read absent: No such file or directory\n"),
        (["--rpc-server-threads", "2"], "llama-box: --rpc-server-threads: needs --rpc-server-port\n"),
        (["-m", "absent\nfile"], "llama-box: --model: cannot read absent file: No such file or directory\n"),
    ],
)
def test_a_usage_error_is_one_line_and_loads_nothing(arguments: list[str], line: str, capsys, served: list):
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", line)
    assert served == []


def test_the_server_runs_with_the_settings(tmp_path: Path, monkeypatch, served: list):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    monkeypatch.setenv("LLAMA_ARG_MODEL", str(model))
    monkeypatch.setenv("LLAMA_ARG_PORT", "1")
    assert main(["--port", "2"]) == 7
    (settings,) = served
    assert (settings.engine.model.path, settings.server.port) == (str(model), 2)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from cli.main import main; status = main(['--help']);"
        "print(sorted({'llama_cpp', 'numpy', 'quart', 'trio', 'hypercorn', 'tqdm', 'ssl'} & set(sys.modules)),"
        " file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"
    assert done.stdout.startswith("usage: llama-box")
