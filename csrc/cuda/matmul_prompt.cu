// Many tokens: bound by the tensor cores. Tiles of 128 packed rows by 64 to 256 tokens, a persistent block on every
// multiprocessor; a producer thread brings weights and activations, two warpgroups of 64 rows dequantize the next
// block of columns while wgmma works on the current one.
#include <algorithm>
#include <utility>

#include "cuda/epilogue.cuh"
#include "cuda/fragment.cuh"
#include "cuda/hopper.cuh"
#include "cuda/launch.h"
#include "cuda/matmul.h"
#include "cuda/tensor_map.h"

namespace glm::cuda {
namespace {

#include "cuda/wgmma.inc"

constexpr int kRows = 128;

template <int Bits, int Tokens>
struct Shape {
  static constexpr int kBlockBytes = 512 * Bits;
  static constexpr int kWeightBytes = 2 * kBlockBytes;
  static constexpr int kTokenBytes = Tokens * 128;
  static constexpr int kStageOut = 8 * stage_halves(Tokens) * 2;
  static constexpr int kLimit = 227 * 1024 - 1024 - 256;
  static constexpr int kFit = (kLimit - kStageOut) / (kWeightBytes + kTokenBytes);
  static constexpr int kStages = kFit < 12 ? kFit : 12;
  static constexpr int kShared = 1024 + kStages * (kWeightBytes + kTokenBytes) + kStageOut + 256;
  static_assert(kStages >= 3);
};

template <int Bits, int Tokens>
__global__ __launch_bounds__(384, 1) void prompt_kernel(const uint8_t* __restrict__ weights,
                                                        const __grid_constant__ CUtensorMap x, const Output o,
                                                        int row_tiles, int token_tiles, int kblocks) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  using S = Shape<Bits, Tokens>;
  constexpr int kStages = S::kStages, kSums = Tokens / 2;
  extern __shared__ uint8_t raw[];
  uint8_t* shared = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(raw) + 1023) & ~uintptr_t{1023});
  uint8_t* token_ring = shared;
  uint8_t* weight_ring = token_ring + kStages * S::kTokenBytes;
  __half* stage_out = reinterpret_cast<__half*>(weight_ring + kStages * S::kWeightBytes);
  uint64_t* full = reinterpret_cast<uint64_t*>(reinterpret_cast<uint8_t*>(stage_out) + S::kStageOut);
  uint64_t* empty = full + kStages;
  const int tid = threadIdx.x, role = tid >> 7, tiles = row_tiles * token_tiles;
  if (tid == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, 8);  // the warps that multiply
    }
    barrier_init_fence();
  }
  __syncthreads();
  dependency_launch();
  dependency_wait();
  if (role == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (tid == 0) {
      int slot = 0, phase = 1;
      bool first_round = true;
      for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int row = tile / token_tiles, token = tile - row * token_tiles;
        for (int k = 0; k < kblocks; ++k) {
          if (!first_round) barrier_wait(empty + slot, phase);
          barrier_expect(full + slot, S::kWeightBytes + S::kTokenBytes);
          tensor_copy(token_ring + slot * S::kTokenBytes, &x, k * 64, token * Tokens, full + slot);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            bulk_copy(weight_ring + slot * S::kWeightBytes + r * S::kBlockBytes,
                      weights + (static_cast<size_t>(row * 2 + r) * kblocks + k) * S::kBlockBytes, S::kBlockBytes,
                      full + slot);
          }
          if (++slot == kStages) {
            slot = 0;
            phase ^= 1;
            first_round = false;
          }
        }
      }
    }
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  const int part = role - 1, thread = tid & 127, warp = thread >> 5, lane = thread & 31;
  int slot = 0, phase = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int row = tile / token_tiles, token = tile - row * token_tiles;
    float acc[kSums];
