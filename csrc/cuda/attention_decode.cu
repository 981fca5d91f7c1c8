// One new row for each sequence. A block takes one head and kChunk tokens of one sequence; it asks for all of its keys
// and values before it waits for the kernel before, then needs only that kernel's q, k and v. Head d is read by groups
// of d / 8 lanes, 16 bytes each. The last block of a head to finish adds the parts in order, so the result does not
// depend on which one that is.
#include <bit>

#include "cuda/attention.h"
#include "cuda/device.cuh"
#include "cuda/launch.h"

namespace glm::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kChunk = 64;

__device__ __forceinline__ void unpack8(float* to, uint4 from) {
  const uint32_t word[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = half2_floats(word[i]);
    to[2 * i] = pair.x;
    to[2 * i + 1] = pair.y;
  }
}

// grid [splits, heads, sequences]
template <int D>
__global__ __launch_bounds__(kThreads, 4) void decode_kernel(__half* out, const __half* qkv, const KvLayer kv,
                                                             const RotaryTable rotary, const PassView pass,
                                                             const AttentionScratch scratch, int max_splits,
                                                             int shift) {
  constexpr int kLanes = D / 8;               // lanes a token
  constexpr int kGroups = kThreads / kLanes;  // tokens read at once
  constexpr int kPerGroup = (kChunk + kGroups - 1) / kGroups;
  __shared__ float q_shared[D], part[4][D], scores[kChunk];
  __shared__ __align__(16) __half new_key[D], new_value[D];
  __shared__ float reduce[8];
  __shared__ bool is_last;
  dependency_launch();
  const int split = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z, tid = threadIdx.x;
  const int first = split * kChunk;
  const int group = tid / kLanes, lane = tid % kLanes;
  const int* blocks = pass.blocks + sequence * pass.max_blocks;
  // Blocks hold a power of two of tokens. The table is read before the length is known: both are on their way at once.
  const int64_t block_halves = kv.offset(1, 0, 0, 0), value_halves = static_cast<int64_t>(kv.heads) * kv.block_size * D;
  const __half* mine_kv = kv.data + (static_cast<int64_t>(head) << shift) * D + lane * 8;
  uint4 key[kPerGroup], value[kPerGroup];
  int block_of[kPerGroup];
#pragma unroll
  for (int i = 0; i < kPerGroup; ++i) {
    block_of[i] = blocks[min((first + i * kGroups + group) >> shift, pass.max_blocks - 1)];
  }
  const int cached = pass.cached[sequence], visible = max(pass.prefix[sequence], cached + 1);
  const int splits = (visible + kChunk - 1) / kChunk;
  if (split >= splits) return;
  const int count = min(kChunk, visible - first);
#pragma unroll
  for (int i = 0; i < kPerGroup; ++i) {
    const int local = i * kGroups + group;
    key[i] = value[i] = make_uint4(0, 0, 0, 0);
    if (local < count && first + local < cached) {
      const __half* at = mine_kv + block_of[i] * block_halves + ((first + local) & ((1 << shift) - 1)) * D;
      key[i] = __ldcg(reinterpret_cast<const uint4*>(at));
      value[i] = __ldcg(reinterpret_cast<const uint4*>(at + value_halves));
    }
  }
  dependency_wait();
  const int row = pass.first_row[sequence];
  const __half* from = qkv + (static_cast<size_t>(row) * kv.heads + head) * 3 * D;
  const bool owner = first <= cached && cached < first + count;
  const size_t angle = static_cast<size_t>(pass.positions[row]) * (D / 2);
  for (int i = tid; i < D / 2; i += kThreads) {
    const float c = __half2float(rotary.cos[angle + i]), s = __half2float(rotary.sin[angle + i]);
    const float qa = __half2float(from[i]), qb = __half2float(from[i + D / 2]);
    // Rounded as the prompt's path rounds it, so both see the same query.
    q_shared[i] = __half2float(__float2half(qa * c - qb * s));
    q_shared[i + D / 2] = __half2float(__float2half(qb * c + qa * s));
    if (owner) {
      const int block = blocks[cached >> shift], offset = cached & ((1 << shift) - 1);
      __half* to_key = kv.data + kv.offset(block, 0, head, offset);
      __half* to_value = kv.data + kv.offset(block, 1, head, offset);
      const float ka = __half2float(from[D + i]), kb = __half2float(from[D + i + D / 2]);
      to_key[i] = new_key[i] = __float2half(ka * c - kb * s);
      to_key[i + D / 2] = new_key[i + D / 2] = __float2half(kb * c + ka * s);
      to_value[i] = new_value[i] = from[2 * D + i];
      to_value[i + D / 2] = new_value[i + D / 2] = from[2 * D + i + D / 2];
    }
  }
  __syncthreads();
  float q[8];
#pragma unroll
  for (int e = 0; e < 8; ++e) q[e] = q_shared[lane * 8 + e];
  const float scale = rsqrtf(static_cast<float>(D));
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerGroup; ++i) {
    const int local = i * kGroups + group;
    if (owner && first + local == cached) {
      key[i] = reinterpret_cast<const uint4*>(new_key)[lane];
      value[i] = reinterpret_cast<const uint4*>(new_value)[lane];
    }
    float k[8], dot = 0;
    unpack8(k, key[i]);
#pragma unroll
    for (int e = 0; e < 8; ++e) dot = fmaf(q[e], k[e], dot);
#pragma unroll
    for (int offset = kLanes / 2; offset; offset >>= 1) dot += __shfl_xor_sync(0xffffffffu, dot, offset);
    dot *= scale;
    if (local < count) {
      largest = fmaxf(largest, dot);
      if (lane == 0) scores[local] = dot;
    }
  }
  largest = warp_max(largest);
  if ((tid & 31) == 0) reduce[tid >> 5] = largest;
  __syncthreads();
  largest = fmaxf(fmaxf(reduce[0], reduce[1]), fmaxf(reduce[2], reduce[3]));
  float acc[8] = {}, total = 0;
