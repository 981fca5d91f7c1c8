// One new row for each sequence. A block takes one head of one sequence and a share of its tokens; groups of d / 8
// lanes read one token at a time, 16 bytes a lane, and keep a running softmax of their own, so nothing waits for the
// block until the end. The first keys and values are asked for before the kernel waits for the one before, of which it
// needs only q, k and v. The last block of a head to finish adds the parts in order, so the result does not depend on
// which one that is; nor does it depend on the batch: a sequence is divided by its own length.
#include <algorithm>
#include <bit>

#include "cuda/attention.h"
#include "cuda/device.cuh"
#include "cuda/launch.h"

namespace glm::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 4;  // tokens of a group that are in flight
constexpr int kMaxSplits = 32;
constexpr int kBlocksWanted = 528;  // four a multiprocessor of an H100, for one sequence

// Shares of a head's tokens, so that one sequence fills the device in one go; multiples of 64 tokens.
__host__ __device__ inline int share_of(int visible, int heads) {
  const int most = kBlocksWanted / heads < 1            ? 1
                   : kBlocksWanted / heads > kMaxSplits ? kMaxSplits
                                                        : kBlocksWanted / heads;
  return ((visible + most - 1) / most + 63) / 64 * 64;
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

// The softmax of some tokens, not yet divided: weights relative to exp(top), their sum, and the weighted values.
struct Running {
  float top = -INFINITY;
  float total = 0;
  float acc[8] = {};

  __device__ __forceinline__ void scale_to(float new_top) {
    const float shrink = top == -INFINITY ? 0.0f : __expf(top - new_top);
    top = new_top;
    total *= shrink;
#pragma unroll
    for (int e = 0; e < 8; ++e) acc[e] *= shrink;
  }
};

// grid [splits, heads, sequences]
template <int D>
__global__ __launch_bounds__(kThreads, 4) void decode_kernel(__half* out, const __half* qkv, const KvLayer kv,
                                                             const RotaryTable rotary, const PassView pass,
                                                             const AttentionScratch scratch, int max_splits,
                                                             int shift) {
  constexpr int kLanes = D / 8;                                  // lanes a token
  constexpr int kGroups = kThreads / kLanes;                     // tokens read at once
  constexpr int kParts = kLanes < 32 ? kThreads / 32 : kGroups;  // what is left after a warp's groups are merged
  __shared__ float q_shared[D], part[kParts][D], part_top[kParts], part_total[kParts], weight[kMaxSplits];
  __shared__ __align__(16) __half new_key[D], new_value[D];
  __shared__ bool is_last;
  dependency_launch();
  const int split = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z, tid = threadIdx.x;
  const int cached = pass.cached[sequence], visible = max(pass.prefix[sequence], cached + 1);
  const int row = pass.first_row[sequence], position = pass.positions[row];
  const int share = share_of(visible, kv.heads), splits = (visible + share - 1) / share;
  if (split >= splits) return;
  const int first = split * share, end = min(visible, first + share);
  const int group = tid / kLanes, lane = tid % kLanes;
  const int* blocks = pass.blocks + sequence * pass.max_blocks;
  const int64_t block_halves = kv.offset(1, 0, 0, 0), value_halves = static_cast<int64_t>(kv.heads) * kv.block_size * D;
  const __half* mine = kv.data + (static_cast<int64_t>(head) << shift) * D + lane * 8;
  uint4 key[kAhead], value[kAhead];
  auto load = [&](int from) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int token = from + i * kGroups + group;
      key[i] = value[i] = make_uint4(0, 0, 0, 0);
      if (token < end && token != cached) {
        const __half* at = mine + blocks[token >> shift] * block_halves + (token & ((1 << shift) - 1)) * D;
        key[i] = __ldcg(reinterpret_cast<const uint4*>(at));
        value[i] = __ldcg(reinterpret_cast<const uint4*>(at + value_halves));
      }
    }
  };
  load(first);
  const size_t angle = static_cast<size_t>(position) * (D / 2);
  const float c = tid < D / 2 ? __half2float(rotary.cos[angle + tid]) : 0.0f;
  const float s = tid < D / 2 ? __half2float(rotary.sin[angle + tid]) : 0.0f;
  dependency_wait();
  const __half* from = qkv + (static_cast<size_t>(row) * kv.heads + head) * 3 * D;
  const bool owner = first <= cached && cached < end;
  static_assert(D / 2 <= kThreads);
  if (tid < D / 2) {
    const int i = tid;
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
  const float scale = rsqrtf(static_cast<float>(D));
#pragma unroll
  for (int e = 0; e < 8; ++e) q[e] = q_shared[lane * 8 + e] * scale;
  Running r;
  for (int at = first; at < end; at += kAhead * kGroups) {
    uint4 k_now[kAhead], v_now[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      k_now[i] = key[i];
      v_now[i] = value[i];
      if (owner && at + i * kGroups + group == cached) {
        k_now[i] = reinterpret_cast<const uint4*>(new_key)[lane];
        v_now[i] = reinterpret_cast<const uint4*>(new_value)[lane];
      }
    }
    load(at + kAhead * kGroups);
    float dot[kAhead], top = r.top;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      float k[8];
      unpack8(k, k_now[i]);
      dot[i] = 0;
#pragma unroll
      for (int e = 0; e < 8; ++e) dot[i] = fmaf(q[e], k[e], dot[i]);
#pragma unroll
      for (int offset = kLanes / 2; offset; offset >>= 1) dot[i] += __shfl_xor_sync(0xffffffffu, dot[i], offset);
      if (at + i * kGroups + group >= end) dot[i] = -INFINITY;
      top = fmaxf(top, dot[i]);
    }
    if (top == -INFINITY) continue;  // none of this group's tokens yet
    r.scale_to(top);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const float p = __expf(dot[i] - top);
      float v[8];
      unpack8(v, v_now[i]);
#pragma unroll
      for (int e = 0; e < 8; ++e) r.acc[e] = fmaf(p, v[e], r.acc[e]);
      r.total += p;
    }
  }
