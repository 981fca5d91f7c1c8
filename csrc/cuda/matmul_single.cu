// One token: the time is that of reading the weights once. Every multiprocessor takes an equal share of the matrix in
// units of 16 KB (so shares differ by one unit at most), a producer warp keeps a ring of them in flight, and 8 warps
// multiply with mma.m16n8k16, the weights as the 16-row operand. The ring is filled before the kernel waits for its
// predecessor: between two matmuls the memory never rests. Where a share ends inside a row group, the block that has
// the group's beginning adds the others' sums in order.
#include <algorithm>

#include "cuda/epilogue.cuh"
#include "cuda/fragment.cuh"
#include "cuda/hopper.cuh"
#include "cuda/launch.h"
#include "cuda/matmul.h"

namespace glm::cuda {
namespace {

constexpr int kRows = 64;
constexpr int kWarps = 8;
constexpr int kUnit = 16384;
constexpr int kMaxStages = 8;
constexpr int kSharedLimit = 227 * 1024;

// Bytes beside the ring: the activations, two sets of the warps' sums, the barriers.
template <int Bits>
constexpr int fixed_bytes(int padded_cols) {
  return padded_cols * 2 + 2 * (32 / Bits) * kRows * 4 + 2 * kMaxStages * 8;
}

// Copies x into shared memory in the order in which lanes read it: within 64 columns k = 16j + 8h + 2t + e goes to
// 16t + 4j + 2h + e. Neighbouring blocks begin at different t, so that a warp's stores hit every bank once.
[[maybe_unused]] __device__ void stage_activations(uint32_t* to, const __half* x, int cols, int padded_cols, int thread,
                                                   int threads) {
  constexpr int kAtOnce = 8;  // loads in flight: one wait for most matrices
  const bool vector = cols % 8 == 0 && (reinterpret_cast<uintptr_t>(x) & 15) == 0;
  for (int first = thread; first < padded_cols / 8; first += threads * kAtOnce) {
    uint4 v[kAtOnce];
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int i = first + n * threads;
      v[n] = make_uint4(0, 0, 0, 0);
      if (i * 8 >= cols) continue;
      if (vector) {
        v[n] = __ldcg(reinterpret_cast<const uint4*>(x) + i);
      } else {
        uint32_t w[4];
        for (int p = 0; p < 4; ++p) {
          const int k = i * 8 + 2 * p;
          w[p] = (k < cols ? __half_as_ushort(x[k]) : 0u) | (k + 1 < cols ? __half_as_ushort(x[k + 1]) : 0u) << 16;
        }
        v[n] = make_uint4(w[0], w[1], w[2], w[3]);
      }
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int i = first + n * threads;
      if (i >= padded_cols / 8) continue;
      const int block = i / 8, piece = i % 8;  // piece = 2j + h
      uint32_t* base = to + block * 32 + piece;
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const int t = (s + block) & 3;
        base[t * 8] = t & 2 ? (t & 1 ? v[n].w : v[n].z) : (t & 1 ? v[n].y : v[n].x);
      }
    }
  }
}

