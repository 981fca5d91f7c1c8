"""HTTP as the kubelet and a first user do it: probes, and the sample prompts."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Final

#: Of the loopback only: no proxy of the environment may stand in between.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_PROBE_TIMEOUT_S: Final = 3.0
_ANSWER_TIMEOUT_S: Final = 120.0


def answers(port: int, path: str) -> bool:
    """Whether a probe of the management port succeeds."""
    try:
        with _OPENER.open(f"http://127.0.0.1:{port}{path}", timeout=_PROBE_TIMEOUT_S):
            return True
    except (OSError, ValueError):
        return False


def body_of(prompt: str) -> str:
    """The JSON body of a greedy request for ``prompt``: its answer is the same every time."""
    return json.dumps({"text": prompt, "topk": 1, "min_gen_length": 1, "out_seq_length": 64}, ensure_ascii=False)


def generate(url: str, prompt: str) -> str:
    """The answer of `/generate` to one prompt, or what went wrong, in words."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/generate", body_of(prompt).encode(), headers)  # noqa: S310 -- our own URL
    try:
        with _OPENER.open(request, timeout=_ANSWER_TIMEOUT_S) as response:
            return "\n".join(json.load(response)["text"])
    except urllib.error.HTTPError as error:
        return f"refused ({error.code}): {error.read(2000).decode(errors='replace')}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"no answer: {error}"


def curl(url: str, prompt: str) -> str:
    """A line to copy into a shell."""
    quoted = body_of(prompt).replace("'", "'\\''")
    return f"curl -s {url}/generate -H 'Content-Type: application/json' -d '{quoted}'"
