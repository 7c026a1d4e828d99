"""A value for every option of the table that is not its default, by its kind or by hand."""

import functools
import shlex
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import trustme

from cli.errors import UsageError
from cli.kinds import Switch, Words
from cli.option import Option, Section
from cli.parse import read_arguments
from engine.native.options import ModelOptions
from engine.text.options import EngineOptions
from llamabox.settings import Settings

# Where a kind's text has a grammar of its own, or where the value must suit its probe. {name}: one of ``files``.
TEXTS: Mapping[str, str] = {
    "--host": "other.sock",
    "--cors-origins": "https://page.example",
    "--model": "{other}",
    "--threads": "77",
    "--threads-batch": "78",
    "--ubatch-size": "64",
    "--override-kv": "tokenizer.ggml.add_bos_token=bool:false",
    "--device": "none",
    "--tensor-split": "3,1",
    "--logit-bias": "3-1",
    "--samplers": "dry;top_k",
    "--sampling-seq": "ek",
    "--chat-template": "zephyr",
    "--chat-template-file": "{template}",
    "--chat-template-kwargs": '{{"mood": "sad"}}',
    "--grammar": "root ::= [a]",
    "--grammar-file": "{grammar}",
    "--json-schema": '{{"type":"object"}}',
    "--ssl-key-file": "{key}",
    "--ssl-cert-file": "{certificate}",
    "--tokens-per-second": "50",
    "--ctx-size": "512",
    "--batch-size": "1024",
    "--model-url": "http://models.example/model.gguf",
    "--hf-repo": "user/model",
    "--hf-file": "model.gguf",
    "--lora": "{other}",
    "--lora-scaled": "{other} 0.5",
    "--control-vector": "{other}",
    "--control-vector-scaled": "{other} 0.5",
    "--slot-save-path": "{directory}",
    "--media-path": "{directory}",
    "--mmproj": "{other}",
    "--rpc": "127.0.0.1:1",
    "--override-tensor": "a=CPU",
    "--override-tensor-draft": "a=CPU",
    "--model-draft": "{other}",
    "--lookup-cache-static": "{ngrams}",
    "--lookup-cache-dynamic": "{ngrams}",
    "--device-draft": "none",
    "--cpu-mask": "1",
    "--cpu-mask-batch": "1",
    "--cpu-range": "0-0",
    "--cpu-range-batch": "0-0",
    "--prio": "2",
    "--prio-batch": "1",
    "--image-model": "{other}",
    "--image-lora": "{other}",
    "--image-clip-l-model": "{other}",
    "--image-clip-g-model": "{other}",
    "--image-t5xxl-model": "{other}",
    "--image-llm-model": "{other}",
    "--image-vae-model": "{other}",
    "--image-taesd-model": "{other}",
    "--image-upscale-model": "{other}",
    "--image-control-net-model": "{other}",
    "--rpc-server-host": "127.0.0.1",
    "--rpc-server-reserve-memory": "0",
}
LOOKUP = "--lookup-ngram-min 2"
IMAGE_MODEL = "--image-model {other}"
# What must stand beside an option for the command line to be whole.
BESIDE: Mapping[str, str] = {
    "--ssl-key-file": "--ssl-cert-file {certificate}",
    "--ssl-cert-file": "--ssl-key-file {key}",
    "--hf-file": "--hf-repo user/model",
    "--hf-token": "--hf-repo user/model",
    "--pooling": "--embeddings",
    "--attention": "--embeddings",
    "--lora-init-without-apply": "--lora {other}",
    "--control-vector-layer-range": "--control-vector {other}",
    "--slot-save-path": "--slots",
    "--poll-batch": "--poll 3",
    "--prio": "--prio-batch 3",
    "--prio-batch": "--prio 3",
    **dict.fromkeys(("--draft-max", "--draft-min", "--lookup-cache-static", "--lookup-cache-dynamic"), LOOKUP),
    **dict.fromkeys(
        (
            "--draft-p-min",
            "--device-draft",
            "--gpu-layers-draft",
            "--override-tensor-draft",
            "--cpu-moe-draft",
            "--n-cpu-moe-draft",
        ),
        "-md {other}",
    ),
    "--image-model": "",
    "--image-slg-skip-layer": f"{IMAGE_MODEL} --image-slg-scale 2",
    "--image-slg-start": f"{IMAGE_MODEL} --image-slg-scale 2 --image-slg-end 1",
    "--image-slg-end": f"{IMAGE_MODEL} --image-slg-scale 2",
    "--image-upscale-repeats": f"{IMAGE_MODEL} --image-upscale-model {{other}}",
}
# Where the model comes from if no file of it is named.
SOURCES = frozenset({"-mu", "--model-url", "-hfr", "--hf-repo"})
CANDIDATES = ("3", "0.25", "1", "2", "448", "mean", "causal", "a:1", "word")


