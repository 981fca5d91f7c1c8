// The seam between the model and whatever computes it: one Backend per rank. The CPU backend is the embedded default
// and the oracle of every CUDA op. Outputs come first and are allocated by the caller (`allocate`); T is the number of
// rows of the pass, h the hidden size, n and m a weight's rows and columns on this rank. Activations have the dtype
// that activation_dtype() names (CPU: f32, CUDA: f16). Ops are asynchronous unless they say otherwise; `synchronize`
// waits.
#pragma once

#include <memory>
#include <span>

#include "core/config.h"
#include "core/step.h"
#include "core/tensor.h"

namespace glm {

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DType activation_dtype() const = 0;

  // Memory that lives as long as the backend; contents are undefined.
  virtual Tensor allocate(DType dtype, int64_t rows, int64_t cols) = 0;
  // A weight from host memory [rows, cols] (`source.data` stays mapped while the backend lives), in the form that this
  // backend's kernels read. `source.scale` is set where dtype is i8 or i4.
  virtual Weight load(const Weight& source) = 0;
  // The same for a weight that geglu_linear will read; a backend may pair its halves' rows.
  virtual Weight load_geglu(const Weight& source) { return load(source); }
  // A vector (bias, LayerNorm parameter) of `count` fp16 values from host memory.
  virtual Tensor load_vector(const Half* source, int64_t count) = 0;
  // KV cache: num_blocks blocks of block_size tokens for every layer, `heads` heads of this rank.
  virtual void allocate_kv(int layers, int heads, int head_dim, int num_blocks, int block_size, int max_positions) = 0;

  // Makes the pass's tokens, positions and block tables known to the ops below, until the next call.
  virtual void begin(const Pass& pass) = 0;
  // Copies KV blocks (from, to) in every layer.
  virtual void copy_blocks(std::span<const std::pair<int, int>> pairs) = 0;

  // out [T, h]: rows of `table` [V/N, h] for tokens in [first_id, first_id + V/N), zero for all others.
  virtual void embed(Tensor out, const Weight& table, int first_id) = 0;
  // out [T, h] = (x - mean) / sqrt(var + eps) * gamma + beta, per row.
  virtual void layernorm(Tensor out, Tensor x, Tensor gamma, Tensor beta, float eps) = 0;
  // out [T, n] = x [T, m] . w [n, m]^T (+ bias [n], where bias.data is set).
  virtual void linear(Tensor out, Tensor x, const Weight& w, Tensor bias) = 0;
  // out [T, n/2] = (x . w1^T + b1) * gelu(x . w2^T + b2), w1 and w2 the upper and lower half of w's rows; gelu with
  // erf.
  virtual void geglu_linear(Tensor out, Tensor x, const Weight& w, Tensor bias) = 0;
  // out [T, heads * d] from qkv [T, heads * (q, k, v) * d]: rotates q and k by the rows' positions, appends k and v to
  // the cache of `layer`, and attends as StepSequence says.
  virtual void attention(Tensor out, Tensor qkv, int layer) = 0;
  // out = LayerNorm(residual * alpha + sum + bias): GLM's residual is the normalised value of the block before. `out`
  // may be `residual`; `sum` may be overwritten.
  virtual void residual_layernorm(Tensor out, Tensor sum, Tensor bias, Tensor residual, float alpha, Tensor gamma,
                                  Tensor beta, float eps) = 0;
  // out [count, h]: rows of x that pass.logit_rows[first, first + count) name; count is out.rows.
  virtual void gather_logit_rows(Tensor out, Tensor x, int64_t first) = 0;

  // Takes a token, or a beam's candidates, for each row of logits [R, V] f32. Waits for the results.
  virtual void sample(std::span<const SampleRow> rows, Tensor logits, std::span<SampleResult> results) = 0;
  // Copies a tensor to host memory as f32 [rows * cols]. Waits for the result.
  virtual void download(float* out, Tensor x) = 0;
  virtual void synchronize() = 0;
};

std::unique_ptr<Backend> make_cpu_backend();
// The backend on GPU `device`; throws where this build or this machine has none.
std::unique_ptr<Backend> make_cuda_backend(int device);

}  // namespace glm
