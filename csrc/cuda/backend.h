// The CUDA backend: fp16 activations between ops, fp32 sums, fp32 logits; one stream, one host thread. Weights are kept
// in the packed form (packed.h): Weight::data points to the backend's PackedWeight, not to device memory.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "cuda/attention.h"
#include "cuda/matmul.h"
#include "cuda/memory.h"
#include "cuda/sample.h"
#include "cuda/weight_loader.h"
#include "ops/backend.h"

namespace glm::cuda {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device);
  ~CudaBackend() override;

  DType activation_dtype() const override { return DType::f16; }
  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override;
  Weight load(const Weight& source) override { return load_packed(source, false); }
  Weight load_geglu(const Weight& source) override { return load_packed(source, true); }
  Tensor load_vector(const Half* source, int64_t count) override;
  void allocate_kv(int layers, int heads, int head_dim, int num_blocks, int block_size, int max_positions) override;
  void begin(const Pass& pass) override;
  void copy_blocks(std::span<const std::pair<int, int>> pairs) override;
  void embed(Tensor out, const Weight& table, int first_id) override;
  void layernorm(Tensor out, Tensor x, Tensor gamma, Tensor beta, float eps) override;
  void linear(Tensor out, Tensor x, const Weight& w, Tensor bias) override;
  void geglu_linear(Tensor out, Tensor x, const Weight& w, Tensor bias) override { linear(out, x, w, bias); }
  void attention(Tensor out, Tensor qkv, int layer) override;
  void residual_layernorm(Tensor out, Tensor sum, Tensor bias, Tensor residual, float alpha, Tensor gamma, Tensor beta,
                          float eps) override;
  void gather_logit_rows(Tensor out, Tensor x, int64_t first) override;
  void sample(std::span<const SampleRow> rows, Tensor logits, std::span<SampleResult> results) override;
  void download(float* out, Tensor x) override;
  void synchronize() override;

 private:
  Weight load_packed(const Weight& source, bool paired);
  void* keep(size_t bytes);
  void make_rotary(int positions, int head_dim);
  KvLayer kv_layer(int layer) const;

  int device_;
  bool overlap_ = false;  // programmatic dependent launch
  cudaStream_t stream_ = nullptr;
  MatmulContext matmul_;
  std::vector<DeviceBuffer> memory_;
  std::deque<PackedWeight> weights_;
  std::unique_ptr<WeightLoader> loader_;  // until the weights are there
  DeviceBuffer partials_, flags_;
  Uploader uploader_;

  KvLayer kv_;
  int layers_ = 0;
  int64_t layer_halves_ = 0;
  RotaryTable rotary_;

  PassView pass_;
  const int* tokens_ = nullptr;
  const int* logit_rows_ = nullptr;
  DeviceBuffer attention_partial_, attention_counters_;

  int column_bits_ = 0;
  DeviceBuffer sample_scratch_, sample_outcomes_, sample_listed_;
};

}  // namespace glm::cuda
