// Every architecture and every size: a warp owns 16 packed rows, reads its fragments straight from memory and
// multiplies with mma; the activations come through the L1 cache. The fallback of the Hopper kernels.
#include "cuda/epilogue.cuh"
#include "cuda/fragment.cuh"
#include "cuda/launch.h"
#include "cuda/matmul.h"

namespace glm::cuda {
namespace {

constexpr int kWarps = 4;

__device__ __forceinline__ uint32_t activation_pair(const __half* row, int k, int cols, bool even) {
  if (even) return k < cols ? *reinterpret_cast<const uint32_t*>(row + k) : 0u;
  const uint32_t low = k < cols ? __half_as_ushort(row[k]) : 0u;
  const uint32_t high = k + 1 < cols ? __half_as_ushort(row[k + 1]) : 0u;
  return low | high << 16;
}

// grid [packed rows / 64, tiles of tokens]
template <int Bits, int Tokens>
__global__ __launch_bounds__(kWarps * 32) void any_kernel(const uint8_t* __restrict__ weights, const __half* x,
                                                          const Output o, int cols, int kblocks) {
  dependency_launch();
  dependency_wait();
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int token0 = blockIdx.y * Tokens;
  const bool even = cols % 2 == 0;
  const uint8_t* tile = weights + (static_cast<size_t>(blockIdx.x) * kblocks * 4 + warp) * 128 * Bits + lane * 16;
  float acc[Tokens / 8][4] = {};
  for (int block = 0; block * 64 < cols; ++block) {
    uint32_t a[16];
    unpack_tile<Bits>(a, tile + static_cast<size_t>(block) * 512 * Bits);
#pragma unroll
    for (int n = 0; n < Tokens / 8; ++n) {
      const int token = token0 + n * 8 + g;
      const __half* row = x + static_cast<size_t>(token) * cols;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int k = block * 64 + j * 16 + 2 * t;
        const bool there = token < o.tokens;
        const uint32_t b0 = there ? activation_pair(row, k, cols, even) : 0u;
        const uint32_t b1 = there ? activation_pair(row, k + 8, cols, even) : 0u;
        mma_16816(acc[n], a + 4 * j, b0, b1);
      }
    }
  }
  const int row0 = blockIdx.x * 64 + warp * 16, first = output_column(o.paired, row0 + g);
  const RowFactors upper(o, row0 + g), lower(o, row0 + g + 8);
#pragma unroll
  for (int n = 0; n < Tokens / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int token = token0 + n * 8 + 2 * t + e;
      if (token >= o.tokens) continue;
      const float v = upper(acc[n][e]), w = lower(acc[n][2 + e]);
      auto put = [&](int column, float value) {
        if (column >= o.outputs) return;
        const size_t index = static_cast<size_t>(token) * o.outputs + column;
        if (o.f32) {
          static_cast<float*>(o.out)[index] = value;
        } else {
          static_cast<__half*>(o.out)[index] = __float2half(value);
        }
      };
      if (o.paired) {
        put(first, v * gelu(w));
      } else {
        put(first, v);
        put(first + 8, w);
      }
    }
  }
}

template <int Bits, int Tokens>
void run(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  const dim3 grid(static_cast<unsigned>(w.groups()), static_cast<unsigned>((m.tokens + Tokens - 1) / Tokens));
  launch(Launch{grid, dim3(kWarps * 32), 0, context.stream, context.hopper}, any_kernel<Bits, Tokens>, w.data, m.x,
         output_of(w, m), w.cols, w.kblocks());
}

template <int Bits>
void run_bits(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  if (m.tokens <= 8) return run<Bits, 8>(context, w, m);
  run<Bits, 64>(context, w, m);
}

}  // namespace

void matmul_any(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  if (w.bits == 4) {
    run_bits<4>(context, w, m);
  } else if (w.bits == 8) {
    run_bits<8>(context, w, m);
  } else {
    run_bits<16>(context, w, m);
  }
}

}  // namespace glm::cuda
