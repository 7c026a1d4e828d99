"""Reading arguments and variables: spellings, precedence, and what is refused with which words."""

import collections

import pytest

from cli.errors import UsageError
from cli.kinds import Real, Switch, Whole
from cli.option import Option
from cli.options import OPTIONS
from cli.parse import FLAGS, read_arguments, read_environment
from engine.native.options import FlashAttention, Scaled


def value(arguments: str | list[str], key: str):
    words = arguments.split() if isinstance(arguments, str) else arguments
    return read_arguments(words)[key].value


def ids(option: Option) -> str:
    return option.name


def numeric_cases():
    for option in OPTIONS:
        kind = option.kind
        if not isinstance(kind, Whole | Real):
            continue
        bad = ["nan", "inf", "-inf", "", "x", "1_0", "0x10"]
        if isinstance(kind, Whole):
            bad += ["1.5", "1e3", str(kind.maximum + 1), "9" * 30]
            bad += [str(kind.minimum - 1)] if kind.minimum - 1 not in kind.also else [str(kind.minimum - 3)]
        else:
            bad += [repr(kind.maximum + 0.01)] if kind.maximum is not None else []
            bad += ["-0.5"] if kind.minimum == 0 else []
            bad += ["0", "-1"] if kind.above == 0 else []
        for text in bad:
            yield pytest.param(option, text, id=f"{option.name}={text[:12]}")


def test_every_spelling_and_variable_is_declared_once():
    spelled = collections.Counter(flag for option in OPTIONS for flag in (*option.flags, *option.off))
    variables = collections.Counter(name for option in OPTIONS for name in option.env)
    assert [flag for flag, count in spelled.items() if count > 1] == []
    assert [name for name, count in variables.items() if count > 1] == []
    assert all(option.metavar or isinstance(option.kind, Switch) for option in OPTIONS)


@pytest.mark.parametrize(("option", "text"), list(numeric_cases()))
def test_bad_numbers_are_refused_naming_flag_and_range(option: Option, text: str):
    flag = option.flags[0]
    with pytest.raises(UsageError) as caught:
        read_arguments([f"{flag}={text}"])
    message = str(caught.value)
    assert message.startswith(f"{flag}: ")
    assert message.endswith(f"expected {option.kind.accepts}")
    assert "\n" not in message


@pytest.mark.parametrize("option", [o for o in OPTIONS if isinstance(o.kind, Whole | Real)], ids=ids)
def test_bounds_and_sentinels_are_accepted(option: Option):
    kind = option.kind
    bounds = [bound for bound in (kind.minimum, kind.maximum, *kind.also) if bound is not None]
    for bound in bounds:
        given = value([option.flags[0], str(bound)], option.key)
        assert given == (None if bound == kind.none else bound)


