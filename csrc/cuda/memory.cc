#include "cuda/memory.h"

#include <algorithm>
#include <cstring>

namespace glm::cuda {

DeviceBuffer::DeviceBuffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const cudaError_t status = cudaMalloc(&data_, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    GLM_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    throw Error(concat("GPU memory: ", bytes >> 20, " MiB more are needed, ", free >> 20, " of ", total >> 20,
                       " MiB are free; lower max_batch_size or max_sequence_length, quantize, or use more GPUs"));
  }
  GLM_CUDA_CHECK(status);
}

DeviceBuffer::~DeviceBuffer() {
  if (data_) cudaFree(data_);
}

void DeviceBuffer::reserve(size_t bytes) {
  if (bytes <= bytes_) return;
  const size_t grown = std::max(bytes, bytes_ * 2);
  *this = DeviceBuffer();
  *this = DeviceBuffer(grown);
}

PinnedBuffer::PinnedBuffer(size_t bytes) : bytes_(bytes) {
  if (bytes > 0) GLM_CUDA_CHECK(cudaMallocHost(&data_, bytes));
}

PinnedBuffer::~PinnedBuffer() {
  if (data_) cudaFreeHost(data_);
}

Uploader::Uploader() {
  for (Slot& slot : slots_) GLM_CUDA_CHECK(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming));
}

Uploader::~Uploader() {
  for (Slot& slot : slots_) cudaEventDestroy(slot.copied);
}

const void* Uploader::upload(const void* data, size_t bytes, cudaStream_t stream) {
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % kSlots;
  GLM_CUDA_CHECK(cudaEventSynchronize(slot.copied));
  if (bytes > slot.host.bytes()) {
    const size_t grown = std::max<size_t>(bytes * 2, 65536);
    slot.host = PinnedBuffer(grown);
    slot.device.reserve(grown);
  }
  std::memcpy(slot.host.as<void>(), data, bytes);
  GLM_CUDA_CHECK(cudaMemcpyAsync(slot.device.as<void>(), slot.host.as<void>(), bytes, cudaMemcpyHostToDevice, stream));
  GLM_CUDA_CHECK(cudaEventRecord(slot.copied, stream));
  return slot.device.as<void>();
}

}  // namespace glm::cuda
