"""Options about listening, access, the model file and where it runs."""

from functools import partial
from typing import Final

from cli import forms
from cli import placement_forms as placement
from cli.kinds import FILE, POSITIVE, Form, Switch, Whole, names, on_off_auto, text
from cli.option import Option, Section
from engine.native.options import FlashAttention
from engine.text.options import KvLayout

_option = partial(Option, section=Section.SERVER)

_LISTENING = (
    _option(
        flags="--host",
        kind=names("addresses or .sock paths by comma"),
        metavar="ADDR,...",
        env="HOST",
        setting="server.hosts",
        help="addresses to listen on; one that ends in .sock is a unix socket",
    ),
    _option(
        flags="--port",
        kind=Whole(minimum=0, maximum=65535),
        metavar="N",
        env="PORT",
        setting="server.port",
        help="port to listen on; 0 = any free one, which is logged",
    ),
    _option(
        flags="-to --timeout",
        kind=POSITIVE,
        metavar="SECONDS",
        env="TIMEOUT",
        setting="server.timeout",
        help="how long a read or a write may take",
    ),
    _option(
        flags="--threads-http",
        kind=Whole(minimum=1, also=(-1,)),
        metavar="N",
        env="THREADS_HTTP",
        setting="server.prepare_threads",
        help="most workers that prepare requests (templates, schemas, images), started as needed; -1 = one a core",
    ),
    _option(
        flags="--conn-idle",
        kind=POSITIVE,
        metavar="SECONDS",
        setting="server.idle_timeout",
        help="how long a connection may be idle",
    ),
    _option(
        flags="--conn-keepalive",
        kind=POSITIVE,
        metavar="SECONDS",
        setting="server.keepalive_timeout",
        help="how long a kept-alive connection may wait for its next request",
    ),
)

_ACCESS = (
    _option(
        flags="--api-key",
        kind=names("keys by comma"),
        metavar="KEY,...",
        env="LLAMA_API_KEY",
        setting="server.api_keys",
        repeat=True,
        default="none",
        help="keys of which a request must bear one; repeatable",
    ),
    _option(
        flags="--api-key-file",
        kind=FILE,
        metavar="FILE",
        help="more keys, one a line; # begins a comment",
    ),
    _option(
        flags="--ssl-key-file",
        kind=FILE,
        metavar="FILE",
        env="SSL_KEY_FILE",
        setting="server.ssl_key_file",
        help="private key in PEM form; needs --ssl-cert-file",
    ),
    _option(
        flags="--ssl-cert-file",
        kind=FILE,
        metavar="FILE",
        env="SSL_CERT_FILE",
        setting="server.ssl_cert_file",
        help="certificate in PEM form; needs --ssl-key-file",
    ),
    _option(
        flags="--cors-origins",
        kind=Form("* or origins (scheme://host[:port]) by comma", forms.origins),
        metavar="ORIGIN,...",
        setting="server.cors_origins",
        default="none",
        help="origins whose pages may call the server",
    ),
    _option(
        flags="--allow-private-urls",
        setting="media.allow_private_urls",
        help="fetch images from private, loopback and link-local addresses too",
    ),
    _option(
        flags="--media-path",
        kind=FILE,
        metavar="DIR",
        setting="media.directory",
        default="none",
        help="directory below which file: URLs may point",
    ),
)

_ROUTES = (
    _option(
        flags="--ui --webui",
        off="--no-ui --no-webui",
        env="UI WEBUI",
        setting="server.ui",
        help="serve the page at /: chat, images and the server's figures in a browser",
    ),
    _option(
        flags="--metrics",
        env="METRICS ENDPOINT_METRICS",
        setting="server.metrics",
        help="serve GET /metrics",
    ),
    _option(flags="--slots", env="SLOTS", setting="server.slots", help="serve GET /slots"),
    _option(flags="--infill", setting="server.infill", help="serve POST /infill"),
    _option(
        flags="--embeddings --embedding",
        env="EMBEDDINGS",
        setting="engine.embedding.embeddings",
        help="serve POST /v1/embeddings",
    ),
    _option(
        flags="--images",
        setting="images.enabled",
        help="serve POST /v1/images/...: the model of --model makes images, or that of --image-model beside it",
    ),
    _option(
        flags="--rerank --reranking",
        setting="engine.embedding.rerank",
        help="serve POST /v1/rerank; implies --embeddings with rank pooling",
    ),
)

