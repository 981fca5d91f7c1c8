// 2 to 64 tokens: still bound by reading the weights. As for one token every multiprocessor takes an equal share of the
// matrix, here in stages of 256 rows by 32 KB, but the multiplication is wgmma with the weights dequantized into its
// register operand, two warpgroups of 128 rows each; the activations come by tensor copies. A group's sums are added in
// the order of the blocks, whatever their number.
#include "cuda/epilogue.cuh"
#include "cuda/fragment.cuh"
#include "cuda/hopper.cuh"
#include "cuda/launch.h"
#include "cuda/matmul.h"
#include "cuda/tensor_map.h"

namespace glm::cuda {
namespace {

#include "cuda/wgmma.inc"

constexpr int kRows = 256;
constexpr int kTiles = 2;  // of 64 rows for each of the two warpgroups

template <int Bits, int Tokens>
struct Shape {
  static constexpr int kStageBlocks = Tokens <= 32 ? 16 / Bits : (Bits == 4 ? 2 : 1);  // blocks of 64 columns
  static constexpr int kBlockBytes = 512 * Bits;                                       // 64 rows by 64 columns
  static constexpr int kWeightBytes = 4 * kStageBlocks * kBlockBytes;
  static constexpr int kTokenBytes = Tokens * 128 * kStageBlocks;
  static constexpr int kStageOut = 8 * stage_halves(Tokens) * 2;
  static constexpr int kLimit = 227 * 1024 - 1024 - 256;
  static constexpr int kStages = (kLimit - kStageOut) / (kWeightBytes + kTokenBytes);
  static constexpr int kShared = 1024 + kStages * (kWeightBytes + kTokenBytes) + kStageOut + 256;
  static_assert(kStages >= 3 && kStages * 16 <= 256);
};

template <int Bits, int Tokens>
__global__ __launch_bounds__(384, 1) void batch_kernel(const uint8_t* __restrict__ weights,
                                                       const __grid_constant__ CUtensorMap x, const Output o,
                                                       int row_blocks, int kblocks, float* partials, unsigned* flags) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  using S = Shape<Bits, Tokens>;
  constexpr int kStages = S::kStages, kStageBlocks = S::kStageBlocks, kSums = Tokens / 2;
  extern __shared__ uint8_t raw[];
  uint8_t* shared = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(raw) + 1023) & ~uintptr_t{1023});
  uint8_t* token_ring = shared;
  uint8_t* weight_ring = token_ring + kStages * S::kTokenBytes;
  __half* stage_out = reinterpret_cast<__half*>(weight_ring + kStages * S::kWeightBytes);
  uint64_t* full = reinterpret_cast<uint64_t*>(reinterpret_cast<uint8_t*>(stage_out) + S::kStageOut);
  uint64_t* empty = full + kStages;
  const int tid = threadIdx.x, role = tid >> 7, block = blockIdx.x, blocks = gridDim.x;
  const int per_group = kblocks / kStageBlocks;
  const long long total = static_cast<long long>(row_blocks) * per_group;
  const int begin = static_cast<int>(total * block / blocks), end = static_cast<int>(total * (block + 1) / blocks);
  if (tid == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, 8);  // the warps that multiply
    }
    barrier_init_fence();
  }
  __syncthreads();
  dependency_launch();
  if (role == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (tid == 0) {
      const uint64_t policy = evict_first_policy();
      auto load_weights = [&](int u, int slot) {
        const int group = u / per_group, k = (u - group * per_group) * kStageBlocks;
        barrier_expect(full + slot, S::kWeightBytes + S::kTokenBytes);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          bulk_copy(weight_ring + slot * S::kWeightBytes + r * kStageBlocks * S::kBlockBytes,
                    weights + (static_cast<size_t>(group * 4 + r) * kblocks + k) * S::kBlockBytes,
                    kStageBlocks * S::kBlockBytes, full + slot, policy);
        }
      };
      auto load_tokens = [&](int u, int slot) {
        const int k = (u % per_group) * kStageBlocks;
#pragma unroll
        for (int b = 0; b < kStageBlocks; ++b) {
          tensor_copy(token_ring + slot * S::kTokenBytes + b * Tokens * 128, &x, (k + b) * 64, 0, full + slot);
        }
      };
      // Weights do not depend on the kernel before: their ring is filled while that one ends.
      const int ahead = min(end, begin + kStages);
      for (int u = begin; u < ahead; ++u) load_weights(u, u - begin);
      dependency_wait();
      for (int u = begin; u < ahead; ++u) load_tokens(u, u - begin);
      int slot = 0, phase = 0;
      for (int u = ahead; u < end; ++u) {
        barrier_wait(empty + slot, phase);
        load_weights(u, slot);
        load_tokens(u, slot);
        if (++slot == kStages) {
          slot = 0;
          phase ^= 1;
        }
      }
    }
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  dependency_wait();
  const int part = role - 1, thread = tid & 127, warp = thread >> 5, lane = thread & 31;
  constexpr int kPartial = kTiles * kSums * 128;  // floats that one warpgroup hands over
  float acc[kTiles][kSums];
  uint32_t a[2][kTiles][16];
  int slot = 0, phase = 0;
  for (int u = begin; u < end;) {
    const int group = u / per_group, group_end = (group + 1) * per_group, stop = min(end, group_end);
    const bool have_start = u == group * per_group;
    int held = -1;  // the stage that wgmma may still read
#pragma unroll
    for (int r = 0; r < kTiles; ++r) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) acc[r][i] = 0;
    }
    for (; u < stop; ++u) {
      barrier_wait(full + slot, phase);
#pragma unroll
      for (int b = 0; b < kStageBlocks; ++b) {
        uint32_t (&f)[kTiles][16] = a[b & 1];
        // A single block a stage leaves no second buffer to alternate with: then the multiplication before must end.
        if (kStageBlocks == 1) wgmma_wait<0>();
#pragma unroll
        for (int r = 0; r < kTiles; ++r) {
          unpack_tile<Bits>(f[r], weight_ring + slot * S::kWeightBytes +
                                      ((part * kTiles + r) * kStageBlocks + b) * S::kBlockBytes + warp * 128 * Bits +
                                      lane * 16);
        }
#pragma unroll
        for (int r = 0; r < kTiles; ++r) touch(acc[r]);
        wgmma_fence();
        const uint64_t descriptor = operand_descriptor(token_ring + slot * S::kTokenBytes + b * Tokens * 128);
        // Alternating between the tiles, no multiplication waits for the sums of the one just before it.
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
          for (int r = 0; r < kTiles; ++r) wgmma(acc[r], f[r] + 4 * j, descriptor + 2 * j);
        }
        wgmma_commit();
        wgmma_wait<1>();
        __syncwarp();
        if (b == 0 && held >= 0 && lane == 0) barrier_arrive(empty + held);
      }
      held = slot;
      if (++slot == kStages) {
        slot = 0;
        phase ^= 1;
      }
    }
    wgmma_wait<0>();