@pytest.mark.parametrize(
    ("arguments", "key", "expected"),
    [
        ("-ngl -1 --port 1", "engine.model.n_gpu_layers", -1),
        ("-ngl=5", "engine.model.n_gpu_layers", 5),
        ("--n-gpu-layers=7", "engine.model.n_gpu_layers", 7),
        ("--port 1 --metrics --port 2", "server.port", 2),
        ("-fa", "engine.context.flash_attention", FlashAttention.ON),
        ("-fa --metrics", "engine.context.flash_attention", FlashAttention.ON),
        ("-fa OFF", "engine.context.flash_attention", FlashAttention.OFF),
        ("--flash-attn=auto", "engine.context.flash_attention", FlashAttention.AUTO),
        ("-fa on --no-flash-attn", "engine.context.flash_attention", FlashAttention.OFF),
        ("--no-flash-attn -fa", "engine.context.flash_attention", FlashAttention.ON),
        ("--lora-scaled a 0.5 --lora c --lora-scaled=b -1", "engine.adapters.loras",
         (Scaled("a", 0.5), Scaled("c", 1.0), Scaled("b", -1.0))),
        ("--control-vector a --control-vector-scaled b 2", "engine.adapters.control_vectors",
         (Scaled("a", 1.0), Scaled("b", 2.0))),
        ("--control-vector-layer-range 1 2", "engine.adapters.control_layers", (1, 2)),
        ("-r a -r=b=c", "defaults.stop", ("a", "b=c")),
        ("-r=--port", "defaults.stop", ("--port",)),
        ("--api-key a,b --api-key c", "server.api_keys", ("a", "b", "c")),
        ("--no-warmup --warmup", "engine.warmup", True),
        ("--warmup --no-warmup", "engine.warmup", False),
        ("-nocb", "engine.continuous_batching", False),
        ("-l 15-inf -l 7+1.5", "defaults.sampling.logit_bias", ((15, float("-inf")), (7, 1.5))),
        ("--samplers top_k;xtc --sampling-seq tk", "defaults.sampling.samplers", ("temperature", "top_k")),
        ("--sampling-seq tk --samplers top_n_sigma", "defaults.sampling.samplers", ("top_n_sigma",)),
        ("--rope-scale 4", "engine.context.rope_freq_scale", 0.25),
        ("--rope-scale 4 --rope-freq-scale 0.5", "engine.context.rope_freq_scale", 0.5),
        ("-s -1", "defaults.sampling.seed", None),
        ("-v", "log.verbosity", 1),
        ("-v -lv 0", "log.verbosity", 0),
        ("-dev none", "engine.model.devices", ()),
        ("-dev CUDA0,CUDA1", "engine.model.devices", ("CUDA0", "CUDA1")),
        ("-ts 3/1", "engine.model.tensor_split", (3.0, 1.0)),
        ("--override-kv a.b=int:-3", "engine.model.metadata_overrides", (("a.b", -3),)),
        ("--override-kv a=bool:true --override-kv b=str:x=y:z", "engine.model.metadata_overrides",
         (("a", True), ("b", "x=y:z"))),
    ],
)  # fmt: skip
def test_values(arguments: str, key: str, expected):
    assert value(arguments, key) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prot", "1"], "--prot: unknown option; did you mean --port?"),
        (["--n-gpu-layer=3"], "--n-gpu-layer: unknown option; did you mean --n-gpu-layers?"),
        (["--qqqqqqqqq"], "--qqqqqqqqq: unknown option; see --help"),
        (["model.gguf"], "unexpected argument 'model.gguf': every value belongs to a flag"),
        (["--port"], "--port: value missing; expected a whole number from 0 to 65535"),
        (["-r", "a", "-r", "-c"], "-r: value missing; expected text"),
        (["--port", "--metrics"], "--port: value missing; expected a whole number from 0 to 65535"),
        (["--port", "--typo"], "--port: '--typo' is not accepted; expected a whole number from 0 to 65535"),
        (["--temp", "-1"], "--temp: '-1' is not accepted; expected a number of at least 0"),
        (["--rope-scale", "0"], "--rope-scale: '0' is not accepted; expected a number above 0"),
        (["-t", "0"], "-t: '0' is not accepted; expected a whole number from 1 to 512, or -1"),
        (["--metrics=on"], "--metrics: takes no value"),
        (["-fa", "maybe"], "-fa: 'maybe' is not accepted; expected one of on, off, auto"),
        (["-sm", "rows"], "-sm: 'rows' is not accepted; expected one of none, layer, row"),
        (["--numa", "disabled"],
         "--numa: 'disabled' is not accepted; expected one of distribute, isolate, numactl"),
        (["--lora-scaled", "f"],
         "--lora-scaled: value missing; expected two values: a file and a number from -1000 to 1000"),
        (["--lora-scaled", "f", "1e9"],
         "--lora-scaled: 'f' '1e9' is not accepted; expected two values: a file and a number from -1000 to 1000"),
    ],
)  # fmt: skip
def test_messages(arguments: list[str], message: str):
    with pytest.raises(UsageError) as caught:
        read_arguments(arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "argument",
    [
        "--samplers=top_k;nope", "--samplers=", "--sampling-seq=ez", "--sampling-seq=", "-l=5", "-l=5+nan", "-l=5+inf",
        "-l=x+1", "-l=9999999999+1", "-ts=1,", "-ts=-1,2", "-ts=0,0", "-ts=nan", "--override-kv=a=int:1.5",
        "--override-kv=a=float:nan", "--override-kv=a=bool:maybe", "--override-kv=a=bytes:1", "--override-kv==int:1",
        f"--override-kv={'k' * 128}=int:1", f"--override-kv=k=str:{'v' * 128}", f"--override-kv=k=int:{2**63}",
        "--cors-origins=example.com", "--host=", "--host=a,,b", "--api-key=", "-m=", "-dev=", "-ctk=f8",
        "--rope-scaling=cubic", "--visual-max-image-size=100", "--image-max-width=300", "--log-format=xml",
    ],
)  # fmt: skip
def test_other_bad_values_are_refused(argument: str):
    flag = argument.partition("=")[0]
    with pytest.raises(UsageError) as caught:
        read_arguments([argument])
    assert str(caught.value).startswith(f"{flag}: ")
    assert "expected " in str(caught.value)