#pragma unroll
    for (int i = 0; i < kSums; ++i) acc[i] = 0;
    uint32_t a[2][16];
    int held = -1;
    auto step = [&](uint32_t (&f)[16]) {
      barrier_wait(full + slot, phase);
      unpack_tile<Bits>(f,
                        weight_ring + slot * S::kWeightBytes + part * S::kBlockBytes + warp * 128 * Bits + lane * 16);
      touch(acc);
      wgmma_fence();
      const uint64_t descriptor = operand_descriptor(token_ring + slot * S::kTokenBytes);
#pragma unroll
      for (int j = 0; j < 4; ++j) wgmma(acc, f + 4 * j, descriptor + 2 * j);
      wgmma_commit();
      wgmma_wait<1>();
      __syncwarp();
      if (held >= 0 && lane == 0) barrier_arrive(empty + held);
      held = slot;
      if (++slot == kStages) {
        slot = 0;
        phase ^= 1;
      }
    };
    for (int k = 0; k < kblocks; k += 2) {
      step(a[0]);
      step(a[1]);
    }
    wgmma_wait<0>();
    touch(acc);
    __syncwarp();
    if (lane == 0) barrier_arrive(empty + held);
    write_tile<Tokens>(o, acc, row * kRows + part * 64 + warp * 16, token * Tokens,
                       stage_out + (part * 4 + warp) * stage_halves(Tokens));
  }
#endif
}

template <int Bits, int Tokens>
void run(const MatmulContext& context, const PackedWeight& w, const Matmul& m) {
  const CUtensorMap x = tensor_map(m.x, m.tokens, w.cols, Tokens);
  const int row_tiles = w.packed_rows() / kRows, token_tiles = (m.tokens + Tokens - 1) / Tokens;
  const Launch how{dim3(static_cast<unsigned>(std::min(context.multiprocessors, row_tiles * token_tiles))), dim3(384),
                   Shape<Bits, Tokens>::kShared, context.stream, true};
  launch(how, prompt_kernel<Bits, Tokens>, w.data, x, output_of(w, m), row_tiles, token_tiles, w.kblocks());
}

// Fewest waves of tiles, weighted by what a tile of each width costs; measured costs belong to the tuner.
int choose_tile(const MatmulContext& context, const PackedWeight& w, int tokens) {
  int best = 64;
  double best_cost = 0;
  for (const auto& [width, cost] : {std::pair{64, 0.62}, {128, 1.04}, {256, 2.0}}) {
    const int tiles = w.packed_rows() / kRows * ((tokens + width - 1) / width);
    const int waves = (tiles + context.multiprocessors - 1) / context.multiprocessors;
    const double total = waves * cost;
    if (best_cost == 0 || total < best_cost) {
      best = width;
      best_cost = total;
    }
  }
  return best;
}

template <int Bits>
void run_bits(const MatmulContext& context, const PackedWeight& w, const Matmul& m, int tile) {
  if (tile == 64) return run<Bits, 64>(context, w, m);
  if (tile == 128) return run<Bits, 128>(context, w, m);
  run<Bits, 256>(context, w, m);
}

template <int Bits, int Tokens>
void prepare() {
  GLM_CUDA_CHECK(cudaFuncSetAttribute(prompt_kernel<Bits, Tokens>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      Shape<Bits, Tokens>::kShared));
}

template <int Bits>
void prepare_bits() {
  prepare<Bits, 64>();
  prepare<Bits, 128>();
  prepare<Bits, 256>();
}

}  // namespace

void prepare_matmul_prompt() {
  prepare_bits<4>();
  prepare_bits<8>();
  prepare_bits<16>();
}

bool matmul_prompt(const MatmulContext& context, const PackedWeight& w, const Matmul& m, int tile_tokens) {
  if (!context.hopper || m.tokens < 1 || !tensor_map_possible(m.x, w.cols)) return false;
  const int tile = tile_tokens ? tile_tokens : choose_tile(context, w, m.tokens);
  if (w.bits == 4) {
    run_bits<4>(context, w, m, tile);
  } else if (w.bits == 8) {
    run_bits<8>(context, w, m, tile);
  } else {
    run_bits<16>(context, w, m, tile);
  }
  return true;
}

}  // namespace glm::cuda
