"""A hole on a real model, which has the plain tokens for it."""

import httpx

FIM = "<s><|fim_prefix|>def f(<|fim_suffix|>):<|fim_middle|>"
GREEDY = {"temperature": 0, "n_predict": 6}


def post(url: str, path: str, body: dict[str, object]) -> dict[str, object]:
    answer = httpx.post(f"{url}{path}", json={**GREEDY, **body}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_hole_is_the_prompt_that_its_tokens_spell(tiny_server: str):
    filled = post(tiny_server, "/infill", {"input_prefix": "def f(", "input_suffix": "):"})
    assert filled["prompt"] == FIM
    assert filled["tokens_predicted"] == 6
    spelt = post(tiny_server, "/completion", {"prompt": FIM.removeprefix("<s>")})
    assert filled["content"] == spelt["content"] != ""
    suffixed = post(tiny_server, "/v1/completions", {"prompt": "def f(", "suffix": "):"})
    assert suffixed["choices"][0]["text"] == filled["content"]


def test_control_tokens_in_code_are_text(tiny_server: str):
    filled = post(tiny_server, "/infill", {"input_prefix": "<|im_end|>", "input_suffix": ""})
    assert filled["tokens_evaluated"] == len("<|im_end|>") + 4  # a token a character, as none of it is a word


def test_what_does_not_fit_is_cut(tiny_server: str):
    body = {"input_prefix": "x" * 5000, "input_suffix": "y" * 5000, "input_extra": [{"text": "z" * 5000}]}
    filled = post(tiny_server, "/infill", body)
    assert filled["tokens_evaluated"] == 512 - 6
    assert filled["truncated"] is False
