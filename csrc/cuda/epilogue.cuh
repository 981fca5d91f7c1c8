// What happens to the fp32 sums of a matmul: row scale, bias, GeGLU, and the way to memory.
#pragma once

#include "cuda/device.cuh"
#include "cuda/matmul.h"

namespace glm::cuda {

// A matmul's output side as the kernels see it.
struct Output {
  void* out;
  const __half* scale;
  const __half* bias;
  int outputs;  // columns of out
  int tokens;
  bool f32;
  bool paired;
};

inline Output output_of(const PackedWeight& w, const Matmul& m) {
  return {m.out, w.scale, m.bias, w.outputs(), m.tokens, m.f32, w.paired};
}

// Column of `out` that a packed row ends up in, the same for both rows of a pair.
__device__ __forceinline__ int output_column(bool paired, int packed_row) {
  return paired ? packed_row / 16 * 8 + packed_row % 8 : packed_row;
}

// Scale and bias of one packed row.
struct RowFactors {
  float scale = 1.0f;
  float bias = 0.0f;

  __device__ __forceinline__ RowFactors(const Output& o, int packed_row) {
    int row = output_column(o.paired, packed_row);
    if (row >= o.outputs) return;
    if (o.paired && packed_row % 16 >= 8) row += o.outputs;
    if (o.scale) scale = __half2float(o.scale[row]);
    if (o.bias) bias = __half2float(o.bias[row]);
  }
  __device__ __forceinline__ float operator()(float sum) const { return fmaf(sum, scale, bias); }
};

// Halves of one warp's staging buffer: up to 64 tokens, 16 rows and 8 of padding against bank conflicts.
__host__ __device__ constexpr int stage_halves(int tokens) {
  return (tokens < 64 ? tokens : 64) * 24;
}

__device__ __forceinline__ void store_transposed(__half* stage, int lane, uint32_t matrix) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0],{%1};" ::"r"(shared_address(stage + (lane & 7) * 24)),
      "r"(matrix)
      : "memory");
#endif
}

// One warp writes its 16 packed rows from `row0` on, for tokens [token0, token0 + Tokens): `sums` in the layout of
// mma's accumulator, 4 for each 8 tokens. `stage` is the warp's own, stage_halves(Tokens).
template <int Tokens>
__device__ __forceinline__ void write_tile(const Output& o, const float* sums, int row0, int token0, __half* stage) {
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const RowFactors upper(o, row0 + g), lower(o, row0 + g + 8);
  const int column0 = output_column(o.paired, row0);
  constexpr int kPart = Tokens < 64 ? Tokens : 64;
#pragma unroll
  for (int part = 0; part < Tokens; part += kPart) {
    if (o.f32) {
      float* out = static_cast<float*>(o.out);
#pragma unroll
      for (int i = 0; i < kPart / 8; ++i) {
        const float* c = sums + (part / 8 + i) * 4;
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int token = token0 + part + i * 8 + 2 * t + e;
          if (token >= o.tokens) continue;
          float* row = out + static_cast<size_t>(token) * o.outputs + column0;
          const float first = upper(c[e]), second = lower(c[2 + e]);
          if (o.paired) {
            if (column0 + g < o.outputs) row[g] = first * gelu(second);
          } else {
            if (column0 + g < o.outputs) row[g] = first;
            if (column0 + g + 8 < o.outputs) row[g + 8] = second;
          }
        }
      }
      continue;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPart / 8; ++i) {
      const float* c = sums + (part / 8 + i) * 4;
      float a0 = upper(c[0]), a1 = upper(c[1]);
      const float b0 = lower(c[2]), b1 = lower(c[3]);
      if (o.paired) {
        a0 *= gelu(b0);
        a1 *= gelu(b1);
      }
      store_transposed(stage + i * 8 * 24, lane, half2_bits(__floats2half2_rn(a0, a1)));
      if (!o.paired) store_transposed(stage + i * 8 * 24 + 8, lane, half2_bits(__floats2half2_rn(b0, b1)));
    }
    __syncwarp();
    const int pieces = o.paired ? 1 : 2;  // of 8 columns a token
    const bool vector = o.outputs % 8 == 0;
    __half* out = static_cast<__half*>(o.out);
    for (int i = lane; i < kPart * pieces; i += 32) {
      const int token = i / pieces, column = column0 + i % pieces * 8;
      if (token0 + part + token >= o.tokens || column >= o.outputs) continue;
      const __half* from = stage + token * 24 + i % pieces * 8;
      __half* to = out + static_cast<size_t>(token0 + part + token) * o.outputs + column;
      if (vector) {
        *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
      } else {
        for (int c = 0; c < 8 && column + c < o.outputs; ++c) to[c] = from[c];
      }
    }
  }
}

}  // namespace glm::cuda
