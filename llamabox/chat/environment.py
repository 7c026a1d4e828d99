"""The Jinja environment for untrusted templates: sandboxed, and every step and every text counted.

Jinja's sandbox keeps templates away from Python's internals, but stops neither endless loops nor texts of
gigabytes. Here loops, macros, calls and filters report to a budget before they work.
"""

import re
import types
from collections.abc import Callable, Sized
from typing import Any, Final

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter
from jinja2.utils import pass_context

from llamabox.chat.budget import Budget, Limits
from llamabox.chat.errors import TemplateLimitError
from llamabox.chat.functions import from_json, raise_exception, strftime_now, to_json

MAX_NUMBER: Final = 1_000_000  # widths, counts and other numbers given to methods and filters
MAX_BITS: Final = 4096  # of an integer

# No chat template needs them, and each is one more way to make much of little.
_REMOVED_FILTERS: Final = ("filesizeformat", "pprint", "random", "urlize", "wordwrap", "xmlattr")
_STRINGIFYING: Final = frozenset({"string", "format", "join", "tojson", "urlencode", "escape", "e", "replace"})
_WIDE_PERCENT: Final = re.compile(r"%[^%a-zA-Z]*(\*|\d{5})")
_WIDE_SPEC: Final = re.compile(r"\d{5}")

# Compiling evaluates filters of constants; that is little work, or the template is at fault.
_COMPILE_LIMITS: Final = Limits(steps=100_000, chars=4 * 1024 * 1024)


class GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}`` marks what a model wrote, for training; here its body just renders."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own shape)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Formatter(SandboxedFormatter):
    """``str.format`` with narrow fields."""

    def __init__(self, env: "ChatEnvironment") -> None:
        super().__init__(env)
        self._budget_of = env

    def format_field(self, value: Any, format_spec: str) -> Any:
        if _WIDE_SPEC.search(format_spec):
            raise TemplateLimitError(f"format: the field {format_spec[:40]!r} is too wide")
        self._budget_of.budget.weigh(value)
        return super().format_field(value, format_spec)


