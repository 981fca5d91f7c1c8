// Attention over the paged KV cache, with rotary positions and the append of new keys and values.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace glm::cuda {

// One layer's cache: [blocks, 2 (k, v), heads, block_size, head_dim] f16.
struct KvLayer {
  __half* data = nullptr;
  int heads = 0;
  int head_dim = 0;
  int block_size = 0;

  __host__ __device__ int64_t offset(int block, int which, int head, int token) const {
    return (((static_cast<int64_t>(block) * 2 + which) * heads + head) * block_size + token) * head_dim;
  }
};

// cos and sin [positions, head_dim / 2] f16, rounded as the original rounds them.
struct RotaryTable {
  const __half* cos = nullptr;
  const __half* sin = nullptr;
};

// What the ops know of a pass; arrays are in device memory, the plain numbers are maxima over the sequences.
struct PassView {
  const int* positions = nullptr;     // [rows]
  const int* row_sequence = nullptr;  // [rows] which sequence a row belongs to
  const int* first_row = nullptr;     // [sequences], as are the next three
  const int* rows = nullptr;
  const int* cached = nullptr;
  const int* prefix = nullptr;
  const int* blocks = nullptr;  // [sequences, max_blocks]
  int max_blocks = 0;
  int sequences = 0;
  int total_rows = 0;
  int max_rows = 0;     // of a sequence
  int max_visible = 0;  // tokens that any row sees
};

// Room for partial results of split attention: `floats` floats, and counters that are zero between kernels.
struct AttentionScratch {
  float* partial = nullptr;
  size_t floats = 0;
  unsigned* counters = nullptr;  // [sequences * heads] at most `count`
  size_t count = 0;
};

// Decode: every sequence has one row. Rotates, appends and attends in one kernel. Returns false where the head size or
// the scratch does not suit it.
bool attention_decode(__half* out, const __half* qkv, const KvLayer& kv, const RotaryTable& rotary,
                      const PassView& pass, const AttentionScratch& scratch, bool overlap, cudaStream_t stream);
size_t attention_decode_floats(int sequences, int heads, int head_dim, int max_visible);

// Any pass: q in `qkv` is rotated in place, k and v go to the cache, then rows attend.
void rotate_and_append(__half* qkv, const KvLayer& kv, const RotaryTable& rotary, const PassView& pass, bool overlap,
                       cudaStream_t stream);
void attention_prompt(__half* out, const __half* qkv, const KvLayer& kv, const PassView& pass, bool overlap,
                      cudaStream_t stream);
void prepare_attention();

// Copies blocks (from, to) [count, 2] of one layer's cache.
void copy_kv_blocks(const KvLayer& kv, const int* pairs, int count, cudaStream_t stream);

}  // namespace glm::cuda
