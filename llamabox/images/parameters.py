"""How a picture was made, in the form that stable-diffusion web UIs write and read."""

from typing import Final

from engine.native.sd.image import ImageParams
from engine.native.sd.options import Sampler

SAMPLER_NAMES: Final = {
    Sampler.EULER: "Euler",
    Sampler.EULER_A: "Euler a",
    Sampler.HEUN: "Heun",
    Sampler.DPM2: "DPM2",
    Sampler.DPMPP2S_A: "DPM++ 2S a",
    Sampler.DPMPP2M: "DPM++ 2M",
    Sampler.DPMPP2MV2: "DPM++ 2M v2",
    Sampler.IPNDM: "iPNDM",
    Sampler.IPNDM_V: "iPNDM_v",
    Sampler.LCM: "LCM",
    Sampler.DDIM_TRAILING: "DDIM trailing",
    Sampler.TCD: "TCD",
}


def parameters_text(params: ImageParams, seed: int, model: str) -> str:
    """Prompt, negative prompt and one line of settings."""
    lines = [params.prompt]
    if params.negative_prompt:
        lines.append(f"Negative prompt: {params.negative_prompt}")
    settings = {
        "Steps": params.steps,
        "CFG scale": _number(params.cfg_scale),
        "Guidance": _number(params.guidance),
        "Seed": seed,
        "Size": f"{params.width}x{params.height}",
        "Model": _quoted(model),
        "Sampler": SAMPLER_NAMES[params.sampler],
    }
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:g}"


def _quoted(text: str) -> str:
    """Web UIs cut the line at commas and colons outside quotes."""
    if any(char in text for char in ',:"\n'):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return text