class ChatEnvironment(SandboxedEnvironment):
    """An environment for one template at a time: give it a fresh ``budget`` before each rendering."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # constant folding would evaluate bombs while compiling
            extensions=[loopcontrols, GenerationTag],
            finalize=_count_output,
        )
        self.budget = Budget(_COMPILE_LIMITS)
        # One object each, so that ``call`` can tell them from what a template calls.
        self.charge: Callable[[int], bool] = self._charge
        self.concat_guarded: Callable[..., str] = self._concat
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = to_json
        self.filters["from_json"] = from_json
        self.filters = {name: self._counted(name, function) for name, function in self.filters.items()}
        del self.globals["lipsum"]
        self.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)

    def start(self, limits: Limits) -> None:
        """Begin one rendering."""
        self.budget = Budget(limits)

    # What generated code calls.

    def _charge(self, chars: int) -> bool:
        self.budget.step(chars)
        return True

    def _concat(self, *values: Any) -> str:
        for value in values:
            self.budget.weigh(value)
        return "".join(map(str, values))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        # Double underscores as in Jinja: keyword arguments of the template may have any name.
        if __obj is __self.charge or __obj is __self.concat_guarded:
            return __obj(*args)
        __self.budget.step()
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, types.BuiltinMethodType) and owner is not None:
            args = __self._check_method(owner, __obj.__name__, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is str and type(right) is str:  # nearly all that templates do
            self.budget.step(len(left) + len(right))
            return left + right
        match operator:
            case "+" if isinstance(left, str | list | tuple) and isinstance(right, Sized):
                self.budget.step(len(left) + len(right))
            case "*":
                self._check_product(left, right)
            case "**":
                self._check_power(left, right)
            case "%" if isinstance(left, str):
                self._check_percent(left, right)
            case _:
                self.budget.step()
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` and ``str.format_map`` with counted fields."""
        if super().wrap_str_format(value) is None:
            return None
        text: str = value.__self__
        formatter = _Formatter(self)
        if value.__name__ == "format_map":
            return lambda mapping: formatter.vformat(text, (), mapping)
        return lambda *args, **kwargs: formatter.vformat(text, args, kwargs)

    def _check_product(self, left: Any, right: Any) -> None:
        numbers = isinstance(left, int) and isinstance(right, int)
        if numbers and left.bit_length() + right.bit_length() > MAX_BITS:
            raise TemplateLimitError("a product is too large")
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, str | list | tuple) and isinstance(count, int):
                self.budget.spend(len(sequence) * max(count, 0))
        self.budget.step()

    def _check_power(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int) and abs(right) * max(left.bit_length(), 1) > MAX_BITS:
            raise TemplateLimitError("a power is too large")
        self.budget.step()

    def _check_percent(self, pattern: str, values: Any) -> None:
        if _WIDE_PERCENT.search(pattern):
            raise TemplateLimitError("a % format has too wide a field")
        self.budget.step(len(pattern))
        # One value may be named by several fields.
        for _ in range(max(pattern.count("%"), 1)):
            self.budget.weigh(values)

    def _check_numbers(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Numbers given to a filter or method are widths and counts; what they ask for is counted."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, int):
                if abs(value) > MAX_NUMBER:
                    raise TemplateLimitError(f"a number is larger than {MAX_NUMBER}")
                self.budget.spend(abs(value))

    def _check_method(self, owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if isinstance(owner, str):
            self._check_numbers(args, kwargs)
            self.budget.spend(len(owner))
            if name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
                self.budget.spend(owner.count(args[0]) * len(args[1]))
            elif name == "join" and args:
                args = (list(args[0]),)
                self.budget.weigh(args[0])
                self.budget.spend(len(owner) * len(args[0]))
            elif name in ("translate", "expandtabs"):
                raise TemplateLimitError(f"str.{name} is not available")
        elif isinstance(owner, list):
            if args and isinstance(args[0], Sized):
                self.budget.spend(len(args[0]))
        elif isinstance(owner, int | bytes):
            raise TemplateLimitError(f"{type(owner).__name__}.{name} is not available")
        return args

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as a filter that reports to the budget first."""
        passed = getattr(function, "jinja_pass_arg", None)
        position = 0 if passed is None else 1

        def counted(*args: Any, **kwargs: Any) -> Any:
            value, rest = args[position], args[position + 1 :]
            self.budget.step(len(value) if isinstance(value, str) else 0)
            if name != "tojson":  # its indent has a limit of its own
                self._check_numbers(rest, kwargs)
            self._check_filter(name, value, rest, kwargs)
            return function(*args, **kwargs)

        if passed is not None:
            counted.jinja_pass_arg = passed  # type: ignore[attr-defined]
        return counted

    def _check_filter(self, name: str, value: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name == "round" and any(isinstance(item, int) and abs(item) > 64 for item in (*rest, *kwargs.values())):
            raise TemplateLimitError("round: too many digits")
        if name == "sum" and any(isinstance(item, list | tuple) for item in (*rest, *kwargs.values())):
            raise TemplateLimitError("sum: only numbers can be added up")
        if name == "format":
            self._check_percent(str(value), [*rest, *kwargs.values()])
        elif name in _STRINGIFYING:
            self.budget.weigh(value)
        if name == "replace" and len(rest) > 1:
            text, old, new = str(value), str(rest[0]), str(rest[1])
            self.budget.spend(text.count(old) * len(new))
        elif name in ("join", "indent") and isinstance(value, Sized):
            for item in (*rest, *kwargs.values()):
                if isinstance(item, str):
                    self.budget.spend(len(item) * len(value))
        elif name == "indent":
            self.budget.step()

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _instrument(tree)
        tree.set_environment(self)  # the new nodes have none yet
        return tree


def _text_length(body: list[nodes.Node]) -> int:
    """Characters of literal text directly in ``body``, nested loops and macros not counted."""
    total = 0
    for node in body:
        if isinstance(node, nodes.TemplateData):
            total += len(node.data)
        elif not isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
            total += _text_length(list(node.iter_child_nodes()))
    return total


def _charge_call(chars: int, lineno: int) -> nodes.Expr:
    call = nodes.Call(nodes.EnvironmentAttribute("charge"), [nodes.Const(chars)], [], None, None)
    call.set_lineno(lineno)
    return call


def _instrument(tree: nodes.Template) -> None:
    """Let each loop round, macro call and ``~`` report to the budget."""
    looping: list[nodes.For | nodes.Macro | nodes.CallBlock] = []
    for kind in (nodes.For, nodes.Macro, nodes.CallBlock):
        looping.extend(tree.find_all(kind))
    for node in looping:
        body = node.body
        body.insert(0, nodes.ExprStmt(_charge_call(_text_length(body), node.lineno)).set_lineno(node.lineno))
        if isinstance(node, nodes.For) and node.test is not None:
            # Rounds that the test skips count too.
            node.test = nodes.And(_charge_call(0, node.lineno), node.test, lineno=node.lineno)
    _replace_concats(tree)


def _replace_concats(node: nodes.Node) -> None:
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, field, _without_concat(value))
        elif isinstance(value, list):
            value[:] = [_without_concat(item) if isinstance(item, nodes.Node) else item for item in value]


def _without_concat(node: nodes.Node) -> nodes.Node:
    _replace_concats(node)
    if isinstance(node, nodes.Concat):
        guarded = nodes.EnvironmentAttribute("concat_guarded")
        return nodes.Call(guarded, node.nodes, [], None, None).set_lineno(node.lineno)
    return node


@pass_context
def _count_output(context: Context, value: Any) -> Any:
    """Counts what ``{{ … }}`` writes. Takes the context so that Jinja does not evaluate it while compiling."""
    environment = context.environment
    if isinstance(environment, ChatEnvironment) and not isinstance(value, Undefined):
        environment.budget.weigh(value)
    return value
