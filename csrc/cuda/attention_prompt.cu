// Rows of prompts, several sequences of different lengths in one launch. A block owns 16 rows a warp of one head of one
// sequence and walks over the keys in tiles of 64 with a running softmax: scores and sums never leave the registers.
// Rows of the prefix see all of it, so only tiles that reach past the least visible token are masked.
#include "cuda/attention.h"
#include "cuda/device.cuh"
#include "cuda/fragment.cuh"
#include "cuda/launch.h"

namespace glm::cuda {
namespace {

constexpr int kTile = 64;

template <int D, int Warps>
struct Shape {
  static constexpr int kPitch = D + 8;  // halves; rows of a matrix fall on different banks
  static constexpr int kRows = Warps * 16;
  static constexpr int kShared = (kRows + 2 * kTile) * kPitch * 2;
};

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const __half* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const __half* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}

// 16 bytes to shared memory; zeros where `there` is false.
__device__ __forceinline__ void copy16(__half* to, const __half* from, bool there) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
               : "memory");
#else
  *reinterpret_cast<uint4*>(to) = there ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#endif
}

__device__ __forceinline__ void copy_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int Pending>
__device__ __forceinline__ void copy_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

// grid [tiles of rows, heads, sequences]; D is head_dim rounded up to 16, what lies beyond is zero.
template <int D, int Warps>
__global__ __launch_bounds__(Warps * 32) void prompt_kernel(__half* out, const __half* qkv, const KvLayer kv,
                                                            const PassView pass) {
  using S = Shape<D, Warps>;
  constexpr int kThreads = Warps * 32, kVectors = D / 8;
  extern __shared__ __align__(16) __half tiles[];
  __half* q_tile = tiles;
  __half* k_tile = q_tile + S::kRows * S::kPitch;
  __half* v_tile = k_tile + kTile * S::kPitch;
  dependency_launch();
  dependency_wait();
  const int sequence = blockIdx.z, head = blockIdx.y, rows = pass.rows[sequence];
  // Later rows see more: they start first.
  const int row0 = (static_cast<int>(gridDim.x) - 1 - static_cast<int>(blockIdx.x)) * S::kRows;
  if (row0 >= rows) return;
  const int cached = pass.cached[sequence], prefix = pass.prefix[sequence], first_row = pass.first_row[sequence];
  const int* blocks = pass.blocks + sequence * pass.max_blocks;
  const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31, g = lane >> 2, t = lane & 3, d = kv.head_dim;
  for (int i = tid; i < S::kRows * kVectors; i += kThreads) {
    const int r = i / kVectors, c = i % kVectors * 8;
    const bool there = row0 + r < rows && c < d;
    const __half* from = qkv + (static_cast<size_t>(first_row + (there ? row0 + r : row0)) * kv.heads + head) * 3 * d;
    copy16(q_tile + r * S::kPitch + c, from + (there ? c : 0), there);
  }
  copy_commit();
  const int last_row = min(rows, row0 + S::kRows) - 1;
  const int most = max(prefix, cached + last_row + 1), least = max(prefix, cached + row0 + 1);
  const int my_row = row0 + warp * 16 + g;  // and 8 further down
  const int sees[2] = {max(prefix, cached + my_row + 1), max(prefix, cached + my_row + 9)};
  auto load_tile = [&](__half* to, int which, int first) {
    for (int i = tid; i < kTile * kVectors; i += kThreads) {
      const int r = i / kVectors, c = i % kVectors * 8, token = first + r;
      const bool there = token < most && c < d;
      const int block = there ? blocks[token / kv.block_size] : 0;
      copy16(to + r * S::kPitch + c,
             kv.data + kv.offset(block, which, head, there ? token % kv.block_size : 0) + (there ? c : 0), there);
    }
    copy_commit();
  };
  float acc[D / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
  const float scale = rsqrtf(static_cast<float>(d)) * 1.44269504088896f;  // for exp2
  uint32_t q[D / 16][4];
  for (int first = 0; first < most; first += kTile) {
    __syncthreads();  // the tiles before are read
    load_tile(k_tile, 0, first);
    load_tile(v_tile, 1, first);
    copy_wait<1>();
    __syncthreads();
    if (first == 0) {
#pragma unroll
      for (int k = 0; k < D / 16; ++k) {
        load_matrices(q[k], q_tile + (warp * 16 + (lane & 15)) * S::kPitch + k * 16 + (lane >> 4) * 8);
      }
    }
    float s[kTile / 8][4] = {};
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
#pragma unroll
      for (int n = 0; n < kTile / 16; ++n) {
        uint32_t b[4];
        load_matrices(b, k_tile + (n * 16 + (lane >> 4) * 8 + (lane & 7)) * S::kPitch + k * 16 + (lane >> 3 & 1) * 8);
        mma_16816(s[2 * n], q[k], b[0], b[1]);
        mma_16816(s[2 * n + 1], q[k], b[2], b[3]);
      }
    }
    const bool masked = first + kTile > least;
    float highest[2] = {top[0], top[1]};
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[n][e] *= scale;
        if (masked && first + n * 8 + 2 * t + (e & 1) >= sees[e >> 1]) s[n][e] = -INFINITY;
        highest[e >> 1] = fmaxf(highest[e >> 1], s[n][e]);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      highest[r] = fmaxf(highest[r], __shfl_xor_sync(0xffffffffu, highest[r], 1));
      highest[r] = fmaxf(highest[r], __shfl_xor_sync(0xffffffffu, highest[r], 2));
      const float shrink = exp2f(top[r] - highest[r]);  // every row sees token 0, so highest is finite
      top[r] = highest[r];
      total[r] *= shrink;
#pragma unroll
      for (int i = 0; i < D / 8; ++i) {
        acc[i][2 * r] *= shrink;
        acc[i][2 * r + 1] *= shrink;
      }
    }
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[n][e] = exp2f(s[n][e] - top[e >> 1]);
        total[e >> 1] += s[n][e];
      }
    }
    copy_wait<0>();
    __syncthreads();