def test_a_foreign_variable_does_not_stop_the_start():
    assert read_environment({"HF_TOKEN": "secret"})["source.hf_token"].value == "secret"
    assert read_environment({"HF_TOKEN": " "}) == {}


def test_a_switch_with_a_setting_is_on_or_off():
    assert value("--jinja --no-jinja", "chat.jinja") is False
    assert read_environment({"LLAMA_ARG_JINJA": "0"})["chat.jinja"].value is False


@pytest.mark.parametrize(
    ("environment", "key", "expected"),
    [
        ({"LLAMA_ARG_PORT": "9"}, "server.port", 9),
        ({"LLAMA_API_KEY": "a,b"}, "server.api_keys", ("a", "b")),
        ({"LLAMA_LOG_VERBOSITY": "3"}, "log.verbosity", 3),
        ({"LLAMA_ARG_CONT_BATCHING": "0"}, "engine.continuous_batching", False),
        ({"LLAMA_ARG_CACHE_PROMPT": "No"}, "defaults.cache_prompt", False),
        ({"LLAMA_ARG_METRICS": "TRUE"}, "server.metrics", True),
        ({"LLAMA_ARG_ENDPOINT_METRICS": "yes"}, "server.metrics", True),
        ({"LLAMA_ARG_METRICS": "0", "LLAMA_ARG_ENDPOINT_METRICS": "1"}, "server.metrics", False),
        ({"LLAMA_ARG_FLASH_ATTN": "1"}, "engine.context.flash_attention", FlashAttention.ON),
        ({"LLAMA_ARG_ALIAS": "x"}, "server.aliases", ("x",)),
    ],
)
def test_variables(environment: dict[str, str], key: str, expected):
    assert read_environment(environment)[key].value == expected


def test_an_empty_variable_is_not_set():
    assert read_environment({"LLAMA_ARG_PORT": ""}) == {}


def test_a_bad_variable_is_named_with_its_flag():
    with pytest.raises(UsageError) as caught:
        read_environment({"LLAMA_ARG_PORT": "http"})
    assert str(caught.value) == (
        "LLAMA_ARG_PORT (--port): 'http' is not accepted; expected a whole number from 0 to 65535"
    )
    with pytest.raises(UsageError, match=r"^LLAMA_ARG_SLOTS \(--slots\): 'maybe' is not accepted"):
        read_environment({"LLAMA_ARG_SLOTS": "maybe"})


def test_the_table_knows_every_flag():
    assert len(FLAGS) == sum(len(option.flags) + len(option.off) for option in OPTIONS)
