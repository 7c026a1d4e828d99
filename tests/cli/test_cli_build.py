"""Every available option reaches the settings; files are checked; defaults are the contract's."""

import os
from pathlib import Path

import pytest

from cli import cores
from cli.build import build_settings
from cli.errors import UsageError
from cli.option import Option
from cli.options import OPTIONS
from cli.parse import read_arguments, read_environment
from engine.native.options import Attention, CacheType, FlashAttention, Numa, Pooling, Scaled, SplitMode
from engine.native.sd.options import Sampler, Schedule
from engine.text.options import KvLayout
from llamabox.chat.builtin import builtin
from llamabox.settings import LogFormat, Settings
from tests.cli.conftest import build


def at(settings: Settings, path: str):
    found = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found


SAMPLES = {
    "log.verbosity": {"-v": 1, "-lv=2": 2},
    "log.colors": {"--log-colors": True, "--log-colors off": False},
    "log.format": {"--log-format=json": LogFormat.JSON},
    "server.hosts": {"--host ::1,/run/x.sock": ("::1", "/run/x.sock")},
    "server.port": {"--port 0": 0},
    "server.timeout": {"-to 1.5": 1.5},
    "server.prepare_threads": {"--threads-http 3": 3},
    "server.idle_timeout": {"--conn-idle 5": 5.0},
    "server.keepalive_timeout": {"--conn-keepalive 5": 5.0},
    "server.api_keys": {"--api-key k": ("k",)},
    "server.cors_origins": {"--cors-origins https://a.example/,*": ("https://a.example", "*")},
    "server.ui": {"--no-ui": False},
    "server.metrics": {"--metrics": True},
    "server.slots": {"--slots": True},
    "server.infill": {"--infill": True},
    "server.aliases": {"-a x,y": ("x", "y")},
    "engine.cache_ram": {"--cache-ram 0": 0, "--cache-ram 512": 512},
    "engine.cache_reuse": {"--cache-reuse 64": 64},
    "engine.model.rpc_servers": {"--rpc a:1,10.0.0.2:50052": ("a:1", "10.0.0.2:50052")},
    "engine.model.tensor_overrides": {
        r"-ot ffn_.*=CPU -ot a=b=RPC0[h:1],c=CPU": (("ffn_.*", "CPU"), ("a=b", "RPC0[h:1]"), ("c", "CPU")),
        "--cpu-moe -ot x=CPU": (("x", "CPU"), (r"\.ffn_(up|down|gate|gate_up)_(ch|)exps", "CPU")),
        "--n-cpu-moe 2": ((r"blk\.(?:0|1)\.ffn_(up|down|gate|gate_up)_(ch|)exps", "CPU"),),
    },
    "rpc_server.host": {"--rpc-server-host 127.0.0.1": "127.0.0.1"},
    "rpc_server.port": {"--rpc-server-port 50052": 50052},
    "rpc_server.main_gpu": {"--rpc-server-main-gpu -1": -1},
    "rpc_server.threads": {"--rpc-server-threads 3": 3},
    "rpc_server.cache": {"--rpc-server-cache": True},
    "rpc_server.cache_dir": {"--rpc-server-cache-dir x": "x"},
    "server.tokens_per_second": {"-tps 12.5": 12.5, "-tps -1": -1.0},
    "defaults.sampling.seed": {"-s 4": 4},
    "defaults.sampling.samplers": {
        "--samplers dry;top_k": ("dry", "top_k"),
        "--sampling-seq ek": ("penalties", "top_k"),
    },
    "defaults.sampling.temperature": {"--temp 0": 0.0},
    "defaults.sampling.top_k": {"--top-k 0": 0},
    "defaults.sampling.top_p": {"--top-p 1": 1.0},
    "defaults.sampling.min_p": {"--min-p 0": 0.0},
    "defaults.sampling.top_n_sigma": {"--top-nsigma 2": 2.0},
    "defaults.sampling.typical_p": {"--typical 0.5": 0.5},
    "defaults.sampling.xtc_probability": {"--xtc-probability 0.5": 0.5},
    "defaults.sampling.xtc_threshold": {"--xtc-threshold 0.5": 0.5},
    "defaults.sampling.repeat_last_n": {"--repeat-last-n -1": -1},
    "defaults.sampling.repeat_penalty": {"--repeat-penalty 1.1": 1.1},
    "defaults.sampling.presence_penalty": {"--presence-penalty -0.5": -0.5},
    "defaults.sampling.frequency_penalty": {"--frequency-penalty 0.5": 0.5},
    "defaults.sampling.dry_multiplier": {"--dry-multiplier 0.8": 0.8},
    "defaults.sampling.dry_base": {"--dry-base 2": 2.0},
    "defaults.sampling.dry_allowed_length": {"--dry-allowed-length 3": 3},
    "defaults.sampling.dry_penalty_last_n": {"--dry-penalty-last-n 0": 0},
    "defaults.sampling.dry_sequence_breakers": {
        r"--dry-sequence-breaker \n --dry-sequence-breaker ;": ("\n", ";"),
        r"--no-escape --dry-sequence-breaker \n": (r"\n",),
        "--dry-sequence-breaker none": (),
        "--dry-sequence-breaker a --dry-sequence-breaker none --dry-sequence-breaker b": ("b",),
    },
    "defaults.sampling.dynatemp_range": {"--dynatemp-range 0.5": 0.5},
    "defaults.sampling.dynatemp_exponent": {"--dynatemp-exp 2": 2.0},
    "defaults.sampling.mirostat": {"--mirostat 2": 2},
    "defaults.sampling.mirostat_eta": {"--mirostat-lr 0.2": 0.2},
    "defaults.sampling.mirostat_tau": {"--mirostat-ent 4": 4.0},
    "defaults.sampling.logit_bias": {"-l 3-1": ((3, -1.0),)},
    "defaults.n_predict": {"-n -2": -2},
    "defaults.n_keep": {"--keep -1": -1},
    "defaults.stop": {r"-r a\tb -r \x41": ("a\tb", "A"), r"-r a\tb -e --no-escape": (r"a\tb",)},
    "defaults.special": {"-sp": True},
    "defaults.spm_infill": {"--spm-infill": True},
    "defaults.cache_prompt": {"--no-cache-prompt": False},
    "defaults.grammar": {"--grammar root::=x": "root::=x"},
    "defaults.json_schema": {'-j {"type":"object"}': '{"type":"object"}', "--json-schema true": "true"},
    "chat.template": {"--chat-template {{messages}}": "{{messages}}", "--chat-template zephyr": builtin("zephyr")},
    "chat.jinja": {"--no-jinja": False},
    "chat.variables": {'--chat-template-kwargs {"a":[1]}': {"a": [1]}},
    "chat.enable_thinking": {"--no-enable-reasoning": False},
    "chat.reasoning_in_content": {"--reasoning-in-content": True},
    "chat.reasoning_budget": {"--reasoning-budget 64": 64, "--reasoning-budget 0": 0},
    "engine.model.devices": {"-dev none": (), "-dev A,B": ("A", "B")},
    "engine.model.split_mode": {"-sm row": SplitMode.ROW},
    "engine.model.main_gpu": {"-mg 1": 1},
    "engine.model.tensor_split": {"-ts 3,1": (3.0, 1.0)},
    "engine.model.n_gpu_layers": {"-ngl 0": 0},
    "engine.model.metadata_overrides": {"--override-kv a=float:1": (("a", 1.0),)},
    "engine.model.use_mmap": {"--no-mmap": False, "--mmap --no-mmap": False},
    "engine.model.use_mlock": {"--mlock": True},
    "engine.model.extra_buffers": {"-nr": False},
    "engine.adapters.apply_loras": {"--lora-init-without-apply": False},
    "engine.slot_similarity": {"-sps 0": 0.0, "--slot-prompt-similarity 0.9": 0.9},
    "engine.numa": {"--numa isolate": Numa.ISOLATE},
    "engine.warmup": {"--no-warmup": False},
    "engine.context_shift": {"--no-context-shift": False},
    "engine.continuous_batching": {"-nocb": False},
    "engine.n_parallel": {"-np 8": 8},
    "engine.kv_layout": {"-kvu": KvLayout.UNIFIED, "--no-kv-unified": KvLayout.STREAMS, "-no-kvu": KvLayout.STREAMS},
    "engine.context.n_ctx": {"-c 0": 0},
    "engine.context.n_batch": {"-b 1024": 1024},
    "engine.context.n_ubatch": {"-ub 64": 64},
    "engine.context.n_threads": {"-t 77": 77},
    "engine.context.n_threads_batch": {"-tb 78": 78, "-t 77": 77, "-t 77 -tb -1": 77},
    "engine.context.flash_attention": {"-fa": FlashAttention.ON, "--no-flash-attn": FlashAttention.OFF},
    "engine.context.cache_type_k": {"-ctk q8_0": CacheType.Q8_0},
    "engine.context.cache_type_v": {"-ctv iq4_nl": CacheType.IQ4_NL},
    "engine.context.offload_kqv": {"-nkvo": False},
    "engine.context.swa_full": {"--swa-full": True},
    "engine.context.rope_scaling": {"--rope-scaling yarn": "yarn"},
    "engine.context.rope_freq_base": {"--rope-freq-base 1e6": 1e6},
    "engine.context.rope_freq_scale": {"--rope-freq-scale 0.5": 0.5, "--rope-scale 8": 0.125},
    "engine.context.yarn_orig_ctx": {"--yarn-orig-ctx 32768": 32768},
    "engine.context.yarn_ext_factor": {"--yarn-ext-factor 1": 1.0},
    "engine.context.yarn_attn_factor": {"--yarn-attn-factor 2": 2.0},
    "engine.context.yarn_beta_fast": {"--yarn-beta-fast 16": 16.0},
    "engine.context.yarn_beta_slow": {"--yarn-beta-slow 2": 2.0},
    "engine.embedding.embeddings": {"--embeddings": True, "--embedding": True},
    "engine.embedding.rerank": {"--rerank": True, "--reranking": True},
    "engine.embedding.pooling": {"--embeddings --pooling cls": Pooling.CLS, "--rerank --pooling rank": Pooling.RANK},
    "engine.embedding.attention": {"--embedding --attention non-causal": Attention.NON_CAUSAL},
    "engine.media.n_cached": {"--max-projected-cache 0": 0, "--max-projected-cache 99": 99},
    "media.allow_private_urls": {"--allow-private-urls": True},
    "media.longest": {"--visual-max-image-size 448": 448},
    "images.enabled": {"--images": True},
    "images.engine.max_batch": {"--images --image-max-batch 8": 8},
    "images.engine.max_height": {"--images --image-max-height 512": 512},
    "images.engine.max_width": {"--images --image-max-width 2048": 2048},
    "images.engine.niceness": {"--images --image-niceness 0": 0},
    "images.guidance": {"--images --image-guidance 2": 2.0},
    "images.strength": {"--images --image-strength 0.5": 0.5},
    "images.sampler": {"--images --image-sampler dpm++2m": Sampler.DPMPP2M},
    "images.steps": {"--images --image-sample-steps 9": 9},
    "images.cfg_scale": {"--images --image-cfg-scale 1": 1.0},
    "images.slg_scale": {"--images --image-slg-scale 2.5": 2.5},
    "images.slg_layers": {"--images --image-slg-skip-layer 1;2 --image-slg-skip-layer 3": (1, 2, 3)},
    "images.slg_start": {"--images --image-slg-start 0.1": 0.1},
    "images.slg_end": {"--images --image-slg-end 0.5": 0.5},
    "images.schedule": {"--images --image-schedule karras": Schedule.KARRAS},
    "images.engine.model.keep_text_encoder_on_cpu": {"--images --image-no-text-encoder-model-offload": True},
    "images.engine.model.keep_vae_on_cpu": {"--images --image-no-vae-model-offload": True},
    "images.engine.model.keep_control_net_on_cpu": {"--images --image-no-control-net-model-offload": True},
    "images.vae_tiling": {"--images --image-vae-tiling": True},
    "images.control_strength": {"--images --image-control-strength 0.5": 0.5},
    "images.control_canny": {"--images --image-control-canny": True},
}  # fmt: skip
# Tested on their own: they need files.
IMAGE_PARTS = {
    "--image-clip-l-model": "clip_l", "--image-clip-g-model": "clip_g", "--image-t5xxl-model": "t5xxl",
    "--image-llm-model": "llm", "--image-vae-model": "vae", "--image-taesd-model": "taesd",
    "--image-control-net-model": "control_net",
}  # fmt: skip
WITH_FILES = {
    "engine.model.path", "server.ssl_key_file", "server.ssl_cert_file", "server.slot_save_path",
    "engine.adapters.loras", "engine.adapters.control_vectors", "engine.adapters.control_layers",
    "engine.media.path", "media.directory", "images.model", "images.upscale_model",
    "images.upscale_repeats", "images.engine.model.loras",
    *(f"images.engine.model.{part}" for part in IMAGE_PARTS.values()),
}  # fmt: skip
# See test_cli_sources.
SOURCES = {"source.url", "source.hf_repo", "source.hf_file", "source.hf_token"}