#pragma unroll
    for (int n = 0; n < kTile / 16; ++n) {
      const uint32_t p[4] = {half2_bits(__floats2half2_rn(s[2 * n][0], s[2 * n][1])),
                             half2_bits(__floats2half2_rn(s[2 * n][2], s[2 * n][3])),
                             half2_bits(__floats2half2_rn(s[2 * n + 1][0], s[2 * n + 1][1])),
                             half2_bits(__floats2half2_rn(s[2 * n + 1][2], s[2 * n + 1][3]))};
#pragma unroll
      for (int i = 0; i < D / 16; ++i) {
        uint32_t b[4];
        load_matrices_transposed(
            b, v_tile + (n * 16 + (lane >> 3 & 1) * 8 + (lane & 7)) * S::kPitch + i * 16 + (lane >> 4) * 8);
        mma_16816(acc[2 * i], p, b[0], b[1]);
        mma_16816(acc[2 * i + 1], p, b[2], b[3]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 2);
    const int row = my_row + 8 * r;
    if (row >= rows) continue;
    __half* to = out + (static_cast<size_t>(first_row + row) * kv.heads + head) * d;
    const float inverse = 1.0f / total[r];
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      const int c = i * 8 + 2 * t;
      if (c < d)
        *reinterpret_cast<__half2*>(to + c) = __floats2half2_rn(acc[i][2 * r] * inverse, acc[i][2 * r + 1] * inverse);
    }
  }
}

// Any head size: one warp a row, scores recomputed instead of kept. grid [rows, heads]
__global__ void plain_kernel(__half* out, const __half* qkv, const KvLayer kv, const PassView pass) {
  dependency_launch();
  dependency_wait();
  const int row = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, d = kv.head_dim;
  const int sequence = pass.row_sequence[row];
  const int sees = max(pass.prefix[sequence], pass.cached[sequence] + row - pass.first_row[sequence] + 1);
  const int* blocks = pass.blocks + sequence * pass.max_blocks;
  const __half* q = qkv + (static_cast<size_t>(row) * kv.heads + head) * 3 * d;
  const float scale = rsqrtf(static_cast<float>(d));
  auto score = [&](int token) {
    const __half* k = kv.data + kv.offset(blocks[token / kv.block_size], 0, head, token % kv.block_size);
    float dot = 0;
    for (int i = lane; i < d; i += 32) dot = fmaf(__half2float(q[i]), __half2float(k[i]), dot);
    return warp_sum(dot) * scale;
  };
  float top = -INFINITY, total = 0;
  for (int token = 0; token < sees; ++token) top = fmaxf(top, score(token));
  for (int token = 0; token < sees; ++token) total += expf(score(token) - top);
  for (int i0 = 0; i0 < d; i0 += 32) {
    const int i = i0 + lane;
    float sum = 0;
    for (int token = 0; token < sees; ++token) {
      const float p = expf(score(token) - top);
      const __half* v = kv.data + kv.offset(blocks[token / kv.block_size], 1, head, token % kv.block_size);
      if (i < d) sum = fmaf(p, __half2float(v[i]), sum);
    }
    if (i < d) out[(static_cast<size_t>(row) * kv.heads + head) * d + i] = __float2half(sum / total);
  }
}

template <int D, int Warps>
void run(__half* out, const __half* qkv, const KvLayer& kv, const PassView& pass, bool overlap, cudaStream_t stream) {
  using S = Shape<D, Warps>;
  const dim3 grid(static_cast<unsigned>((pass.max_rows + S::kRows - 1) / S::kRows), static_cast<unsigned>(kv.heads),
                  static_cast<unsigned>(pass.sequences));
  launch(Launch{grid, dim3(Warps * 32), S::kShared, stream, overlap}, prompt_kernel<D, Warps>, out, qkv, kv, pass);
}

template <int D, int Warps>
void prepare() {
  GLM_CUDA_CHECK(cudaFuncSetAttribute(prompt_kernel<D, Warps>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      Shape<D, Warps>::kShared));
}

}  // namespace

void prepare_attention() {
  int limit = 0, device = 0;
  GLM_CUDA_CHECK(cudaGetDevice(&device));
  GLM_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  prepare<128, 4>();
  if (limit >= Shape<128, 8>::kShared) prepare<128, 8>();
}

void attention_prompt(__half* out, const __half* qkv, const KvLayer& kv, const PassView& pass, bool overlap,
                      cudaStream_t stream) {
  if (kv.head_dim % 8 == 0 && kv.head_dim <= 128) {
    if (kv.head_dim <= 16) return run<16, 4>(out, qkv, kv, pass, overlap, stream);
    if (kv.head_dim <= 32) return run<32, 4>(out, qkv, kv, pass, overlap, stream);
    if (kv.head_dim <= 64) return run<64, 4>(out, qkv, kv, pass, overlap, stream);
    int limit = 0, device = 0;
    GLM_CUDA_CHECK(cudaGetDevice(&device));
    GLM_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    if (pass.max_rows > 64 && limit >= Shape<128, 8>::kShared) return run<128, 8>(out, qkv, kv, pass, overlap, stream);
    return run<128, 4>(out, qkv, kv, pass, overlap, stream);
  }
  const dim3 grid(static_cast<unsigned>(pass.total_rows), static_cast<unsigned>(kv.heads));
  launch(Launch{grid, dim3(32), 0, stream, overlap}, plain_kernel, out, qkv, kv, pass);
}

}  // namespace glm::cuda
