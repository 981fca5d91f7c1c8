// Every selection is a search for a threshold: the k-th largest value, or the value at which the probability mass
// reaches top-p. Values are mapped to integers of the same order and the threshold is found four bits at a time, by
// counts and by fixed-point masses: integers add up to the same whatever the order, so a draw repeats to the bit.
#include <climits>

#include "core/philox.h"
#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/sample.h"

namespace glm::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr float kRemoved = -65504.0f;  // what the original writes over a logit that it removes

// Larger floats give larger integers.
__device__ __forceinline__ uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);  // -0 becomes +0
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

// f(i, x[i]) for every i, in any order: by 16 bytes where the row allows it, several loads in flight.
template <typename F>
__device__ __forceinline__ void for_each(const float* x, int n, F f) {
  int i = 0;
  if ((reinterpret_cast<uintptr_t>(x) & 15) == 0) {
    const int vectors = n / 4;
#pragma unroll 4
    for (int k = threadIdx.x; k < vectors; k += kThreads) {
      const float4 v = reinterpret_cast<const float4*>(x)[k];
      f(4 * k, v.x);
      f(4 * k + 1, v.y);
      f(4 * k + 2, v.z);
      f(4 * k + 3, v.w);
    }
    i = vectors * 4;
  }
#pragma unroll 4
  for (i += threadIdx.x; i < n; i += kThreads) f(i, x[i]);
}

struct Block {
  double sums[32];
  float tops[32];
  int indices[32];
  int counts[16];
  unsigned long long masses[16];
  int listed;
  SampleListed list[kMaxListed];
};

__device__ float block_max(Block& b, float v) {
  v = warp_max(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) b.tops[threadIdx.x / 32] = v;
  __syncthreads();
  return warp_max(b.tops[threadIdx.x % 32]);
}

__device__ double block_sum(Block& b, double v) {
  for (int offset = 16; offset; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) b.sums[threadIdx.x / 32] = v;
  __syncthreads();
  double sum = b.sums[threadIdx.x % 32];
  for (int offset = 16; offset; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  return sum;
}

__device__ int block_count(Block& b, int v) {
  return static_cast<int>(block_sum(b, v) + 0.5);
}

// The index of the largest value, the lower index among equals.
__device__ int block_argmax(Block& b, float v, int index) {
  for (int offset = 16; offset; offset >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, v, offset);
    const int other_index = __shfl_xor_sync(0xffffffffu, index, offset);
    if (other > v || (other == v && other_index < index)) {
      v = other;
      index = other_index;
    }
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) {
    b.tops[threadIdx.x / 32] = v;
    b.indices[threadIdx.x / 32] = index;
  }
  __syncthreads();
  float top = b.tops[0];
  int best = b.indices[0];
  for (int i = 1; i < 32; ++i) {
    if (b.tops[i] > top || (b.tops[i] == top && b.indices[i] < best)) {
      top = b.tops[i];
      best = b.indices[i];
    }
  }
  return best;
}

// What lies at or above a threshold: everything above `key`, and of those equal to it as many as `ties`.
struct Threshold {
  uint32_t key;
  int ties;
};

// The k-th largest of x; ties = how many equal to it belong to the k largest. 1 <= k <= n.
__device__ __noinline__ Threshold kth_largest(Block& b, const float* x, int n, int k) {
  uint32_t prefix = 0;
  int wanted = k;
  for (int shift = 28; shift >= 0; shift -= 4) {
    uint32_t low[2] = {0, 0}, high[2] = {0, 0};  // sixteen byte counters
    for_each(x, n, [&](int, float v) {
      const uint32_t key = ordered(v);
      if (shift < 28 && (key >> (shift + 4)) != (prefix >> (shift + 4))) return;
      const uint32_t digit = key >> shift & 15u, one = 1u << (digit % 4 * 8);
      if (digit < 8) {
        low[0] += digit < 4 ? one : 0u;
        low[1] += digit < 4 ? 0u : one;
      } else {
        high[0] += digit < 12 ? one : 0u;
        high[1] += digit < 12 ? 0u : one;
      }
    });
    __syncthreads();
    if (threadIdx.x < 16) b.counts[threadIdx.x] = 0;
    __syncthreads();
    const uint32_t packed[4] = {low[0], low[1], high[0], high[1]};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      uint32_t even = packed[w] & 0x00ff00ffu, odd = packed[w] >> 8 & 0x00ff00ffu;
      for (int offset = 16; offset; offset >>= 1) {
        even += __shfl_xor_sync(0xffffffffu, even, offset);
        odd += __shfl_xor_sync(0xffffffffu, odd, offset);
      }
      if (threadIdx.x % 32 == 0) {
        atomicAdd(b.counts + 4 * w, static_cast<int>(even & 0xffff));
        atomicAdd(b.counts + 4 * w + 1, static_cast<int>(odd & 0xffff));
        atomicAdd(b.counts + 4 * w + 2, static_cast<int>(even >> 16));
        atomicAdd(b.counts + 4 * w + 3, static_cast<int>(odd >> 16));
      }
    }
    __syncthreads();
    int digit = 15;
    for (; digit > 0 && b.counts[digit] < wanted; --digit) wanted -= b.counts[digit];
    prefix |= static_cast<uint32_t>(digit) << shift;
  }
  return {prefix, wanted};
}