@pytest.mark.parametrize(
    ("path", "arguments", "expected"), [(path, *case) for path, cases in SAMPLES.items() for case in cases.items()]
)
def test_available_options_reach_the_settings(model: str, path: str, arguments: str, expected):
    assert at(build(model), path) != expected
    assert at(build(model, *arguments.split()), path) == expected


def test_every_option_with_a_setting_has_a_sample():
    placements = {o.setting for o in OPTIONS if o.setting and o.setting.startswith("engine.context.placement")}
    assert len(placements) == 8  # tests/cli/test_cli_processors.py is about these
    drafts = {o.setting for o in OPTIONS if o.setting and o.setting.startswith("engine.speculation")}
    assert len(drafts) == 10  # tests/cli/test_cli_speculation.py is about these
    assert {o.setting for o in OPTIONS if o.setting} == SAMPLES.keys() | WITH_FILES | SOURCES | placements | drafts


def test_options_without_a_setting_are_known():
    names = {o.name for o in OPTIONS if not o.setting}
    assert names == {
        "--help", "--version", "--system-info", "--list-devices", "--list-buffer-types",
        "--api-key-file", "--defrag-thold", "--escape", "--cpu-moe", "--n-cpu-moe",
        "--cpu-moe-draft", "--n-cpu-moe-draft", "--rpc-server-reserve-memory",
        "--image-free-compute-memory-immediately",
    }  # fmt: skip


