// The CPU backend: f32 activations and arithmetic, weights read in the form they have in the artifact (mapped, not
// copied), one thread per rank. Every result of a row is independent of the rows computed beside it.
#pragma once

#include <memory>
#include <vector>

#include "cpu/kernels.h"
#include "ops/backend.h"

namespace glm::cpu {

// K and V of one layer: [blocks, 2 (k, v), heads, block_size, head_dim] f32.
class KvCache {
 public:
  KvCache() = default;
  KvCache(int layers, int heads, int head_dim, int num_blocks, int block_size);
  float* key(int layer, int block, int head, int offset) { return at(layer, block, 0, head, offset); }
  float* value(int layer, int block, int head, int offset) { return at(layer, block, 1, head, offset); }
  void copy_block(int from, int to);
  int heads() const { return heads_; }
  int head_dim() const { return head_dim_; }
  int block_size() const { return block_size_; }

 private:
  float* at(int layer, int block, int which, int head, int offset) {
    const int64_t index = (((static_cast<int64_t>(block) * 2 + which) * heads_ + head) * block_size_ + offset);
    return layers_[static_cast<size_t>(layer)].data() + index * head_dim_;
  }
  int heads_ = 0, head_dim_ = 0, block_size_ = 1;
  int64_t block_floats_ = 0;
  std::vector<std::vector<float>> layers_;
};

// The original's rotary angles: the inverse frequencies and the angles are rounded to fp16, and so are cos and sin.
struct RotaryTable {
  RotaryTable() = default;
  RotaryTable(int positions, int head_dim);
  const float* cos(int position) const { return cos_.data() + static_cast<int64_t>(position) * half_; }
  const float* sin(int position) const { return sin_.data() + static_cast<int64_t>(position) * half_; }
  // x [head_dim] becomes its rotation: pairs are (i, i + head_dim / 2).
  void rotate(float* x, int position) const;

 private:
  int half_ = 0;
  std::vector<float> cos_, sin_;
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const Kernels& k) : kernels_(k) {}

  DType activation_dtype() const override { return DType::f32; }
  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override;
  Weight load(const Weight& source) override;
  Tensor load_vector(const Half* source, int64_t count) override;
  void allocate_kv(int layers, int heads, int head_dim, int num_blocks, int block_size, int max_positions) override;
  void begin(const Pass& pass) override { pass_ = &pass; }
  void copy_blocks(std::span<const std::pair<int, int>> pairs) override;
  void embed(Tensor out, const Weight& table, int first_id) override;
  void layernorm(Tensor out, Tensor x, Tensor gamma, Tensor beta, float eps) override;
  void linear(Tensor out, Tensor x, const Weight& w, Tensor bias) override;
  void geglu_linear(Tensor out, Tensor x, const Weight& w, Tensor bias) override;
  void attention(Tensor out, Tensor qkv, int layer) override;
  void residual_layernorm(Tensor out, Tensor sum, Tensor bias, Tensor residual, float alpha, Tensor gamma, Tensor beta,
                          float eps) override;
  void gather_logit_rows(Tensor out, Tensor x, int64_t first) override;
  void sample(std::span<const SampleRow> rows, Tensor logits, std::span<SampleResult> results) override;
  void download(float* out, Tensor x) override;
  void synchronize() override {}

 private:
  const Kernels& kernels_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
  std::vector<float> scratch_;  // dequantized rows of a matmul
  std::vector<float> wide_;     // geglu's two halves before they are multiplied
  std::vector<float> scores_;   // one head's attention
  KvCache kv_;
  RotaryTable rotary_;
  const Pass* pass_ = nullptr;
};

// One row of logits [vocab] -> a token or a beam's candidates.
SampleResult sample_row(const SampleRow& row, const float* logits, int vocab);
// The distribution that sample_row draws from, all vocab entries: probabilities after temperature, top-k and top-p.
std::vector<float> sampling_probabilities(const SampleRow& row, const float* logits, int vocab);

}  // namespace glm::cpu
