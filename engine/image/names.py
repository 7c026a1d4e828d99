"""What users call samplers and schedules, on the command line and in requests."""

from typing import Final

from engine.native.sd.options import Sampler, Schedule

SAMPLERS: Final = {
    "euler_a": Sampler.EULER_A,
    "euler": Sampler.EULER,
    "heun": Sampler.HEUN,
    "dpm2": Sampler.DPM2,
    "dpm++2s_a": Sampler.DPMPP2S_A,
    "dpm++2m": Sampler.DPMPP2M,
    "dpm++2mv2": Sampler.DPMPP2MV2,
    "ipndm": Sampler.IPNDM,
    "ipndm_v": Sampler.IPNDM_V,
    "lcm": Sampler.LCM,
    "ddim_trailing": Sampler.DDIM_TRAILING,
    "tcd": Sampler.TCD,
}
SCHEDULES: Final = {
    "default": Schedule.DEFAULT,
    "discrete": Schedule.DISCRETE,
    "karras": Schedule.KARRAS,
    "exponential": Schedule.EXPONENTIAL,
    "ays": Schedule.AYS,
    "gits": Schedule.GITS,
}
