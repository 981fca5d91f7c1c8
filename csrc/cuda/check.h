// Turns a CUDA status into glm::Error with the call and the place, so that nothing is ever dropped.
#pragma once

#include <cuda_runtime_api.h>

#include "core/error.h"

namespace glm::cuda {

inline void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a launch error would otherwise be reported again by the next call
  throw Error(concat("CUDA: ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ") from ", call, " at ",
                     file, ":", line));
}

}  // namespace glm::cuda

#define GLM_CUDA_CHECK(call) ::glm::cuda::check((call), #call, __FILE__, __LINE__)
