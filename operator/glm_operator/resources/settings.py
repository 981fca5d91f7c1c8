"""What the operator's installation decides, and what differs between a cluster and one machine."""

from __future__ import annotations

from dataclasses import dataclass

from glm_operator import names


@dataclass(frozen=True)
class Settings:
    """Settings of the rendering.

    image : of the server, where the resource names none.
    host, api_port, management_port : where the server listens; one machine takes free ports of the loopback.
    """

    image: str = "glm-server:0.1.0"
    host: str = "0.0.0.0"  # noqa: S104 -- in a pod the Service and the kubelet come from outside
    api_port: int = names.API_PORT
    management_port: int = names.MANAGEMENT_PORT