#pragma unroll
  for (int offset = kLanes; offset < 32; offset <<= 1) {  // the groups of a warp
    const float top = fmaxf(r.top, __shfl_xor_sync(0xffffffffu, r.top, offset));
    if (top != -INFINITY) r.scale_to(top);
    r.total += __shfl_xor_sync(0xffffffffu, r.total, offset);
#pragma unroll
    for (int e = 0; e < 8; ++e) r.acc[e] += __shfl_xor_sync(0xffffffffu, r.acc[e], offset);
  }
  const int warp = tid >> 5;
  if ((tid & 31) < kLanes) {
#pragma unroll
    for (int e = 0; e < 8; ++e) part[warp][lane * 8 + e] = r.acc[e];
    if (lane == 0) {
      part_top[warp] = r.top;
      part_total[warp] = r.total;
    }
  }
  __syncthreads();
  float top = -INFINITY, total = 0;
#pragma unroll
  for (int w = 0; w < kParts; ++w) top = fmaxf(top, part_top[w]);
  float factor[kParts];
#pragma unroll
  for (int w = 0; w < kParts; ++w) {
    factor[w] = part_top[w] == -INFINITY ? 0.0f : __expf(part_top[w] - top);
    total = fmaf(part_total[w], factor[w], total);
  }
  auto merged = [&](int i) {
    float v = 0;
#pragma unroll
    for (int w = 0; w < kParts; ++w) v = fmaf(part[w][i], factor[w], v);
    return v;
  };
  __half* to = out + (static_cast<size_t>(row) * kv.heads + head) * D;
  if (splits == 1) {
    for (int i = tid; i < D; i += kThreads) to[i] = __float2half(merged(i) / total);
    return;
  }
  const int unit = sequence * kv.heads + head;
  float* parts = scratch.partial + static_cast<size_t>(unit) * max_splits * (D + 2);
  float* ours = parts + static_cast<size_t>(split) * (D + 2);
  for (int i = tid; i < D; i += kThreads) __stcg(ours + 2 + i, merged(i));
  if (tid == 0) {
    __stcg(ours, top);
    __stcg(ours + 1, total);
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
  if (tid < 32) {
    const float split_top = tid < splits ? __ldcg(parts + tid * (D + 2)) : -INFINITY;
    const float split_total = tid < splits ? __ldcg(parts + tid * (D + 2) + 1) : 0.0f;
    const float w = __expf(split_top - warp_max(split_top));
    weight[tid] = w / warp_sum(w * split_total);
  }
  __syncthreads();
  for (int i = tid; i < D; i += kThreads) {
    float v = 0;
#pragma unroll 8
    for (int k = 0; k < splits; ++k) v = fmaf(__ldcg(parts + k * (D + 2) + 2 + i), weight[k], v);
    to[i] = __float2half(v);
  }
}

// More splits than any sequence of at most max_visible tokens has.
int most_splits(int heads, int max_visible) {
  const int share = share_of(1, heads);
  const int by_length = (max_visible + share - 1) / share, most = std::clamp(kBlocksWanted / heads, 1, kMaxSplits);
  return std::min(by_length, most);
}

}  // namespace

size_t attention_decode_floats(int sequences, int heads, int head_dim, int max_visible) {
  return static_cast<size_t>(sequences) * heads * most_splits(heads, max_visible) * (head_dim + 2);
}

bool attention_decode(__half* out, const __half* qkv, const KvLayer& kv, const RotaryTable& rotary,
                      const PassView& pass, const AttentionScratch& scratch, bool overlap, cudaStream_t stream) {
  const int shift = std::countr_zero(static_cast<unsigned>(kv.block_size));
  if (pass.max_rows != 1 || kv.block_size != 1 << shift) return false;
  const int splits = most_splits(kv.heads, pass.max_visible);
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
