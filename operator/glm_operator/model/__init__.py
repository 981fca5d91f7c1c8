"""The typed resource: what a user may write in a GLMDeployment, each field documented, unknown ones refused."""

from glm_operator.model.deployment import GLMDeployment, Spec, divides, packs
from glm_operator.model.dimensions import PRESETS, Dimensions, Model
from glm_operator.model.parse import parse
from glm_operator.model.status import Status

__all__ = ["PRESETS", "Dimensions", "GLMDeployment", "Model", "Spec", "Status", "divides", "packs", "parse"]