def files(directory: Path, model: Path) -> dict[str, str]:
    """Files that values may name."""
    issued = trustme.CA().issue_cert("localhost")
    found = {name: directory / name for name in ("key", "certificate", "template", "grammar", "other", "ngrams")}
    issued.private_key_pem.write_to_path(found["key"])
    issued.cert_chain_pems[0].write_to_path(found["certificate"])
    found["template"].write_text("{% for m in messages %}{{ m.role }}/{{ m.content }}{% endfor %}")
    found["grammar"].write_text("root ::= [b]")
    found["ngrams"].write_bytes(struct.pack("<5i2i", 97, 98, -1, -1, 1, 99, 1))
    found["other"].write_bytes(model.read_bytes())
    return {name: str(path) for name, path in found.items()} | {"directory": str(directory)}


def at(settings: Settings, path: str) -> object:
    """The attribute at a dotted path."""
    return functools.reduce(getattr, path.split("."), settings)


DEFAULTS = Settings(engine=EngineOptions(model=ModelOptions(path="")))


def value_texts(option: Option, files: Mapping[str, str]) -> list[str]:
    """The words that follow the flag; none for a switch. For an option with a setting: not its default."""
    if isinstance(option.kind, Switch):
        return []
    if option.name in TEXTS:
        text = TEXTS[option.name].format(**files)
        return text.split() if option.kind.arity > 1 else [text]
    for text in (*option.kind.words, *CANDIDATES) if isinstance(option.kind, Words) else CANDIDATES:
        words = [text] * option.kind.arity
        try:
            given = read_arguments([_flag(option), *words])[option.key]
        except UsageError:
            continue
        if option.setting is None or given.value != at(DEFAULTS, option.setting):
            return words
    raise AssertionError(f"tests/options/samples.py: no value for {option.name}; give one in TEXTS")


def spellings(option: Option) -> list[str]:
    """The spellings that change something: of a switch those that are not its default."""
    if not isinstance(option.kind, Switch) or option.setting is None:
        return [*option.flags, *option.off]
    default = at(DEFAULTS, option.setting)
    on = option.flags if option.kind.on != default else ()
    off = option.off if option.kind.off != default else ()
    return [*on, *off]


def beside(option: Option, files: Mapping[str, str]) -> list[str]:
    """Other arguments that it needs."""
    usual = IMAGE_MODEL if option.section is Section.IMAGES else ""
    return shlex.split(BESIDE.get(option.name, usual).format(**files))


def whole(model: Path, *arguments: str) -> list[str]:
    """A command line with a model. One thread: what the machine has is no default of the table."""
    named = [] if SOURCES.intersection(arguments) else ["-m", str(model)]
    return [*named, "-t", "1", *arguments]


def command_lines(option: Option, files: Mapping[str, str]) -> Iterator[list[str]]:
    """The option given in each of its spellings."""
    for spelling in spellings(option):
        yield [*beside(option, files), spelling, *value_texts(option, files)]


def variable_text(option: Option, files: Mapping[str, str]) -> str:
    """The same value as in ``command_lines``, for a variable."""
    if isinstance(option.kind, Switch):
        return "1" if spellings(option)[0] in option.flags else "0"
    (text,) = value_texts(option, files)
    return text


def _flag(option: Option) -> str:
    return (*option.flags, *option.off)[0]
