// LayerNorm and its fused form with GLM's residual, and the copy of the rows whose logits are wanted.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

namespace glm::cuda {

// out [rows, cols] = LayerNorm(v) * gamma + beta with v = x, or, where residual is set,
// v = residual * alpha + x + bias. Sums are fp32, the variance is taken from the deviations. `out` may be `residual`.
struct Norm {
  __half* out = nullptr;
  const __half* x = nullptr;
  const __half* residual = nullptr;
  const __half* bias = nullptr;  // [cols]; null: none
  const __half* gamma = nullptr;
  const __half* beta = nullptr;
  int rows = 0;
  int cols = 0;
  float alpha = 1.0f;
  float eps = 1e-5f;
};

void layernorm(const Norm& norm, bool overlap, cudaStream_t stream);

// out [count, cols]: rows `index` of x.
void gather_rows(__half* out, const __half* x, const int* index, int count, int cols, bool overlap,
                 cudaStream_t stream);

}  // namespace glm::cuda
