// The plainest matmul, in double, from the row-major weights as a checkpoint stores them: shares no code with ours.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace glm::cuda::testing {

__device__ inline double plain_weight(const void* w, int bits, size_t index) {
  if (bits == 4) {
    const int byte = static_cast<const uint8_t*>(w)[index / 2];
    const int nibble = index % 2 == 0 ? byte >> 4 : byte & 15;
    return nibble < 8 ? nibble : nibble - 16;
  }
  if (bits == 8) return static_cast<const int8_t*>(w)[index];
  return __half2float(static_cast<const __half*>(w)[index]);
}

// y [tokens, rows] f32; block: one row, 8 tokens.
static __global__ void plain_matmul(float* y, const void* w, int bits, const __half* scale, const __half* bias,
                                    const __half* x, int rows, int cols, int tokens) {
  const int row = blockIdx.x, token0 = blockIdx.y * 8;
  double sum[8] = {};
  for (int k = threadIdx.x; k < cols; k += blockDim.x) {
    const double v = plain_weight(w, bits, static_cast<size_t>(row) * cols + k);
    for (int i = 0; i < 8; ++i) {
      if (token0 + i < tokens)
        sum[i] += v * static_cast<double>(__half2float(x[static_cast<size_t>(token0 + i) * cols + k]));
    }
  }
  __shared__ double part[128];
  for (int i = 0; i < 8; ++i) {
    __syncthreads();
    part[threadIdx.x] = sum[i];
    __syncthreads();
    for (int s = 64; s; s >>= 1) {
      if (threadIdx.x < s) part[threadIdx.x] += part[threadIdx.x + s];
      __syncthreads();
    }
    if (threadIdx.x == 0 && token0 + i < tokens) {
      const double factor = scale ? static_cast<double>(__half2float(scale[row])) : 1.0;
      y[static_cast<size_t>(token0 + i) * rows + row] =
          static_cast<float>(part[0] * factor + (bias ? static_cast<double>(__half2float(bias[row])) : 0.0));
    }
  }
}

// out [tokens, rows / 2] = y's first half times gelu of its second.
static __global__ void plain_geglu(float* out, const float* y, int rows, int tokens) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, half = rows / 2;
  if (i >= half * tokens) return;
  const double a = y[static_cast<size_t>(i / half) * rows + i % half];
  const double b = y[static_cast<size_t>(i / half) * rows + half + i % half];
  out[i] = static_cast<float>(a * 0.5 * b * (1 + erf(b * 0.70710678118654752)));
}

}  // namespace glm::cuda::testing
