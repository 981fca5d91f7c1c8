"""The Kubernetes API: the only module that calls it, by the official client's dynamic half.

Every write of an object is a server-side apply under one field manager, so that repeating one does nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import urllib3
from kubernetes import client, config, dynamic
from kubernetes.dynamic import exceptions as errors

from glm_operator import names
from glm_operator.condition import Note
from glm_operator.errors import OperatorError

#: Seconds to connect and to wait for an answer.
_TIMEOUT: Final = (10, 30)
#: The same for a log, which is asked of a node that may be away.
_LOG_TIMEOUT: Final = (5, 5)
_PAGE: Final = 500
#: API version and plural of each kind.
_KINDS: Final = {
    **names.KINDS,
    "Event": ("v1", "events"),
    "Node": ("v1", "nodes"),
    "StorageClass": ("storage.k8s.io/v1", "storageclasses"),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "MutatingWebhookConfiguration": ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"),
    "ValidatingWebhookConfiguration": ("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations"),
}
_CLUSTER_WIDE: Final = frozenset(
    {"Node", "StorageClass", "CustomResourceDefinition"}
    | {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
)


#: Parts of the client that carry no types.
_CONFIG: Final[Any] = config
_DYNAMIC: Final[Any] = dynamic


class ClusterError(OperatorError):
    """The API server refused, or did not answer. ``status`` : of HTTP, 0 without an answer."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)

    @property
    def namespace_ends(self) -> bool:
        """Whether the namespace is being deleted, so that nothing can be made in it any more."""
        return self.status == 403 and "because it is being terminated" in str(self)