#pragma unroll
  for (int i = 0; i < kPerGroup; ++i) {
    const int local = i * kGroups + group;
    if (local >= count) continue;
    const float p = __expf(scores[local] - largest);
    float v[8];
    unpack8(v, value[i]);
#pragma unroll
    for (int e = 0; e < 8; ++e) acc[e] = fmaf(p, v[e], acc[e]);
    if (lane == 0) total += p;
  }
#pragma unroll
  for (int offset = kLanes; offset < 32; offset <<= 1) {
#pragma unroll
    for (int e = 0; e < 8; ++e) acc[e] += __shfl_xor_sync(0xffffffffu, acc[e], offset);
  }
  total = warp_sum(total);
  if ((tid & 31) == 0) reduce[4 + (tid >> 5)] = total;
  if ((tid & 31) < kLanes) {
#pragma unroll
    for (int e = 0; e < 8; ++e) part[tid >> 5][lane * 8 + e] = acc[e];
  }
  __syncthreads();
  total = (reduce[4] + reduce[5]) + (reduce[6] + reduce[7]);
  __half* to = out + (static_cast<size_t>(row) * kv.heads + head) * D;
  if (splits == 1) {
    for (int i = tid; i < D; i += kThreads) {
      to[i] = __float2half(((part[0][i] + part[1][i]) + (part[2][i] + part[3][i])) / total);
    }
    return;
  }
  const int unit = sequence * kv.heads + head;
  float* mine = scratch.partial + (static_cast<size_t>(unit) * max_splits + split) * (D + 2);
  for (int i = tid; i < D; i += kThreads) {
    __stcg(mine + 2 + i, (part[0][i] + part[1][i]) + (part[2][i] + part[3][i]));
  }
  if (tid == 0) {
    __stcg(mine, largest);
    __stcg(mine + 1, total);
  }
  __threadfence();
  __syncthreads();
  if (tid == 0) {
    is_last = atomicAdd(scratch.counters + unit, 1u) == static_cast<unsigned>(splits - 1);
    if (is_last) scratch.counters[unit] = 0;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  const float* parts = scratch.partial + static_cast<size_t>(unit) * max_splits * (D + 2);
  float top = -INFINITY;
  for (int s = 0; s < splits; ++s) top = fmaxf(top, __ldcg(parts + s * (D + 2)));
  float sum = 0;
  for (int s = 0; s < splits; ++s) {
    sum += __ldcg(parts + s * (D + 2) + 1) * __expf(__ldcg(parts + s * (D + 2)) - top);
  }
  for (int i = tid; i < D; i += kThreads) {
    float v = 0;
#pragma unroll 4
    for (int s = 0; s < splits; ++s) {
      v = fmaf(__ldcg(parts + s * (D + 2) + 2 + i), __expf(__ldcg(parts + s * (D + 2)) - top), v);
    }
    to[i] = __float2half(v / sum);
  }
}

}  // namespace

size_t attention_decode_floats(int sequences, int heads, int head_dim, int max_visible) {
  const int splits = (max_visible + kChunk - 1) / kChunk;
  return static_cast<size_t>(sequences) * heads * splits * (head_dim + 2);
}

bool attention_decode(__half* out, const __half* qkv, const KvLayer& kv, const RotaryTable& rotary,
                      const PassView& pass, const AttentionScratch& scratch, bool overlap, cudaStream_t stream) {
  const int shift = std::countr_zero(static_cast<unsigned>(kv.block_size));
  if (pass.max_rows != 1 || kv.block_size != 1 << shift) return false;
  const int splits = (pass.max_visible + kChunk - 1) / kChunk;
  if (attention_decode_floats(pass.sequences, kv.heads, kv.head_dim, pass.max_visible) > scratch.floats ||
      static_cast<size_t>(pass.sequences) * kv.heads > scratch.count) {
    return false;
  }
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(kv.heads),
                  static_cast<unsigned>(pass.sequences));
  const Launch how{grid, dim3(kThreads), 0, stream, overlap};
  switch (kv.head_dim) {
    case 8:
      launch(how, decode_kernel<8>, out, qkv, kv, rotary, pass, scratch, splits, shift);
      return true;
    case 16:
      launch(how, decode_kernel<16>, out, qkv, kv, rotary, pass, scratch, splits, shift);
      return true;
    case 32:
      launch(how, decode_kernel<32>, out, qkv, kv, rotary, pass, scratch, splits, shift);
      return true;
    case 64:
      launch(how, decode_kernel<64>, out, qkv, kv, rotary, pass, scratch, splits, shift);
      return true;
    case 128:
      launch(how, decode_kernel<128>, out, qkv, kv, rotary, pass, scratch, splits, shift);
      return true;
    default:
      return false;
  }
}

}  // namespace glm::cuda