_MODEL = (
    _option(
        flags="-m --model",
        kind=FILE,
        metavar="FILE",
        env="MODEL",
        setting="engine.model.path",
        default="the demo model, where it is installed",
        help="GGUF file, or the first part of a split one; with --images GGUF or safetensors",
    ),
    _option(
        flags="-a --alias",
        kind=names("names by comma"),
        metavar="NAME,...",
        env="MODEL_ALIAS ALIAS",
        setting="server.aliases",
        default="the model file's name",
        help="model ids",
    ),
    _option(
        flags="-mu --model-url",
        kind=Form("an http or https URL, with #sha256=... behind it if that is to be checked", forms.model_url),
        metavar="URL",
        env="MODEL_URL",
        setting="source.url",
        default="none",
        help="fetch the model from there, once; goes on where an earlier start broke off. #sha256=HEX: check it",
    ),
    _option(
        flags="-hfr --hf-repo",
        kind=Form("USER/MODEL or USER/MODEL:QUANT", forms.hub_name),
        metavar="USER/MODEL[:QUANT]",
        env="HF_REPO",
        setting="source.hf_repo",
        default="none",
        help="fetch the model from Hugging Face (HF_ENDPOINT), once; without QUANT Q4_K_M, else Q8_0, else the first",
    ),
    _option(
        flags="-hff --hf-file",
        kind=FILE,
        metavar="FILE",
        env="HF_FILE",
        setting="source.hf_file",
        default="by quantisation",
        help="file of that repository, the first one of a split model",
    ),
    _option(
        flags="-hft --hf-token",
        kind=text("a token"),
        metavar="TOKEN",
        env="HF_TOKEN",
        setting="source.hf_token",
        default="that of the Hugging Face login, if any",
        help="token for gated and private repositories",
    ),
    _option(
        flags="--lora",
        kind=forms.ADAPTER,
        metavar="FILE",
        setting="engine.adapters.loras",
        repeat=True,
        default="none",
        help="load a LoRA; repeatable. Its id is its place among --lora and --lora-scaled, from 0",
    ),
    _option(
        flags="--lora-scaled",
        kind=forms.SCALED_ADAPTER,
        metavar="FILE SCALE",
        setting="engine.adapters.loras",
        repeat=True,
        default="none",
        help="load a LoRA, to be applied with this scale; repeatable",
    ),
    _option(
        off="--lora-init-without-apply",
        setting="engine.adapters.apply_loras",
        default="applied",
        help="begin with all LoRA scales 0, and serve POST /lora-adapters, which changes them",
    ),
)

_PLACEMENT = (
    _option(
        flags="-s --seed",
        kind=Whole(minimum=-1, maximum=2**32 - 1, none=-1),
        metavar="N",
        setting="defaults.sampling.seed",
        default="-1",
        help="seed of the requests that name none, of images too; -1 = random",
    ),
    _option(
        flags="-fa --flash-attn",
        kind=on_off_auto(FlashAttention.ON, FlashAttention.OFF, FlashAttention.AUTO),
        metavar="[on|off|auto]",
        if_alone="on",
        env="FLASH_ATTN",
        setting="engine.context.flash_attention",
        help="flash attention; of an image model only with on",
    ),
    _option(
        off="--no-flash-attn",
        kind=Switch(off=FlashAttention.OFF),
        setting="engine.context.flash_attention",
        help="the same as --flash-attn off",
    ),
    _option(
        flags="--swa-full",
        env="SWA_FULL",
        setting="engine.context.swa_full",
        help="full-size cache for sliding-window models: more memory, prompts reusable",
    ),
    _option(
        flags="-kvu --kv-unified",
        kind=Switch(on=KvLayout.UNIFIED, off=KvLayout.STREAMS),
        env="KV_UNIFIED",
        setting="engine.kv_layout",
        default="auto",
        help="one KV cache for all slots, of which each may use the whole context instead of its share",
    ),
    _option(
        off="-no-kvu --no-kv-unified",
        kind=Switch(off=KvLayout.STREAMS),
        setting="engine.kv_layout",
        help="a KV cache for each slot: long conversations can decode faster, prompts beside others are slower",
    ),
    _option(
        flags="-ngl --gpu-layers --n-gpu-layers",
        kind=Whole(minimum=-1),
        metavar="N",
        env="N_GPU_LAYERS",
        setting="engine.model.n_gpu_layers",
        help="layers to place on devices; -1 = all that fit, 0 = none",
    ),
    _option(
        flags="-ts --tensor-split",
        kind=Form("numbers by , or /, none negative, not all zero", forms.tensor_split),
        metavar="N,...",
        setting="engine.model.tensor_split",
        default="even",
        help="share of the model that each device gets; the one that is not 0 is the device of an image model",
    ),
    _option(
        flags="--warmup",
        off="--no-warmup",
        setting="engine.warmup",
        help="one empty run before the server is ready; of an image model only where this is given",
    ),
    _option(
        flags="--rpc",
        kind=Form("HOST:PORT by comma", placement.endpoints),
        metavar="HOST:PORT,...",
        env="RPC",
        setting="engine.model.rpc_servers",
        default="none",
        help="devices of other machines, each served by llama-box --rpc-server-port (with --images for images) or "
        "llama.cpp's rpc-server",
    ),
    _option(
        flags="-ot --override-tensor",
        kind=Form("PATTERN=BUFFER_TYPE by comma, PATTERN an ECMAScript regular expression", placement.overrides),
        metavar="PATTERN=TYPE,...",
        setting="engine.model.tensor_overrides",
        repeat=True,
        default="none",
        help="place tensors whose name matches in a buffer type (see --list-buffer-types); the first match counts",
    ),
    _option(
        flags="-otd --override-tensor-draft",
        kind=Form("PATTERN=BUFFER_TYPE by comma, PATTERN an ECMAScript regular expression", placement.overrides),
        metavar="PATTERN=TYPE,...",
        setting="engine.speculation.model.tensor_overrides",
        repeat=True,
        default="none",
        help="the same for the draft model",
    ),
)

SERVER: Final = (*_LISTENING, *_ACCESS, *_ROUTES, *_MODEL, *_PLACEMENT)