class Cluster:
    """A connection to the API server.

    context : of the kubeconfig; without one the pod's own account is used, else the kubeconfig's current context.
    counted : is told verb and kind of each request, for metrics and tests. Raises ``ClusterError`` on every call.
    """

    def __init__(self, context: str | None = None, counted: Callable[[str, str], None] | None = None) -> None:
        self._counted = counted or (lambda _verb, _kind: None)
        try:
            if context is None and "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
                _CONFIG.load_incluster_config()
            else:
                _CONFIG.load_kube_config(context=context)
        except config.ConfigException as error:
            raise ClusterError(0, f"no cluster is configured: {error}; set KUBECONFIG or --context") from error
        settings = client.Configuration.get_default_copy()
        settings.connection_pool_maxsize = 16
        settings.retries = 0
        self._client = client.ApiClient(settings)
        self._dynamic = _DYNAMIC.DynamicClient(self._client, discoverer=lambda _client, _file: None)

    def list_all(self, kind: str, namespace: str | None = None, selector: str = "") -> tuple[list[dict[str, Any]], int]:
        """All objects of a kind, in all namespaces without one, and the version that the list is of."""
        items: list[dict[str, Any]] = []
        more: str | None = None
        while True:
            answer = self._call(
                "list", kind, namespace=namespace, label_selector=selector or None, limit=_PAGE, _continue=more
            )
            items += answer["items"]
            more = answer["metadata"].get("continue")
            if not more:
                return items, int(answer["metadata"]["resourceVersion"])

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None."""
        found: dict[str, Any] | None = self._call("get", kind, namespace=namespace, name=name, absent_ok=True)
        return found

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Apply an object; returns it as it is then."""
        meta = body["metadata"]
        return self._apply("apply", body["kind"], meta["namespace"], body)

    def apply_status(self, resource: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        """Write the status of a GLMDeployment; refused where the resource has been made anew since."""
        meta = {key: resource["metadata"][key] for key in ("name", "namespace", "uid")}
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": meta, "status": status}
        return self._apply("apply", names.KIND, meta["namespace"], body, subresource="status")

    def delete(self, body: Mapping[str, Any]) -> None:
        """Delete an object and what it owns; one that is gone, or was made anew since, is left alone."""
        meta = body["metadata"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": meta["uid"]},
        }
        self._call("delete", body["kind"], namespace=meta["namespace"], name=meta["name"], body=options, absent_ok=True)

    def log_tail(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """The last lines of a container's log; empty where there is none yet."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        query = [("container", container), ("tailLines", str(lines))]
        self._counted("get", "pods/log")
        try:
            answer = self._dynamic.request(
                "get", path, query_params=query, serialize=False, _request_timeout=_LOG_TIMEOUT
            )
        except (errors.NotFoundError, errors.BadRequestError):
            return ""
        except (errors.DynamicApiError, client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise _translated(error) from error
        return str(answer.data.decode(errors="replace"))

    def record(self, resource: Mapping[str, Any], note: Note) -> None:
        """Record an event at a resource."""
        meta = resource["metadata"]
        now = datetime.now(UTC)
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
            "type": note.type,
            "reason": note.reason,
            "message": note.message[:1000],
            "source": {"component": names.MANAGER},
            "reportingComponent": names.MANAGER,
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "count": 1,
        }
        self._call("create", "Event", namespace=meta["namespace"], body=body)

    def events(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Events of a namespace by a field selector."""
        return list(self._call("list", "Event", namespace=namespace, field_selector=selector)["items"])

    def listed(self, kind: str, labels: str | None = None, fields: str | None = None) -> list[dict[str, Any]]:
        """All objects of a kind by selectors, in a single request."""
        return list(self._call("list", kind, label_selector=labels, field_selector=fields)["items"])

    def version(self) -> str:
        """Version of the API server."""
        try:
            answer = self._dynamic.request("get", "/version", serialize=False, _request_timeout=_TIMEOUT)
        except (errors.DynamicApiError, client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise _translated(error) from error
        return str(json.loads(answer.data)["gitVersion"])

    def through(self, path: str, body: Any = None, timeout_s: float = 300.0) -> str:
        """The answer of a pod or Service through the API server's proxy; ``path`` begins with its kind.

        A ``body`` is posted as JSON.
        """
        verb = "get" if body is None else "post"
        options: dict[str, Any] = {"header_params": {"Accept": "*/*"}, "_request_timeout": (_TIMEOUT[0], timeout_s)}
        try:
            answer = self._dynamic.request(verb, f"/api/v1/namespaces/{path}", body=body, serialize=False, **options)
        except (errors.DynamicApiError, client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise _translated(error) from error
        return str(answer.data.decode(errors="replace"))

    def follow_log(self, namespace: str, pod: str, container: str) -> Iterator[str]:
        """The lines of a container's log, as they come."""
        api: Any = client.CoreV1Api(self._client)
        try:
            stream = api.read_namespaced_pod_log(
                pod, namespace, container=container, follow=True, _preload_content=False
            )
            for chunk in stream.stream():
                yield chunk.decode(errors="replace")
        except (client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise _translated(error) from error

    def _apply(
        self, verb: str, kind: str, namespace: str, body: Mapping[str, Any], subresource: str | None = None
    ) -> dict[str, Any]:
        api = self._api(kind)
        target = api.subresources[subresource] if subresource else api
        name = body["metadata"]["name"]
        call = lambda: target.server_side_apply(  # noqa: E731 -- one expression, called at once
            body=dict(body),
            name=name,
            namespace=namespace,
            field_manager=names.MANAGER,
            force_conflicts=True,
            serialize=False,
            _request_timeout=_TIMEOUT,
        )
        return self._run(verb, f"{kind}/{subresource}" if subresource else kind, call) or {}

    def _call(self, verb: str, kind: str, *, absent_ok: bool = False, **options: Any) -> Any:
        api = self._api(kind)
        method = getattr(api, "get" if verb == "list" else verb)
        chosen = {key: value for key, value in options.items() if value is not None}
        call = lambda: method(serialize=False, _request_timeout=_TIMEOUT, **chosen)  # noqa: E731 -- called at once
        return self._run(verb, kind, call, absent_ok=absent_ok)

    def _run(self, verb: str, kind: str, call: Callable[[], Any], *, absent_ok: bool = False) -> Any:
        self._counted(verb, kind)
        try:
            return json.loads(call().data)
        except errors.NotFoundError as error:
            if absent_ok:
                return None
            raise _translated(error) from error
        except errors.ConflictError as error:
            if verb == "delete":  # another object of the same name has come
                return None
            raise _translated(error) from error
        except (errors.DynamicApiError, client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise _translated(error) from error

    def _api(self, kind: str) -> Any:
        """The kind's resource, spelled out here: discovery would cost requests and a file in a shared folder."""
        version, plural = _KINDS[kind]
        group, _, number = version.rpartition("/")
        return _DYNAMIC.Resource(
            prefix="apis" if group else "api",
            group=group,
            api_version=number,
            kind=kind,
            namespaced=kind not in _CLUSTER_WIDE,
            name=plural,
            client=self._dynamic,
            subresources={"status": {"kind": kind, "name": f"{plural}/status", "namespaced": True}},
        )


def default_namespace(context: str | None) -> str:
    """The namespace that the kubeconfig's context names."""
    try:
        contexts, current = _CONFIG.list_kube_config_contexts()
    except config.ConfigException:
        return "default"
    chosen = next((c for c in contexts if c["name"] == context), current) if context else current
    return str(chosen["context"].get("namespace") or "default")


def _translated(error: Exception) -> ClusterError:
    if isinstance(error, urllib3.exceptions.HTTPError):
        return ClusterError(0, f"the API server does not answer: {error}")
    status = int(getattr(error, "status", 0) or 0)
    body = getattr(error, "body", None)
    try:
        message = json.loads(body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = str(getattr(error, "reason", None) or error)
    return ClusterError(status, f"the API server answers {status}: {message}")
