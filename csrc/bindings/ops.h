// The CPU backend's ops as Python functions over numpy arrays, for tests.
#pragma once

#include <pybind11/pybind11.h>

namespace glm {

void bind_ops(pybind11::module_& m);

}  // namespace glm
