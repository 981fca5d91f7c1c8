"""Every Kubernetes string of the project: group, labels, annotations, names of children, paths in the containers.

Nothing else spells one. The length limits are derived from what is appended, so that no child's name can be too long.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "serving.glm.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "GLMDeployment"
PLURAL: Final = "glmdeployments"
SINGULAR: Final = "glmdeployment"
SHORT_NAME: Final = "glmd"
CRD_NAME: Final = f"{PLURAL}.{GROUP}"

#: The one field manager of server-side apply, and the value of the managed-by label.
MANAGER: Final = "glm-operator"

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
APP: Final = "glm-server"
#: Pods of conversion jobs; another name, so that no Service sends them requests.
APP_CONVERT: Final = "glm-convert"
#: Label selector of all objects that the operator manages.
MANAGED: Final = f"{LABEL_MANAGED_BY}={MANAGER}"

#: API version and plural of each kind of child, in the order in which children are made.
CHILD_KINDS: Final = {
    "ServiceAccount": ("v1", "serviceaccounts"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "ConfigMap": ("v1", "configmaps"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Service": ("v1", "services"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Job": ("batch/v1", "jobs"),
    "Deployment": ("apps/v1", "deployments"),
}
#: The same of all kinds that are watched: pods are children of children.
KINDS: Final = {KIND: (API_VERSION, PLURAL), "Pod": ("v1", "pods"), **CHILD_KINDS}

#: Prompts that `glmctl up` sends once the model is ready: a YAML list of texts.
ANNOTATION_SAMPLE_PROMPTS: Final = f"{GROUP}/sample-prompts"
#: Folders that stand for claims when the resource runs on one machine: a YAML mapping of claim to folder.
ANNOTATION_LOCAL_VOLUMES: Final = f"{GROUP}/local-volumes"
#: Hash of the mounted model description, on the pod template: a changed description is a new rollout.
ANNOTATION_MODEL_HASH: Final = f"{GROUP}/model-hash"

#: On the pod template: what artifact the pods need, so that another one is converted before the pods are replaced.
ANNOTATION_ARTIFACT: Final = f"{GROUP}/artifact"
#: On the pod template: hash of the template as rendered, by which the status tells old pods from new ones.
ANNOTATION_TEMPLATE: Final = f"{GROUP}/template"
#: On the Deployment: hash of what the template was rendered from, and the template itself. As long as the hash is the
#: same the template is kept as it is, so that an upgrade of the operator, which may render it otherwise, moves no pod.
ANNOTATION_SPEC_HASH: Final = f"{GROUP}/spec-hash"
ANNOTATION_RENDERED: Final = f"{GROUP}/rendered-template"
#: On the resource, any text: a change of it renders the pods anew, with all that a newer operator does differently.
ANNOTATION_REVISION: Final = f"{GROUP}/revision"

CONTAINER_CONVERT: Final = "convert"
CONTAINER_SERVE: Final = "serve"

PORT_API: Final = "api"
PORT_MANAGEMENT: Final = "management"
API_PORT: Final = 5000
MANAGEMENT_PORT: Final = 9400

#: Where the volumes are mounted, the same in both containers: the artifact's link holds an absolute path.
PATH_CHECKPOINT: Final = "/checkpoint"
PATH_TOKENIZER: Final = "/tokenizer"
PATH_ARTIFACTS: Final = "/artifacts"
PATH_RUN: Final = "/run/glm"
PATH_CONFIG: Final = "/etc/glm"
PATH_AUTH: Final = "/etc/glm-auth"
PATH_TMP: Final = "/tmp"  # noqa: S108 -- a mount in the container, not a file of this machine
PATH_ARTIFACT_LINK: Final = f"{PATH_RUN}/artifact"
MODEL_FILE: Final = "model.json"
KEYS_FILE: Final = "keys"

#: The user and group of the images; volumes are given to the group.
UID: Final = 10001

SUFFIX_METRICS: Final = "-metrics"
SUFFIX_MODEL: Final = "-model"
SUFFIX_ARTIFACTS: Final = "-artifacts"
SUFFIX_CONVERT: Final = "-convert-"
#: Characters of an artifact's key in a job's name.
KEY_LENGTH: Final = 8

#: A Service's name is a DNS label (63) and the longest suffix must fit behind the resource's name.
MAX_NAME: Final = 63 - max(map(len, (SUFFIX_METRICS, SUFFIX_MODEL, SUFFIX_ARTIFACTS)))
#: A Service's name begins with a letter, a custom resource's need not.
NAME_PATTERN: Final = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


def selector(name: str) -> dict[str, str]:
    """Labels that select the pods of resource ``name``: immutable, hence the fewest that identify them."""
    return {LABEL_NAME: APP, LABEL_INSTANCE: name}


def labels(name: str) -> dict[str, str]:
    """Labels of every object that belongs to resource ``name``."""
    return selector(name) | {LABEL_COMPONENT: "server", LABEL_PART_OF: "glm", LABEL_MANAGED_BY: MANAGER}


def metrics_service(name: str) -> str:
    """Name of the headless Service of the management ports."""
    return name + SUFFIX_METRICS


def model_config_map(name: str) -> str:
    """Name of the ConfigMap with the model's description, where the resource gives dimensions."""
    return name + SUFFIX_MODEL


def artifact_claim(name: str) -> str:
    """Name of the claim that is created for the artifacts, where the resource names none."""
    return name + SUFFIX_ARTIFACTS


def convert_job(name: str, key: str) -> str:
    """Name of the job that makes the artifact ``key`` before the pods are replaced. Jobs may be named longer."""
    return f"{name}{SUFFIX_CONVERT}{key[:KEY_LENGTH]}"