def test_media_come_with_files(model: str, tmp_path: Path):
    settings = build(model, "--mmproj", model, "--media-path", str(tmp_path))
    assert (settings.engine.media.path, settings.media.directory) == (model, str(tmp_path))
    assert settings.engine.media.n_cached == 16
    with pytest.raises(UsageError, match="--mmproj: cannot read"):
        build(model, "--mmproj", f"{model}x")
    for path in (model, f"{model}x"):
        with pytest.raises(UsageError, match=r"--media-path: .* is no directory"):
            build(model, "--media-path", path)


CONTRACT = {
    "--host": ("127.0.0.1",), "--port": 8080, "--timeout": 600, "--threads-http": -1, "--conn-idle": 60,
    "--conn-keepalive": 15, "--seed": None, "--flash-attn": FlashAttention.AUTO, "--swa-full": False,
    "--kv-unified": KvLayout.AUTO, "--metrics": False, "--slots": False, "--gpu-layers": -1, "--warmup": True,
    "--split-mode": SplitMode.LAYER, "--main-gpu": 0, "--tokens-per-second": 0, "--ctx-size": 4096,
    "--context-shift": True, "--predict": -1, "--batch-size": 2048, "--ubatch-size": 512, "--keep": 0, "--temp": 0.8,
    "--top-k": 40, "--top-p": 0.9, "--min-p": 0.1, "--top-nsigma": -1, "--typical": 1, "--xtc-probability": 0,
    "--xtc-threshold": 0.1, "--repeat-last-n": 64, "--repeat-penalty": 1, "--dry-multiplier": 0, "--dry-base": 1.75,
    "--dry-allowed-length": 2, "--dry-penalty-last-n": -1, "--dynatemp-range": 0, "--dynatemp-exp": 1, "--mirostat": 0,
    "--mirostat-lr": 0.1, "--mirostat-ent": 5, "--yarn-orig-ctx": 0, "--yarn-ext-factor": -1, "--yarn-attn-factor": 1,
    "--yarn-beta-fast": 32, "--yarn-beta-slow": 1, "--cache-type-k": CacheType.F16, "--parallel": 1, "--mmap": True,
    "--no-cache-prompt": True, "--no-cont-batching": True, "--special": False, "--jinja": True,
    "--slot-prompt-similarity": 0.5,
    "--enable-reasoning": True, "--reasoning-in-content": False, "--reasoning-budget": -1, "--image-max-batch": 4,
    "--image-max-height": 1024, "--image-max-width": 1024, "--image-slg-scale": 0, "--image-slg-start": 0.01,
    "--image-slg-end": 0.2, "--image-slg-skip-layer": (7, 8, 9), "--image-schedule-method": Schedule.DISCRETE,
    "--image-vae-tiling": False, "--image-upscale-repeats": 1, "--image-control-strength": 0.9,
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), CONTRACT.items())
def test_defaults_are_the_contracts(model: str, name: str, expected):
    (option,) = [option for option in OPTIONS if option.name == name]
    assert at(build(model), option.setting) == expected


