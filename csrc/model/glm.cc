#include "model/glm.h"

#include <string>

namespace glm {

Glm::Glm(const ModelConfig& config, const EngineConfig& engine, const ShardFile& shard, Backend& backend,
         Communicator& comm)
    : config_(config), backend_(backend), comm_(comm) {
  const int64_t h = config.hidden_size, n = comm.size();
  const int64_t local = h / n, inner = config.inner_size / n, vocab = config.vocab_size / n;
  const auto vector = [&](const std::string& name, int64_t count) {
    const Tensor values = shard.get(name, 1, count);
    GLM_CHECK(values.dtype == DType::f16, name, " must be f16; found ", glm::name(values.dtype));
    return backend.load_vector(values.as<const Half>(), count);
  };
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    return backend.load(shard.weight(name, rows, cols));
  };
  for (int i = 0; i < config.num_layers; ++i) {
    const std::string at = concat("layers.", i, ".");
    Layer layer;
    layer.input_gamma = vector(at + "input_layernorm.weight", h);
    layer.input_beta = vector(at + "input_layernorm.bias", h);
    layer.qkv = matrix(at + "attention.query_key_value.weight", 3 * local, h);
    layer.qkv_bias = vector(at + "attention.query_key_value.bias", 3 * local);
    layer.dense = matrix(at + "attention.dense.weight", h, local);
    layer.dense_bias = vector(at + "attention.dense.bias", h);
    layer.post_gamma = vector(at + "post_attention_layernorm.weight", h);
    layer.post_beta = vector(at + "post_attention_layernorm.bias", h);
    layer.up = backend.load_geglu(shard.weight(at + "mlp.dense_h_to_4h.weight", 2 * inner, h));
    layer.up_bias = vector(at + "mlp.dense_h_to_4h.bias", 2 * inner);
    layer.down = matrix(at + "mlp.dense_4h_to_h.weight", h, inner);
    layer.down_bias = vector(at + "mlp.dense_4h_to_h.bias", h);
    layers_.push_back(layer);
  }
  embedding_ = matrix("word_embeddings.weight", vocab, h);
  final_gamma_ = vector("final_layernorm.weight", h);
  final_beta_ = vector("final_layernorm.bias", h);

  const int64_t rows = engine.max_rows();
  const DType dtype = backend.activation_dtype();
  hidden_ = backend.allocate(dtype, rows, h);
  whole_ = backend.allocate(dtype, rows, h);
  sliced_ = backend.allocate(dtype, rows, h);
  qkv_ = backend.allocate(dtype, rows, 3 * local);
  heads_ = backend.allocate(dtype, rows, local);
  inner_ = backend.allocate(dtype, rows, inner);
  // Logit rows of a step: one a running sequence, and one more a finished prompt of the prefill pass.
  max_logit_rows_ = 2 * engine.max_batch_size;
  logit_hidden_ = backend.allocate(backend.activation_dtype(), max_logit_rows_, h);
  if (n > 1) rank_logits_ = backend.allocate(DType::f32, max_logit_rows_, vocab);
  if (comm.rank() == 0) all_logits_ = backend.allocate(DType::f32, max_logit_rows_, config.vocab_size);
  backend.allocate_kv(config.num_layers, config.num_heads / static_cast<int>(n), config.head_dim(), engine.blocks(),
                      engine.block_size, config.max_sequence_length);
}

void Glm::forward(const Pass& pass) {
  const int last = config_.num_layers;
  const int64_t rows = pass.rows();
  normed_ = pass.layer_begin == 0 && pass.layer_end == last ? whole_ : sliced_;
  const Tensor a = normed_.head(rows), b = hidden_.head(rows);
  const Tensor qkv = qkv_.head(rows), heads = heads_.head(rows), inner = inner_.head(rows);
  const float eps = config_.layernorm_eps, alpha = config_.alpha();
  backend_.begin(pass);

  // `a` holds the normalised input of the next layer: what the residual is taken from, and the state between slices.
  if (pass.layer_begin == 0) {
    backend_.embed(b, embedding_, comm_.rank() * static_cast<int>(embedding_.rows));
    comm_.all_reduce(b);
    backend_.layernorm(a, b, layers_[0].input_gamma, layers_[0].input_beta, eps);
  }
  for (int i = pass.layer_begin; i < pass.layer_end; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    backend_.linear(qkv, a, layer.qkv, layer.qkv_bias);
    backend_.attention(heads, qkv, i);
    backend_.linear(b, heads, layer.dense, {});
    comm_.all_reduce(b);
    backend_.residual_layernorm(a, b, layer.dense_bias, a, alpha, layer.post_gamma, layer.post_beta, eps);
    backend_.geglu_linear(inner, a, layer.up, layer.up_bias);
    backend_.linear(b, inner, layer.down, {});
    comm_.all_reduce(b);
    const bool ends = i + 1 == last;
    const Tensor gamma = ends ? final_gamma_ : layers_[static_cast<size_t>(i + 1)].input_gamma;
    const Tensor beta = ends ? final_beta_ : layers_[static_cast<size_t>(i + 1)].input_beta;
    backend_.residual_layernorm(a, b, layer.down_bias, a, alpha, gamma, beta, eps);
  }
}

Tensor Glm::head(int64_t first, int64_t count, int64_t at) {
  GLM_CHECK(at + count <= max_logit_rows_, "a step wants ", at + count, " rows of logits, at most ", max_logit_rows_);
  const Tensor picked = logit_hidden_.head(count);
  const Tensor all = comm_.rank() == 0 ? all_logits_.slice(at, count) : Tensor{};
  backend_.gather_logit_rows(picked, normed_, first);
  if (comm_.size() == 1) {  // this rank's columns are all of them
    backend_.linear(all, picked, embedding_, {});
    return all;
  }
  const Tensor local = rank_logits_.head(count);
  backend_.linear(local, picked, embedding_, {});
  comm_.gather_columns(all, local);
  return all;
}

}  // namespace glm
