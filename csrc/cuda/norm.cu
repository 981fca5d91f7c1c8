// One block a row. The row stays in registers, so it is read once; parameters, which no kernel writes, are loaded while
// the kernel before still runs.
#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/norm.h"

namespace glm::cuda {
namespace {

constexpr int kThreads = 512;

// The sum over the block, on every thread. `scratch` [32] is free again after the next barrier.
__device__ float block_sum(float v, float* scratch) {
  const int warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  v = warp_sum(v);
  if ((threadIdx.x & 31) == 0) scratch[warp] = v;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < warps; ++i) sum += scratch[i];
  return sum;
}

__device__ __forceinline__ void unpack8(float* to, uint4 from) {
  const uint32_t word[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = half2_floats(word[i]);
    to[2 * i] = pair.x;
    to[2 * i + 1] = pair.y;
  }
}

// cols a multiple of 8, at most Vectors * 8 * blockDim.x.
template <int Vectors>
__global__ __launch_bounds__(kThreads) void norm_kernel(const Norm n) {
  __shared__ float scratch[2][32];
  dependency_launch();
  const int vectors = n.cols / 8;
  uint4 gamma[Vectors], beta[Vectors], bias[Vectors];
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    const int at = i * blockDim.x + threadIdx.x;
    bias[i] = make_uint4(0, 0, 0, 0);
    if (at >= vectors) continue;
    gamma[i] = reinterpret_cast<const uint4*>(n.gamma)[at];
    beta[i] = reinterpret_cast<const uint4*>(n.beta)[at];
    if (n.bias) bias[i] = reinterpret_cast<const uint4*>(n.bias)[at];
  }
  dependency_wait();
  const size_t row = static_cast<size_t>(blockIdx.x) * vectors;
  uint4 x[Vectors], residual[Vectors];
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    const int at = i * blockDim.x + threadIdx.x;
    if (at >= vectors) continue;
    x[i] = __ldcg(reinterpret_cast<const uint4*>(n.x) + row + at);
    if (n.residual) residual[i] = __ldcg(reinterpret_cast<const uint4*>(n.residual) + row + at);
  }
  float v[Vectors][8];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    if (i * blockDim.x + threadIdx.x >= vectors) {
#pragma unroll
      for (int e = 0; e < 8; ++e) v[i][e] = 0;
      continue;
    }
    unpack8(v[i], x[i]);
    if (n.residual) {
      float r[8], b[8];
      unpack8(r, residual[i]);
      unpack8(b, bias[i]);
#pragma unroll
      for (int e = 0; e < 8; ++e) v[i][e] = r[e] * n.alpha + v[i][e] + b[e];
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) sum += v[i][e];
  }
  const float mean = block_sum(sum, scratch[0]) / static_cast<float>(n.cols);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    if (i * blockDim.x + threadIdx.x >= vectors) continue;
#pragma unroll
    for (int e = 0; e < 8; ++e) squares += (v[i][e] - mean) * (v[i][e] - mean);
  }
  const float rstd = rsqrtf(block_sum(squares, scratch[1]) / static_cast<float>(n.cols) + n.eps);
#pragma unroll
  for (int i = 0; i < Vectors; ++i) {
    const int at = i * blockDim.x + threadIdx.x;
    if (at >= vectors) continue;
    float g[8], b[8];
    unpack8(g, gamma[i]);
    unpack8(b, beta[i]);
    uint32_t word[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      word[e] = half2_bits(__floats2half2_rn((v[i][2 * e] - mean) * rstd * g[2 * e] + b[2 * e],
                                             (v[i][2 * e + 1] - mean) * rstd * g[2 * e + 1] + b[2 * e + 1]));
    }
    reinterpret_cast<uint4*>(n.out)[row + at] = make_uint4(word[0], word[1], word[2], word[3]);
  }
}

// Any width: the row is read three times.
__global__ __launch_bounds__(kThreads) void plain_norm_kernel(const Norm n) {
  __shared__ float scratch[2][32];
  dependency_launch();
  dependency_wait();
  const size_t row = static_cast<size_t>(blockIdx.x) * n.cols;
  auto value = [&](int k) {
    float v = __half2float(n.x[row + k]);
    if (n.residual) v = __half2float(n.residual[row + k]) * n.alpha + v + (n.bias ? __half2float(n.bias[k]) : 0.0f);
    return v;
  };
  float sum = 0;
  for (int k = threadIdx.x; k < n.cols; k += blockDim.x) sum += value(k);
  const float mean = block_sum(sum, scratch[0]) / static_cast<float>(n.cols);
  float squares = 0;
  for (int k = threadIdx.x; k < n.cols; k += blockDim.x) squares += (value(k) - mean) * (value(k) - mean);
  const float rstd = rsqrtf(block_sum(squares, scratch[1]) / static_cast<float>(n.cols) + n.eps);
  for (int k = threadIdx.x; k < n.cols; k += blockDim.x) {
    n.out[row + k] = __float2half((value(k) - mean) * rstd * __half2float(n.gamma[k]) + __half2float(n.beta[k]));
  }
}

__global__ void gather_kernel(__half* out, const __half* x, const int* index, int cols) {
  dependency_launch();
  dependency_wait();
  const __half* from = x + static_cast<size_t>(index[blockIdx.x]) * cols;
  __half* to = out + static_cast<size_t>(blockIdx.x) * cols;
  if (cols % 8 == 0) {
#pragma unroll 4
    for (int k = threadIdx.x; k < cols / 8; k += blockDim.x) {
      reinterpret_cast<uint4*>(to)[k] = __ldcg(reinterpret_cast<const uint4*>(from) + k);
    }
    return;
  }
  for (int k = threadIdx.x; k < cols; k += blockDim.x) to[k] = from[k];
}

}  // namespace

void layernorm(const Norm& norm, bool overlap, cudaStream_t stream) {
  if (norm.rows <= 0) return;
  Launch how{dim3(static_cast<unsigned>(norm.rows)), dim3(kThreads), 0, stream, overlap};
  if (norm.cols % 8 != 0 || norm.cols > kThreads * 8 * 4) return launch(how, plain_norm_kernel, norm);
  const int vectors = norm.cols / 8;
  if (vectors < kThreads) how.block = dim3(static_cast<unsigned>((vectors + 31) / 32 * 32));
  switch ((vectors + kThreads - 1) / kThreads) {
    case 1:
      return launch(how, norm_kernel<1>, norm);
    case 2:
      return launch(how, norm_kernel<2>, norm);
    case 3:
      return launch(how, norm_kernel<3>, norm);
    default:
      return launch(how, norm_kernel<4>, norm);
  }
}

void gather_rows(__half* out, const __half* x, const int* index, int count, int cols, bool overlap,
                 cudaStream_t stream) {
  if (count <= 0) return;
  launch(Launch{dim3(static_cast<unsigned>(count)), dim3(512), 0, stream, overlap}, gather_kernel, out, x, index, cols);
}

}  // namespace glm::cuda
