#include "cuda/weight_loader.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

namespace glm::cuda {

WeightLoader::WeightLoader(int device) : device_(device), slots_(kWorkers * kSlotsEach) {
  for (Slot& slot : slots_) {
    slot.host = PinnedBuffer(kSlotBytes);
    slot.device = DeviceBuffer(kSlotBytes);
    GLM_CUDA_CHECK(cudaStreamCreateWithFlags(&slot.stream, cudaStreamNonBlocking));
    GLM_CUDA_CHECK(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming));
    GLM_CUDA_CHECK(cudaEventCreateWithFlags(&slot.packed, cudaEventDisableTiming));
  }
}

WeightLoader::~WeightLoader() {
  for (Slot& slot : slots_) {
    cudaStreamSynchronize(slot.stream);
    cudaStreamDestroy(slot.stream);
    cudaEventDestroy(slot.copied);
    cudaEventDestroy(slot.packed);
  }
}

void WeightLoader::load_piece(Slot& slot, uint8_t* out, const PackedWeight& weight, const void* source, int begin,
                              int count) {
  const size_t row_bytes = static_cast<size_t>(weight.cols) * static_cast<size_t>(weight.bits) / 8;
  const RowRange range = source_rows(weight, begin, count);
  const auto* from = static_cast<const std::byte*>(source);
  auto* host = slot.host.as<std::byte>();
  const size_t half_bytes = row_bytes * static_cast<size_t>(range.count);
  GLM_CUDA_CHECK(cudaEventSynchronize(slot.copied));
  size_t bytes = 0;
  for (int half = 0; half < (weight.paired ? 2 : 1); ++half) {
    const auto row = static_cast<size_t>(half * (weight.rows / 2) + range.first);
    std::memcpy(host + bytes, from + row * row_bytes, half_bytes);
    bytes += half_bytes;
  }
  if (bytes > 0) {
    GLM_CUDA_CHECK(cudaMemcpyAsync(slot.device.as<void>(), host, bytes, cudaMemcpyHostToDevice, slot.stream));
  }
  GLM_CUDA_CHECK(cudaEventRecord(slot.copied, slot.stream));
  repack(out, slot.device.as<void>(), weight, begin, count, slot.stream);
  GLM_CUDA_CHECK(cudaEventRecord(slot.packed, slot.stream));
}

void WeightLoader::load(uint8_t* out, const PackedWeight& weight, const void* source, cudaStream_t consumer) {
  const size_t row_bytes = static_cast<size_t>(weight.cols) * static_cast<size_t>(weight.bits) / 8;
  const int rows = weight.packed_rows();
  const int step = static_cast<int>(std::max<size_t>(1, kSlotBytes / row_bytes / 64)) * 64;
  GLM_CHECK(row_bytes * static_cast<size_t>(std::min(step, rows)) <= kSlotBytes, "CUDA: a row of ", row_bytes,
            " bytes is too long to load");
  std::atomic<int> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&](int worker) {
    try {
      GLM_CUDA_CHECK(cudaSetDevice(device_));
      for (int turn = 0, begin = next.fetch_add(step); begin < rows; begin = next.fetch_add(step), ++turn) {
        Slot& slot = slots_[static_cast<size_t>(worker * kSlotsEach + turn % kSlotsEach)];
        load_piece(slot, out, weight, source, begin, std::min(step, rows - begin));
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  };
  const int workers = std::min(kWorkers, (rows + step - 1) / step);
  std::vector<std::thread> threads;
  for (int i = 1; i < workers; ++i) threads.emplace_back(work, i);
  work(0);
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  for (const Slot& slot : slots_) GLM_CUDA_CHECK(cudaStreamWaitEvent(consumer, slot.packed, 0));
}

}  // namespace glm::cuda
