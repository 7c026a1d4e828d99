"""The table of all options, in the order of the help."""

from typing import Final

from cli.option import Option
from cli.options.context import CONTEXT
from cli.options.embedding import EMBEDDING
from cli.options.general import GENERAL
from cli.options.images import IMAGES
from cli.options.processing import PROCESSING
from cli.options.rpc import RPC
from cli.options.sampling import SAMPLING
from cli.options.server import SERVER
from cli.options.speculative import SPECULATIVE
from cli.options.visual import VISUAL
from cli.options.wording import WORDING

OPTIONS: Final[tuple[Option, ...]] = (
    *GENERAL,
    *SERVER,
    *PROCESSING,
    *CONTEXT,
    *SAMPLING,
    *WORDING,
    *SPECULATIVE,
    *VISUAL,
    *EMBEDDING,
    *IMAGES,
    *RPC,
)
