// GLM-130B's forward pass on one rank: weights and activations of the rank, and the order of the ops. All arithmetic is
// the backend's, all exchange the communicator's.
#pragma once

#include <vector>

#include "comm/communicator.h"
#include "core/config.h"
#include "core/step.h"
#include "io/shard_file.h"
#include "ops/backend.h"

namespace glm {

class Glm {
 public:
  // Loads this rank's weights and allocates activations for passes of up to max_rows rows. `shard` stays mapped while
  // the model lives.
  Glm(const ModelConfig& config, const EngineConfig& engine, const ShardFile& shard, Backend& backend,
      Communicator& comm);

  // Runs one pass over its layers. A pass that ends before the last layer leaves its hidden state in place, and the
  // pass that goes on from there must have the same rows; passes over all layers may come between.
  void forward(const Pass& pass);
  // Logits [count, V] f32 of pass.logit_rows[first, first + count) of the pass that forward has just ended, written to
  // rows [at, at + count) of the logits' buffer. Returned on rank 0; other ranks get no data.
  Tensor head(int64_t first, int64_t count, int64_t at);
  // The first `rows` rows of the logits' buffer (rank 0).
  Tensor logits(int64_t rows) const { return all_logits_.head(rows); }
  Backend& backend() { return backend_; }
  int max_logit_rows() const { return max_logit_rows_; }

 private:
  struct Layer {
    Tensor input_gamma, input_beta, post_gamma, post_beta;
    Weight qkv, dense, up, down;
    Tensor qkv_bias, dense_bias, up_bias, down_bias;
  };

  const ModelConfig config_;
  Backend& backend_;
  Communicator& comm_;
  std::vector<Layer> layers_;
  Weight embedding_;
  Tensor final_gamma_, final_beta_;
  Tensor hidden_, qkv_, heads_, inner_;
  Tensor whole_, sliced_;  // normalised hidden state: of passes over all layers, and of those that stop and go on
  Tensor normed_;          // the one that the last pass used
  Tensor logit_hidden_, rank_logits_, all_logits_;
  int max_logit_rows_ = 0;
};

}  // namespace glm
