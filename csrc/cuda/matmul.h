// Matmuls with packed weights: out [tokens, outputs] = x [tokens, cols] . w^T (* scale) (+ bias), or for a paired
// weight (x . w1^T + b1) * gelu(x . w2^T + b2). One entry chooses among four kernels:
//   one token            matmul_single.cu   Hopper: weights stream through a shared ring, at the memory's speed
//   2 to 64 tokens       matmul_batch.cu    Hopper: wgmma, work split evenly over the multiprocessors
//   more                 matmul_prompt.cu   Hopper: wgmma on 128-row tiles
//   any, anywhere        matmul_any.cu      every architecture and every size; correct first
// Sums have a fixed order, so results repeat to the bit.
#pragma once

#include "cuda/packed.h"

namespace glm::cuda {

enum class MatmulKernel { automatic, single, batch, prompt, any };

// What kernels of one stream share: blocks that split a row group hand partial sums over here.
struct MatmulContext {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;
  bool hopper = false;        // compute capability 9.0: the kernels of sm_90a run
  float* partials = nullptr;  // [multiprocessors][256 rows * 64 tokens]
  unsigned* flags = nullptr;  // [multiprocessors * 8], zero between kernels
  bool reproducible = false;  // one order of summing for 1 to 64 tokens

  static constexpr size_t kPartialFloats = 256 * 64;
};

struct Matmul {
  void* out = nullptr;           // [tokens, outputs] f16, or f32 if `f32`
  const __half* x = nullptr;     // [tokens, cols]
  const __half* bias = nullptr;  // [rows] in the matrix's order; null: none
  int tokens = 0;
  bool f32 = false;
};

// Sets the kernels' shared memory limits on the current device; once per device.
void prepare_matmul(const MatmulContext& context);
void matmul(const MatmulContext& context, const PackedWeight& w, const Matmul& m,
            MatmulKernel kernel = MatmulKernel::automatic);

// The kernels behind it; each returns false where it cannot serve.
bool matmul_single(const MatmulContext& context, const PackedWeight& w, const Matmul& m);
bool matmul_batch(const MatmulContext& context, const PackedWeight& w, const Matmul& m);
bool matmul_prompt(const MatmulContext& context, const PackedWeight& w, const Matmul& m, int tile_tokens = 0);
void matmul_any(const MatmulContext& context, const PackedWeight& w, const Matmul& m);

void prepare_matmul_single();
void prepare_matmul_batch();
void prepare_matmul_prompt();

}  // namespace glm::cuda
