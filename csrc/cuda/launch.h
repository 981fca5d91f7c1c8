// One way to start a kernel: on a stream, checked, with programmatic dependent launch where the device has it. A kernel
// started with `overlap` may begin before its predecessor has ended: it must call `dependency_wait()` before it touches
// anything that an earlier kernel writes, and before it ends.
#pragma once

#include <cuda_runtime.h>

#include "cuda/check.h"

namespace glm::cuda {

struct Launch {
  dim3 grid;
  dim3 block;
  size_t shared = 0;
  cudaStream_t stream = nullptr;
  bool overlap = false;
};

template <typename... Params, typename... Args>
void launch(const Launch& how, void (*kernel)(Params...), Args... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.shared;
  config.stream = how.stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = how.overlap ? 1 : 0;
  GLM_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}

}  // namespace glm::cuda