def test_a_flag_beats_its_variable_and_a_variable_the_default(model: str):
    environment = read_environment({"LLAMA_ARG_PORT": "1", "LLAMA_ARG_CTX_SIZE": "256", "LLAMA_API_KEY": "old"})
    settings = build_settings(environment | read_arguments(["-m", model, "--port", "2", "--api-key", "new"]))
    assert (settings.server.port, settings.engine.context.n_ctx) == (2, 256)
    assert settings.server.api_keys == ("new",)


def test_adapters_are_files_that_can_be_read(model: str, tmp_path: Path):
    adapters = build(
        model, "--lora", model, "--lora-scaled", model, "0.5",
        "--control-vector", model, "--control-vector-layer-range", "1", "7",
    ).engine.adapters  # fmt: skip
    assert adapters.loras == (Scaled(model, 1.0), Scaled(model, 0.5))
    assert (adapters.control_vectors, adapters.control_layers) == ((Scaled(model, 1.0),), (1, 7))
    missing = str(tmp_path / "missing.gguf")
    for flag, *more in (["--lora"], ["--lora-scaled", "1"], ["--control-vector"], ["--control-vector-scaled", "1"]):
        with pytest.raises(UsageError, match=rf"^{flag}: cannot read {missing}: No such file"):
            build(model, flag, missing, *more)


