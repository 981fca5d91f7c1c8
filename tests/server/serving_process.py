"""A whole `glm serve` over the fake engine, as a process: run by tests with one JSON argument.

{"config": {...}, "faults": {...}, "length": tokens of an answer (null: never ends by itself), "load_s": seconds}
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from glm_engine.artifact import Artifact
from glm_engine.fake import FakeEngine, Faults
from glm_server.config import ServerConfig
from glm_server.logs import set_up_logs
from glm_server.run import serve


def main() -> int:
    settings: dict[str, Any] = json.loads(sys.argv[1])

    def load(config: ServerConfig, artifact: Artifact) -> FakeEngine:
        time.sleep(settings.get("load_s", 0))
        length, eop = settings.get("length"), artifact.model.special_ids["eop"]
        return FakeEngine(
            artifact.model,
            max_batch_size=config.max_batch_size,
            max_waiting=config.waiting_limit,
            answer=lambda request, index, tokens: eop if length is not None and len(tokens) >= length else 9,
            faults=Faults(**settings.get("faults", {})),
        )

    set_up_logs("json", "info")
    config = ServerConfig(port=0, management_port=0, **settings["config"])
    return serve(config, load, lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())
