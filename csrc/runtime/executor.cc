#include "runtime/executor.h"

#include <algorithm>

namespace glm {

struct Executor::Rank {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> comm;
  std::unique_ptr<ShardFile> shard;
  std::unique_ptr<Glm> model;
};

namespace {

std::unique_ptr<Backend> make_backend(const std::string& kind, int rank) {
  if (kind == "cpu") return make_cpu_backend();
#ifdef GLM_CUDA
  if (kind == "cuda") return make_cuda_backend(rank);
  throw Error(concat("backend: cpu or cuda; got ", kind));
#else
  (void)rank;
  throw Error(concat("backend: this build has cpu; got ", kind));
#endif
}

}  // namespace

Executor::Executor(const ModelConfig& model, const EngineConfig& engine, const std::string& backend,
                   const std::vector<ShardSource>& shards)
    : model_(model) {
  const int size = static_cast<int>(shards.size());
  model.validate(size);
  engine.validate(model);
  auto comms = make_local_communicators(size);
  for (int r = 0; r < size; ++r) {
    auto rank = std::make_unique<Rank>();
    rank->comm = std::move(comms[static_cast<size_t>(r)]);
    ranks_.push_back(std::move(rank));
  }
  for (auto& rank : ranks_) threads_.emplace_back([this, &rank] { serve(*rank); });
  try {
    run_on_all([&](Rank& rank) {
      const ShardSource& source = shards[static_cast<size_t>(rank.comm->rank())];
      rank.backend = make_backend(backend, rank.comm->rank());
      rank.shard = std::make_unique<ShardFile>(source.path, source.tensors);
      rank.model = std::make_unique<Glm>(model_, engine, *rank.shard, *rank.backend, *rank.comm);
    });
  } catch (...) {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
    throw;
  }
}

Executor::~Executor() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Executor::serve(Rank& rank) {
  uint64_t done = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closing_ || round_ != done; });
    if (closing_) return;
    done = round_;
    const Job* job = job_;
    lock.unlock();
    std::exception_ptr error;
    try {
      (*job)(rank);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) {
      if (!failure_) failure_ = error;  // later ones are only the others giving up
      rank.comm->abort();
    }
    if (--working_ == 0) changed_.notify_all();
  }
}

void Executor::run_on_all(const Job& job) {
  std::unique_lock lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  job_ = &job;
  working_ = static_cast<int>(ranks_.size());
  ++round_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return working_ == 0; });
  if (failure_) std::rethrow_exception(failure_);
}

std::vector<SampleResult> Executor::run(const Step& step) {
  std::vector<SampleResult> results(step.samples.size());
  run_on_all([&](Rank& rank) {
    rank.backend->copy_blocks(step.block_copies);
    int64_t rows = 0;
    for (const Pass& pass : step.passes) {
      rank.model->forward(pass);
      if (pass.layer_end != model_.num_layers || pass.logit_rows.empty()) continue;
      const auto count = static_cast<int64_t>(pass.logit_rows.size());
      rank.model->head(0, count, rows);
      rows += count;
    }
    if (rank.comm->rank() == 0 && !step.samples.empty()) {
      rank.backend->sample(step.samples, rank.model->logits(rows), results);
    }
    rank.backend->synchronize();
  });
  return results;
}

void Executor::logits(const Pass& pass, const LogitSink& sink) {
  std::vector<float> host;
  run_on_all([&](Rank& rank) {
    rank.model->forward(pass);
    const auto total = static_cast<int64_t>(pass.logit_rows.size());
    for (int64_t first = 0; first < total; first += rank.model->max_logit_rows()) {
      const int64_t count = std::min<int64_t>(rank.model->max_logit_rows(), total - first);
      const Tensor part = rank.model->head(first, count, 0);
      if (rank.comm->rank() != 0) continue;
      host.resize(static_cast<size_t>(count * model_.vocab_size));
      rank.backend->download(host.data(), part);
      sink(first, count, host.data());
    }
    rank.backend->synchronize();
  });
}

}  // namespace glm