template <int Bits>
__global__ __launch_bounds__(kWarps * 32 + 32) void single_kernel(const uint8_t* __restrict__ weights, const __half* x,
                                                                  const Output o, int cols, int groups, int kblocks,
                                                                  int stages, float* partials, unsigned* flags) {
#if __CUDA_ARCH__ == 900
  constexpr int kUnitBlocks = 32 / Bits;   // blocks of 64 columns in a unit
  constexpr int kTiles = kUnitBlocks / 2;  // 16x64 tiles of a warp in a unit
  constexpr int kChunks = Bits / 4;
  extern __shared__ __align__(128) uint8_t shared[];
  const int padded_cols = kblocks * 64;
  uint8_t* ring = shared;
  __half* xs = reinterpret_cast<__half*>(shared + stages * kUnit);
  float* sums = reinterpret_cast<float*>(xs + padded_cols);
  uint64_t* full = reinterpret_cast<uint64_t*>(sums + 2 * kUnitBlocks * kRows);
  uint64_t* empty = full + stages;
  const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31, t = lane & 3, g = lane >> 2;
  const int block = blockIdx.x, blocks = gridDim.x, per_group = kblocks / kUnitBlocks;
  const long long total = static_cast<long long>(groups) * per_group;
  const int begin = static_cast<int>(total * block / blocks), end = static_cast<int>(total * (block + 1) / blocks);
  if (tid == 0) {
    for (int i = 0; i < stages; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, kWarps);
    }
    barrier_init_fence();
  }
  __syncthreads();
  dependency_launch();
  if (warp == kWarps) {
    if (lane == 0) {
      const uint64_t policy = evict_first_policy();
      int slot = 0, phase = 1;
      for (int u = begin; u < end; ++u) {
        if (u - begin >= stages) barrier_wait(empty + slot, phase);
        barrier_expect(full + slot, kUnit);
        bulk_copy(ring + slot * kUnit, weights + static_cast<size_t>(u) * kUnit, kUnit, full + slot, policy);
        if (++slot == stages) {
          slot = 0;
          phase ^= 1;
        }
      }
    }
    return;
  }
  dependency_wait();
  stage_activations(reinterpret_cast<uint32_t*>(xs), x, cols, padded_cols, tid, kWarps * 32);
  named_barrier(1, kWarps * 32);
  // Scale and bias of this thread's row of the group at hand: asked for when the group begins, used when it ends.
  RowFactors factors(o, begin / per_group * kRows + (tid & (kRows - 1)));
  float acc[kTiles][4] = {};
  const int my_block = warp * kTiles / 4, my_tile = warp * kTiles % 4;
  int slot = 0, phase = 0, parity = 0, group = begin / per_group, step = begin - group * per_group;
  for (int u = begin; u < end; ++u) {
    barrier_wait(full + slot, phase);
    uint4 q[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      q[i] = *reinterpret_cast<const uint4*>(ring + slot * kUnit + warp * 2048 + i * 512 + lane * 16);
    const uint4* from = reinterpret_cast<const uint4*>(xs + (step * kUnitBlocks + my_block) * 64 + 16 * t);
    const uint4 xa = from[0], xb = from[1];
    __syncwarp();
    if (lane == 0) barrier_arrive(empty + slot);
    const uint32_t b[8] = {xa.x, xa.y, xa.z, xa.w, xb.x, xb.y, xb.z, xb.w};
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        constexpr int kSteps = 16 / Bits;
        uint32_t a[4 * kSteps];
        unpack_chunk<Bits>(a, q[i * kChunks + c]);
#pragma unroll
        for (int j = 0; j < kSteps; ++j)
          mma_16816(acc[i], a + 4 * j, b[2 * (c * kSteps + j)], b[2 * (c * kSteps + j) + 1]);
      }
    }
    if (++slot == stages) {
      slot = 0;
      phase ^= 1;
    }
    const bool last = step == per_group - 1;  // of its row group
    if (last || u == end - 1) {
      float* sum = sums + parity * kUnitBlocks * kRows;
      parity ^= 1;
      if (t == 0) {
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
          sum[my_block * kRows + (my_tile + i) * 16 + g] = acc[i][0];
          sum[my_block * kRows + (my_tile + i) * 16 + g + 8] = acc[i][2];
        }
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][e] = 0;
      }
      named_barrier(1, kWarps * 32);
      if (tid < kRows) {
        float v = 0;
#pragma unroll
        for (int k = 0; k < kUnitBlocks; ++k) v += sum[k * kRows + tid];
        const long long first_unit = static_cast<long long>(group) * per_group;
        if (first_unit < begin) {  // the group began in a block before us: hand our part over
          __stcg(partials + block * kRows + tid, v);
          __threadfence();
          __syncwarp();
          if (lane == 0) atomicExch(flags + 2 * block + warp, 1u);
        } else {
          const long long group_end = first_unit + per_group;
          for (int other = block + 1; other < blocks && total * other / blocks < group_end; ++other) {
            if (total * other / blocks == total * (other + 1) / blocks) continue;  // an empty share
            if (lane == 0) {
              while (atomicAdd(flags + 2 * other + warp, 0u) == 0) {
              }
            }
            __syncwarp();
            __threadfence();
            v += __ldcg(partials + other * kRows + tid);
            __syncwarp();
            if (lane == 0) atomicExch(flags + 2 * other + warp, 0u);
          }
          const int packed_row = group * kRows + tid, column = output_column(o.paired, packed_row);
          v = factors(v);
          if (o.paired) v *= gelu(__shfl_down_sync(0xffffffffu, v, 8));
          if (column < o.outputs && !(o.paired && packed_row % 16 >= 8)) {
            if (o.f32) {
              static_cast<float*>(o.out)[column] = v;
            } else {
              static_cast<__half*>(o.out)[column] = __float2half(v);
            }
          }
        }
      }
    }
    if (last) {
      step = 0;
      ++group;
      factors = RowFactors(o, group * kRows + (tid & (kRows - 1)));
    } else {
      ++step;
    }
  }
#endif
}

template <int Bits>
bool run(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  const int fixed = fixed_bytes<Bits>(w.packed_cols());
  const int stages = std::min(kMaxStages, (kSharedLimit - fixed) / kUnit);
  if (stages < 3) return false;
  const Launch how{dim3(static_cast<unsigned>(context.multiprocessors)), dim3(kWarps * 32 + 32),
                   static_cast<size_t>(fixed + stages * kUnit), context.stream, true};
  launch(how, single_kernel<Bits>, w.data, m.x, output_of(w, m), w.cols, w.groups(), w.kblocks(), stages,
         context.partials, context.flags);
  return true;
}

}  // namespace

void prepare_matmul_single() {
  for (auto* kernel : {single_kernel<4>, single_kernel<8>, single_kernel<16>}) {
    GLM_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit));
  }
}

bool matmul_single(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  if (!context.hopper || m.tokens != 1) return false;
  return w.bits == 4 ? run<4>(context, w, m) : w.bits == 8 ? run<8>(context, w, m) : run<16>(context, w, m);
}

}  // namespace glm::cuda
