// The ranks of one model: a thread each, which builds the rank's model and then runs steps. A rank that fails ends them
// all: the others are woken, and every later call throws the first error.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/config.h"
#include "core/step.h"
#include "model/glm.h"

namespace glm {

struct ShardSource {
  std::string path;
  std::vector<ShardTensor> tensors;
};

class Executor {
 public:
  // Loads every rank in parallel; returns when all are ready.
  Executor(const ModelConfig& model, const EngineConfig& engine, const std::string& backend,
           const std::vector<ShardSource>& shards);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs one step on all ranks and returns its samples, in the step's order.
  std::vector<SampleResult> run(const Step& step);
  // Logits of a pass over all layers, in parts: sink(first, count, rows [count, V]) on the host, in order.
  using LogitSink = std::function<void(int64_t first, int64_t count, const float* rows)>;
  void logits(const Pass& pass, const LogitSink& sink);

 private:
  struct Rank;
  using Job = std::function<void(Rank&)>;
  void run_on_all(const Job& job);
  void serve(Rank& rank);

  const ModelConfig model_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  const Job* job_ = nullptr;
  uint64_t round_ = 0;
  int working_ = 0;
  bool closing_ = false;
  std::exception_ptr failure_;
};

}  // namespace glm