#pragma unroll
    for (int r = 0; r < kTiles; ++r) touch(acc[r]);
    __syncwarp();
    if (lane == 0) barrier_arrive(empty + held);
    if (!have_start) {  // the group began in a block before us: hand our part over
      float4* to = reinterpret_cast<float4*>(partials + (static_cast<size_t>(block) * 2 + part) * kPartial);
#pragma unroll
      for (int r = 0; r < kTiles; ++r) {
#pragma unroll
        for (int i = 0; i < kSums / 4; ++i) {
          __stcg(to + (r * (kSums / 4) + i) * 128 + thread,
                 make_float4(acc[r][4 * i], acc[r][4 * i + 1], acc[r][4 * i + 2], acc[r][4 * i + 3]));
        }
      }
      __threadfence();
      named_barrier(2 + part, 128);
      if (thread == 0) atomicExch(flags + block * 2 + part, 1u);
      continue;
    }
    for (int other = block + 1; other < blocks && total * other / blocks < group_end; ++other) {
      if (total * other / blocks == total * (other + 1) / blocks) continue;  // an empty share
      if (thread == 0) {
        while (atomicAdd(flags + other * 2 + part, 0u) == 0) __nanosleep(20);
      }
      named_barrier(2 + part, 128);
      __threadfence();
      const float4* from =
          reinterpret_cast<const float4*>(partials + (static_cast<size_t>(other) * 2 + part) * kPartial);
#pragma unroll
      for (int r = 0; r < kTiles; ++r) {
#pragma unroll
        for (int i = 0; i < kSums / 4; ++i) {
          const float4 v = __ldcg(from + (r * (kSums / 4) + i) * 128 + thread);
          acc[r][4 * i] += v.x;
          acc[r][4 * i + 1] += v.y;
          acc[r][4 * i + 2] += v.z;
          acc[r][4 * i + 3] += v.w;
        }
      }
      named_barrier(2 + part, 128);
      if (thread == 0) atomicExch(flags + other * 2 + part, 0u);
    }
#pragma unroll
    for (int r = 0; r < kTiles; ++r) {
      write_tile<Tokens>(o, acc[r], group * kRows + (part * kTiles + r) * 64 + warp * 16, 0,
                         stage_out + (part * 4 + warp) * stage_halves(Tokens));
    }
  }
#endif
}

template <int Bits, int Tokens>
void run(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  static_assert(kTiles * Tokens / 2 * 256 <= static_cast<int>(MatmulContext::kPartialFloats));
  const CUtensorMap x = tensor_map(m.x, m.tokens, w.cols, Tokens);
  const Launch how{dim3(static_cast<unsigned>(context.multiprocessors)), dim3(384), Shape<Bits, Tokens>::kShared,
                   context.stream, true};
  launch(how, batch_kernel<Bits, Tokens>, w.data, x, output_of(w, m), w.packed_rows() / kRows, w.kblocks(),
         context.partials, context.flags);
}

template <int Bits>
void run_bits(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  if (m.tokens <= 8) return run<Bits, 8>(context, w, m);
  if (m.tokens <= 16) return run<Bits, 16>(context, w, m);
  if (m.tokens <= 32) return run<Bits, 32>(context, w, m);
  run<Bits, 64>(context, w, m);
}

template <int Bits, int Tokens>
void prepare() {
  GLM_CUDA_CHECK(cudaFuncSetAttribute(batch_kernel<Bits, Tokens>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      Shape<Bits, Tokens>::kShared));
}

template <int Bits>
void prepare_bits() {
  prepare<Bits, 8>();
  prepare<Bits, 16>();
  prepare<Bits, 32>();
  prepare<Bits, 64>();
}

}  // namespace

void prepare_matmul_batch() {
  prepare_bits<4>();
  prepare_bits<8>();
  prepare_bits<16>();
}

bool matmul_batch(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  if (!context.hopper || m.tokens < 1 || m.tokens > 64 || !tensor_map_possible(m.x, w.cols)) return false;
  if (w.bits == 4) {
    run_bits<4>(context, w, m);
  } else if (w.bits == 8) {
    run_bits<8>(context, w, m);
  } else {
    run_bits<16>(context, w, m);
  }
  return true;
}

}  // namespace glm::cuda
