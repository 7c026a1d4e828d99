"""Keys, certificates, templates and constraints, most of them from files."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from cli.build import build_settings
from cli.errors import UsageError
from cli.parse import read_environment
from llamabox.chat.builtin import BUILTIN_NAMES, builtin
from tests.cli.test_cli_build import at, build


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A private key's and a certificate's file."""
    issued = trustme.CA().issue_cert("localhost")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    return str(key), str(certificate)


def test_keys_come_from_a_file_too(model: str, tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("# comment\n\n one \n  # another\ntwo#2\n")
    assert build(model, "--api-key", "zero", "--api-key-file", str(file)).server.api_keys == ("zero", "one", "two#2")


@pytest.mark.parametrize("content", [None, "# nothing\n", b"\xff\xfe"])
def test_a_bad_key_file_is_refused(model: str, tmp_path: Path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError) as caught:
        build(model, "--api-key-file", str(file))
    assert str(caught.value).startswith("--api-key-file: ")
    assert str(file) in str(caught.value)


def test_tls_needs_both_files(model: str, pair: tuple[str, str]):
    key, certificate = pair
    server = build(model, "--ssl-key-file", key, "--ssl-cert-file", certificate).server
    assert (server.ssl_key_file, server.ssl_cert_file) == pair
    with pytest.raises(UsageError, match=r"^--ssl-key-file: needs --ssl-cert-file too$"):
        build(model, "--ssl-key-file", key)
    with pytest.raises(UsageError, match=r"^LLAMA_ARG_SSL_CERT_FILE \(--ssl-cert-file\): needs --ssl-key-file too$"):
        build_settings(read_environment({"LLAMA_ARG_SSL_CERT_FILE": certificate}))


def test_unusable_tls_files_are_refused(model: str, pair: tuple[str, str], tmp_path: Path):
    key, certificate = pair
    with pytest.raises(UsageError, match=r"^--ssl-key-file: cannot read .*absent"):
        build(model, "--ssl-key-file", str(tmp_path / "absent"), "--ssl-cert-file", certificate)
    with pytest.raises(UsageError, match=r"^--ssl-cert-file: .*not a usable pair"):
        build(model, "--ssl-key-file", key, "--ssl-cert-file", key)
    private = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    Path(key).write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(UsageError, match=r"^--ssl-cert-file: .*not a usable pair"):
        build(model, "--ssl-key-file", key, "--ssl-cert-file", certificate)


@pytest.mark.parametrize(
    ("option", "setting", "content"),
    [
        ("--chat-template-file", "chat.template", "\ufeff{# ours #}\n{{ messages }}"),
        ("--grammar-file", "defaults.grammar", "root ::= [é]\n"),
    ],
)
def test_texts_come_from_files(model: str, tmp_path: Path, option: str, setting: str, content: str):
    file = tmp_path / "text"
    file.write_text(content, encoding="utf-8")
    assert at(build(model, option, str(file)), setting) == content.removeprefix("\ufeff")
    other = option.removesuffix("-file")
    assert at(build(model, other, "{{x}}", option, str(file)), setting) == content.removeprefix("\ufeff")
    assert at(build(model, option, str(file), other, "{{x}}"), setting) == "{{x}}"


@pytest.mark.parametrize("option", ["--chat-template-file", "--grammar-file"])
@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe{", b"{" * (4 * 1024 * 1024 + 1)])
def test_bad_text_files_are_refused(model: str, tmp_path: Path, option: str, content: bytes | None):
    file = tmp_path / "text"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        build(model, option, str(file))
    assert str(caught.value).startswith(f"{option}: ")
    assert str(file) in str(caught.value)


def test_a_file_is_never_a_name(model: str, tmp_path: Path):
    file = tmp_path / "name"
    file.write_text("chatml", encoding="utf-8")
    assert build(model, "--chat-template-file", str(file)).chat.template == "chatml"


def test_an_unknown_template_lists_the_names(model: str):
    with pytest.raises(UsageError) as caught:
        build(model, "--chat-template", "chatmi")
    assert str(caught.value) == (
        f"--chat-template: 'chatmi' is neither Jinja text nor one of {', '.join(BUILTIN_NAMES)}"
    )


@pytest.mark.parametrize("template", ["{{ a }}\n{% for %}", "{{ a }}\n{{ a | no_such_filter }}"])
def test_a_template_that_does_not_compile_names_the_line(model: str, tmp_path: Path, template: str):
    file = tmp_path / "broken.jinja"
    file.write_text(template, encoding="utf-8")
    with pytest.raises(UsageError, match=r"^--chat-template: line 2: "):
        build(model, "--chat-template", template)
    with pytest.raises(UsageError, match=r"^--chat-template-file: line 2: "):
        build(model, "--chat-template-file", str(file))


def test_without_jinja_only_names_are_taken(model: str, tmp_path: Path):
    chat = build(model, "--no-jinja", "--chat-template", "gemma").chat
    assert (chat.template, chat.jinja) == (builtin("gemma"), False)
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages }}", encoding="utf-8")
    for arguments in (["--chat-template", "{{ messages }}"], ["--chat-template-file", str(file)]):
        with pytest.raises(UsageError, match=rf"^{arguments[0]}: with --no-jinja it must be one of bailing, "):
            build(model, *arguments, "--no-jinja")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": NaN}', "[" * 100_000, "null"])
def test_template_variables_are_a_json_object(model: str, text: str):
    with pytest.raises(UsageError, match=r"^--chat-template-kwargs: .* expected a JSON object$"):
        build(model, "--chat-template-kwargs", text)


@pytest.mark.parametrize("text", ["", "[1]", "{", "5", '"x"'])
def test_a_schema_is_a_json_object_or_boolean(model: str, text: str):
    with pytest.raises(UsageError, match=r"^-j: .* expected a JSON schema$"):
        build(model, "-j", text)


def test_one_constraint_is_enough(model: str):
    with pytest.raises(UsageError, match=r"^-j: not together with --grammar$"):
        build(model, "--grammar", "root ::= x", "-j", "{}")
