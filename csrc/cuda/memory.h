// Owned device and pinned host memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#include "cuda/check.h"

namespace glm::cuda {

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  // At least `bytes` bytes; what was there is lost. Waits for the device where it must grow.
  void reserve(size_t bytes);

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept { *this = std::move(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// A ring of pinned and device buffers through which small host data goes to the device in the order of a stream,
// without waiting: a slot is written again only once its copy has been made.
class Uploader {
 public:
  Uploader();
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;
  // Copies `bytes` bytes to a device buffer that stays valid for the next kSlots - 1 uploads.
  const void* upload(const void* data, size_t bytes, cudaStream_t stream);

 private:
  static constexpr int kSlots = 4;
  struct Slot {
    PinnedBuffer host;
    DeviceBuffer device;
    cudaEvent_t copied = nullptr;
  };
  Slot slots_[kSlots];
  int next_ = 0;
};

}  // namespace glm::cuda
