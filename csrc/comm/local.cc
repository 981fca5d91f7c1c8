// Collectives among threads of one process: every rank shows the others where its data is, and reads theirs.
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "comm/communicator.h"

namespace glm {
namespace {

struct Shared {
  explicit Shared(int world) : size(world), view(static_cast<size_t>(world)) {}

  const int size;
  std::vector<Tensor> view;  // what each rank shows
  std::vector<float> sum;    // the all-reduce's result

  // Waits until all ranks are here. Threads may be more than cores, so waiting sleeps after a short spin.
  void wait() {
    std::unique_lock lock(mutex);
    check();
    const uint64_t mine = generation;
    if (++arrived == size) {
      arrived = 0;
      generation.store(mine + 1);
      lock.unlock();
      all_here.notify_all();
      return;
    }
    lock.unlock();
    for (int spin = 0; spin < 2000; ++spin) {
      if (generation.load(std::memory_order_acquire) != mine) return;
    }
    lock.lock();
    all_here.wait(lock, [&] { return generation != mine || aborted; });
    if (generation == mine) check();
  }

  void check() const {
    if (aborted) throw Error("a rank failed; the others stop waiting for it");
  }

  std::mutex mutex;
  std::condition_variable all_here;
  int arrived = 0;
  std::atomic<uint64_t> generation{0};
  bool aborted = false;
};

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(int rank, std::shared_ptr<Shared> shared) : rank_(rank), shared_(std::move(shared)) {}

  int rank() const override { return rank_; }
  int size() const override { return shared_->size; }

  void all_reduce(Tensor x) override {
    if (size() == 1) return;
    GLM_CHECK(x.dtype == DType::f32, "local communicator: all_reduce of ", name(x.dtype), ", needs f32");
    const int64_t count = x.rows * x.cols;
    if (shared_->sum.size() < static_cast<size_t>(count)) {  // all ranks see the same size here
      shared_->wait();
      if (rank_ == 0) shared_->sum.resize(static_cast<size_t>(count));
    }
    shared_->view[static_cast<size_t>(rank_)] = x;
    shared_->wait();
    const int64_t begin = count * rank_ / size(), end = count * (rank_ + 1) / size();
    float* sum = shared_->sum.data();
    for (int64_t i = begin; i < end; ++i) {
      float total = shared_->view[0].as<float>()[i];
      for (size_t r = 1; r < shared_->view.size(); ++r) total += shared_->view[r].as<float>()[i];
      sum[i] = total;
    }
    shared_->wait();
    // Nobody writes the sum again before all have read it: the next collective begins with a wait.
    std::memcpy(x.data, sum, static_cast<size_t>(count) * sizeof(float));
  }

  void gather_columns(Tensor out, Tensor x) override {
    GLM_CHECK(x.dtype == DType::f32, "local communicator: gather of ", name(x.dtype), ", needs f32");
    shared_->view[static_cast<size_t>(rank_)] = x;
    shared_->wait();
    if (rank_ == 0) {
      for (size_t r = 0; r < shared_->view.size(); ++r) {
        for (int64_t row = 0; row < x.rows; ++row) {
          std::memcpy(out.as<float>() + row * out.cols + static_cast<int64_t>(r) * x.cols,
                      shared_->view[r].as<float>() + row * x.cols, static_cast<size_t>(x.cols) * sizeof(float));
        }
      }
    }
    shared_->wait();  // the ranks' tensors stay as they are until they have been read
  }

  void abort() override {
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->aborted = true;
    }
    shared_->all_here.notify_all();
  }

 private:
  const int rank_;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_local_communicators(int size) {
  const auto shared = std::make_shared<Shared>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(std::make_unique<LocalCommunicator>(rank, shared));
  return ranks;
}

}  // namespace glm