// The index below which exactly `ties` values equal `key` lie; n if that is all of them.
__device__ int tie_limit(Block& b, const float* x, int n, Threshold t) {
  auto ties_below = [&](int limit) {
    int count = 0;
    for_each(x, limit, [&](int, float v) { count += ordered(v) == t.key; });
    return block_count(b, count);
  };
  if (ties_below(n) <= t.ties) return n;
  int low = 0, high = n;  // ties_below(low) < ties <= ties_below(high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (ties_below(middle) < t.ties) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return high;
}

// Fixed-point probability relative to the largest: 40 bits.
__device__ __forceinline__ unsigned long long mass_of(float x, float largest) {
  return static_cast<unsigned long long>(static_cast<double>(expf(x - largest)) * 1099511627776.0);
}

// A column of masses for each digit and thread in dynamic shared memory; `bits` of a key are looked at in one go.
struct Columns {
  unsigned long long* mass;
  int bits;
};

constexpr int columns_bytes(int bits) {
  return (1 << bits) * kThreads * 8;
}

// The threshold of top-p among values with key >= least: a token stays if the mass before it, larger values first and
// lower indices first among equals, is at most top_p of the whole.
__device__ Threshold nucleus(Block& b, const Columns& columns, const float* x, int n, uint32_t least, float top_p,
                             float largest) {
  const int digits = 1 << columns.bits;
  uint32_t prefix = 0;
  unsigned long long above = 0, bound = 0;  // mass above the prefix; mass that may lie before a token that stays
  for (int shift = 32 - columns.bits; shift >= 0; shift -= columns.bits) {
    const bool whole = shift + columns.bits == 32;
    __syncthreads();
    for (int d = 0; d < digits; ++d) columns.mass[d * kThreads + threadIdx.x] = 0;
    for_each(x, n, [&](int, float v) {
      const uint32_t key = ordered(v);
      if (key < least || (!whole && ((key ^ prefix) >> (shift + columns.bits)) != 0)) return;
      columns.mass[(key >> shift & (digits - 1u)) * kThreads + threadIdx.x] += mass_of(v, largest);
    });
    __syncthreads();
    const int warp = threadIdx.x / 32;
    if (warp < digits) {
      unsigned long long sum = 0;
      for (int i = threadIdx.x % 32; i < kThreads; i += 32) sum += columns.mass[warp * kThreads + i];
      for (int offset = 16; offset; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      if (threadIdx.x % 32 == 0) b.masses[warp] = sum;
    }
    __syncthreads();
    if (whole) {
      unsigned long long total = 0;
      for (int d = 0; d < digits; ++d) total += b.masses[d];
      bound = static_cast<unsigned long long>(static_cast<double>(top_p) * static_cast<double>(total));
    }
    // The lowest digit with a token that stays: the mass above it is within the bound.
    int chosen = 0;
    unsigned long long before = above, chosen_above = above;
    for (int digit = digits - 1; digit >= 0 && before <= bound; --digit) {
      if (b.masses[digit] > 0) {
        chosen = digit;
        chosen_above = before;
      }
      before += b.masses[digit];
    }
    prefix |= static_cast<uint32_t>(chosen) << shift;
    above = chosen_above;
  }
  const uint32_t bits = prefix ^ (prefix >> 31 ? 0x80000000u : 0xffffffffu);
  const unsigned long long each = mass_of(__uint_as_float(bits), largest);
  const unsigned long long room = bound >= above ? bound - above : 0;
  const unsigned long long ties = each ? room / each + 1 : 0x7fffffffull;
  return {prefix, static_cast<int>(ties < 0x7fffffffull ? ties : 0x7fffffffull)};
}

// The k best of x into b.list, best first, lower tokens first among equals; returns their number.
__device__ int list_best(Block& b, const float* x, int n, int k) {
  k = min(min(k, n), kMaxListed);
  if (k <= 0) return 0;
  const Threshold t = kth_largest(b, x, n, k);
  const int limit = tie_limit(b, x, n, t);
  __syncthreads();
  if (threadIdx.x == 0) b.listed = 0;
  __syncthreads();
  for_each(x, n, [&](int i, float v) {
    const uint32_t key = ordered(v);
    if (key > t.key || (key == t.key && i < limit)) {
      const int at = atomicAdd(&b.listed, 1);
      if (at < kMaxListed) b.list[at] = {i, v, v};
    }
  });
  __syncthreads();
  // Rank each by counting who comes before it: the list is short.
  SampleListed mine{};
  int rank = -1;
  if (static_cast<int>(threadIdx.x) < k) {
    mine = b.list[threadIdx.x];
    rank = 0;
    for (int i = 0; i < k; ++i) {
      const SampleListed& other = b.list[i];
      rank += other.key > mine.key || (other.key == mine.key && other.token < mine.token);
    }
  }
  __syncthreads();
  if (rank >= 0) b.list[rank] = mine;
  __syncthreads();
  return k;
}

__device__ double log_sum_exp(Block& b, const float* x, int n) {
  float top = -INFINITY;
  for_each(x, n, [&](int, float v) { top = fmaxf(top, v); });
  top = block_max(b, top);
  double sum = 0;
  for_each(x, n, [&](int, float v) { sum += static_cast<double>(expf(v - top)); });
  return top + log(block_sum(b, sum));
}

// The few tokens that can be among the k largest, in the order of tokens: values and tokens of `count` entries, or
// count 0 where they are too many for `values` and `tokens` (kMaxListed each). Every thread knows the largest of its
// own values; the k-th largest of those is at most the k-th largest of all.
__device__ int shortlist(Block& b, const float* x, int n, int k, float own_top, float* values, int* tokens) {
  float* tops = reinterpret_cast<float*>(b.list);
  __syncthreads();
  tops[threadIdx.x] = own_top;
  __syncthreads();
  const uint32_t least = kth_largest(b, tops, kThreads, k).key;
  __syncthreads();
  if (threadIdx.x == 0) b.listed = 0;
  __syncthreads();
  for_each(x, n, [&](int i, float v) {
    if (ordered(v) < least) return;
    const int at = atomicAdd(&b.listed, 1);
    if (at < kMaxListed) b.list[at] = {i, v, v};
  });
  __syncthreads();
  const int count = b.listed;
  if (count > kMaxListed) return 0;
  if (static_cast<int>(threadIdx.x) < count) {
    const SampleListed mine = b.list[threadIdx.x];
    int rank = 0;
    for (int i = 0; i < count; ++i) rank += b.list[i].token < mine.token;
    values[rank] = mine.score;
    tokens[rank] = mine.token;
  }
  __syncthreads();
  return count;
}

// x is divided by the temperature in place; `room` [n] is for a shortlist.
__device__ int draw(Block& b, const Columns& columns, const SampleJob& job, float* x, float* room, int n) {
  float own_top = -INFINITY;
  for (int i = threadIdx.x; i < n; i += kThreads) {
    const float v = x[i] / job.temperature;
    x[i] = v;
    own_top = fmaxf(own_top, v);
  }
  const float top = block_max(b, own_top);
  const int* tokens = nullptr;
  if (job.top_k > 0 && job.top_k <= 256 && n >= 4 * kMaxListed) {
    int* listed = reinterpret_cast<int*>(room + kMaxListed);
    const int count = shortlist(b, x, n, job.top_k, own_top, room, listed);
    if (count > 0) {
      x = room;
      tokens = listed;
      n = count;
    }
  }
  uint32_t least = 0;
  if (job.top_k > 0 && job.top_k < n) least = kth_largest(b, x, n, job.top_k).key;  // ties with the k-th stay
  int limit = n;
  uint32_t tied = least;
  if (job.top_p > 0.0f && job.top_p < 1.0f) {
    const Threshold t = nucleus(b, columns, x, n, least, job.top_p, top);
    tied = t.key;
    limit = tie_limit(b, x, n, t);
  }
  float best = -INFINITY;
  int token = INT_MAX;
  for_each(x, n, [&](int i, float v) {
    const uint32_t key = ordered(v);
    if (key < tied || (key == tied && i >= limit)) return;
    const int id = tokens ? tokens[i] : i;
    const float noisy = v + gumbel_noise(job.seed, job.choice, job.step, static_cast<uint32_t>(id));
    if (noisy > best || (noisy == best && id < token)) {
      best = noisy;
      token = id;
    }
  });
  return block_argmax(b, best, token);
}

__global__ __launch_bounds__(kThreads) void sample_kernel(const SampleJob* jobs, const SampleEdits edits,
                                                          const float* logits, int n, float* scratch,
                                                          SampleOutcome* outcomes, SampleListed* listed, int max_listed,
                                                          int column_bits) {
  extern __shared__ unsigned long long masses[];
  const Columns columns{masses, column_bits};
  __shared__ Block b;
  const SampleJob job = jobs[blockIdx.x];
  const float* raw = logits + static_cast<size_t>(job.logits_row) * n;
  float* x = scratch + static_cast<size_t>(blockIdx.x) * 2 * n;
  float* keys = x + n;  // candidates with noise, or a shortlist
  SampleListed* list = listed + static_cast<size_t>(blockIdx.x) * max_listed;
  int bad = 0;
  for_each(raw, n, [&](int i, float v) {
    bad += !isfinite(v);
    x[i] = v;
  });
  if (block_count(b, bad) > 0) {
    if (threadIdx.x == 0) outcomes[blockIdx.x] = {0, -1, 0.0f, 0};
    return;
  }
  for (int i = job.bias[0] + threadIdx.x; i < job.bias[1]; i += kThreads) x[edits.bias_token[i]] += edits.bias_value[i];
  __syncthreads();
  for (int i = job.seen[0] + threadIdx.x; i < job.seen[1]; i += kThreads) {
    float v = x[edits.seen_token[i]];
    v = v > 0 ? v / job.repetition_penalty : v * job.repetition_penalty;
    const int generated = edits.seen_generated[i];
    if (generated > 0) v -= job.frequency_penalty * static_cast<float>(generated) + job.presence_penalty;
    x[edits.seen_token[i]] = v;
  }
  __syncthreads();
  for (int i = job.banned[0] + threadIdx.x; i < job.banned[1]; i += kThreads) x[edits.banned[i]] = kRemoved;
  __syncthreads();
  if (job.candidates > 0) {
    const double normalizer = log_sum_exp(b, x, n);
    for (int i = threadIdx.x; i < n; i += kThreads) {
      const float score = job.score + static_cast<float>(static_cast<double>(x[i]) - normalizer);
      x[i] = score;
      keys[i] = job.noise ? score + gumbel_noise(job.seed, job.choice, job.step, static_cast<uint32_t>(i)) : score;
    }
    __syncthreads();
    const int count = list_best(b, keys, n, min(job.candidates, max_listed));
    for (int i = threadIdx.x; i < count; i += kThreads) {
      const SampleListed entry = b.list[i];
      list[i] = {entry.token, x[entry.token], entry.key};
    }
    if (threadIdx.x == 0) outcomes[blockIdx.x] = {1, -1, 0.0f, count};
    return;
  }
  int token;
  if (job.temperature == 0.0f || job.top_k == 1) {
    float best = -INFINITY;
    token = n;
    for_each(x, n, [&](int i, float v) {
      if (v > best) {
        best = v;
        token = i;
      }
    });
    token = block_argmax(b, best, token);
  } else {
    token = draw(b, columns, job, x, keys, n);
  }
  SampleOutcome outcome{1, token, 0.0f, 0};
  if (job.logprobs >= 0) {
    const double normalizer = log_sum_exp(b, raw, n);
    outcome.logprob = static_cast<float>(static_cast<double>(raw[token]) - normalizer);
    outcome.listed = list_best(b, raw, n, min(job.logprobs, max_listed));
    for (int i = threadIdx.x; i < outcome.listed; i += kThreads) {
      const SampleListed entry = b.list[i];
      list[i] = {entry.token, static_cast<float>(static_cast<double>(entry.score) - normalizer), 0.0f};
    }
  }
  if (threadIdx.x == 0) outcomes[blockIdx.x] = outcome;
}

}  // namespace

int prepare_sample() {
  int limit = 0, device = 0;
  GLM_CUDA_CHECK(cudaGetDevice(&device));
  GLM_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const int bits = limit >= columns_bytes(4) + static_cast<int>(sizeof(Block)) + 1024 ? 4 : 2;
  GLM_CUDA_CHECK(cudaFuncSetAttribute(sample_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, columns_bytes(bits)));
  return bits;
}

void sample_rows(const SampleJob* jobs, const SampleEdits& edits, int rows, const float* logits, int vocab,
                 const SampleBuffers& buffers, cudaStream_t stream) {
  GLM_CHECK(vocab <= kMaxVocabulary, "sampling: a vocabulary of at most ", kMaxVocabulary, "; got ", vocab);
  launch(Launch{dim3(static_cast<unsigned>(rows)), dim3(kThreads),
                static_cast<size_t>(columns_bytes(buffers.column_bits)), stream, false},
         sample_kernel, jobs, edits, logits, vocab, buffers.scratch, buffers.outcomes, buffers.listed,
         buffers.max_listed, buffers.column_bits);
}

}  // namespace glm::cuda