def test_the_layers_of_control_vectors_are_a_range(model: str):
    with pytest.raises(UsageError, match=r"^--control-vector-layer-range: 3 is behind 2$"):
        build(model, "--control-vector", model, "--control-vector-layer-range", "3", "2")
    with pytest.raises(UsageError, match=r"^--control-vector-layer-range: needs --control-vector$"):
        build(model, "--control-vector-layer-range", "1", "2")


def test_slot_files_need_a_directory(model: str, tmp_path: Path):
    assert build(model, "--slot-save-path", str(tmp_path)).server.slot_save_path == str(tmp_path)
    for path in (model, str(tmp_path / "missing")):
        with pytest.raises(UsageError, match=rf"^--slot-save-path: {path} is no directory$"):
            build(model, "--slot-save-path", path)


def test_measuring_the_rate_is_the_engines_task(model: str):
    assert build(model, "-tps", "-1").engine.measure_rate
    assert not build(model, "-tps", "5").engine.measure_rate


def test_the_batch_limits_the_ubatch(model: str):
    assert build(model, "-b", "100").engine.context.n_ubatch == 100
    with pytest.raises(UsageError, match=r"^-ub: 200 is more than the batch size 100$"):
        build(model, "-b", "100", "-ub", "200")


def test_bad_escapes_name_the_flag(model: str):
    with pytest.raises(UsageError, match=r"^-r: .*xff is not UTF-8 text$"):
        build(model, "-r", r"\xff")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\\nb", r"a\nb"),
        (r"\xc3\xa9\u00e9", "éé"),
        (r"\q\n", "\\q\n"),
        ("end\\", "end\\"),
        (r"\x4", r"\x4"),
    ],
)
def test_escapes(model: str, text: str, expected: str):
    assert build(model, "-r", text).defaults.stop == (expected,)


def test_default_threads_are_the_physical_cores_of_the_affinity_mask(tmp_path: Path, monkeypatch):
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        directory = tmp_path / f"cpu{number}" / "topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(siblings)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3}, raising=False)
    assert cores.physical_cores(tmp_path) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2})
    assert cores.physical_cores(tmp_path) == 1
    assert cores.physical_cores(tmp_path / "absent") == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "process_cpu_count", lambda: 7)
    assert cores.physical_cores(tmp_path) == 7


@pytest.mark.parametrize("name", ["absent.gguf", "."])
def test_a_model_that_cannot_be_read_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=r"^--model: cannot read "):
        build(str(tmp_path / name))


def test_option_names_are_unique():
    names = [option.name for option in OPTIONS]
    assert len(names) == len(set(names))
    assert all(isinstance(option, Option) for option in OPTIONS)
