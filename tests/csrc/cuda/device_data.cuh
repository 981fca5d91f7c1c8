// Device memory, random data and comparisons for the CUDA tests and benchmarks.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda/check.h"

namespace glm::cuda::testing {

inline constexpr size_t kSentinelBytes = 256;

// An owned device array with a guard behind it. `poison` fills it with NaNs (0xff) and the guard with 0xab.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    GLM_CUDA_CHECK(cudaMalloc(&data_, count * sizeof(T) + kSentinelBytes));
    poison();
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return data_; }
  size_t count() const { return count_; }
  void poison() {
    GLM_CUDA_CHECK(cudaMemset(data_, 0xff, count_ * sizeof(T)));
    GLM_CUDA_CHECK(cudaMemset(reinterpret_cast<char*>(data_) + count_ * sizeof(T), 0xab, kSentinelBytes));
  }
  bool guard_intact() const {
    std::vector<uint8_t> guard(kSentinelBytes);
    GLM_CUDA_CHECK(cudaMemcpy(guard.data(), reinterpret_cast<char*>(data_) + count_ * sizeof(T), kSentinelBytes,
                              cudaMemcpyDeviceToHost));
    for (const uint8_t byte : guard) {
      if (byte != 0xab) return false;
    }
    return true;
  }
  std::vector<T> host() const {
    std::vector<T> out(count_);
    GLM_CUDA_CHECK(cudaMemcpy(out.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }
  void upload(const std::vector<T>& from) {
    GLM_CUDA_CHECK(cudaMemcpy(data_, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

__host__ __device__ inline uint64_t mix(uint64_t z) {
  z = (z + 0x632be59bd9b4e019ull) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

static __global__ void random_bits_kernel(uint32_t* p, size_t n, uint64_t seed) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x) {
    p[i] = static_cast<uint32_t>(mix(i + (seed << 40)) >> 16);
  }
}

static __global__ void random_half_kernel(__half* p, size_t n, float center, float spread, uint64_t seed) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x) {
    p[i] = __float2half(center + spread * (static_cast<float>(mix(i + (seed << 40)) >> 40) / 8388608.0f - 1.0f));
  }
}

inline void fill_bits(void* p, size_t bytes, uint64_t seed) {
  random_bits_kernel<<<1024, 256>>>(static_cast<uint32_t*>(p), bytes / 4, seed);
  GLM_CUDA_CHECK(cudaGetLastError());
}

// Uniform in center +- spread.
inline void fill_half(__half* p, size_t n, float center, float spread, uint64_t seed) {
  random_half_kernel<<<1024, 256>>>(p, n, center, spread, seed);
  GLM_CUDA_CHECK(cudaGetLastError());
}

inline double as_double(__half v) {
  return __half2float(v);
}
inline double as_double(float v) {
  return v;
}

struct Difference {
  double relative = 0;  // ||out - ref|| / ||ref||
  double worst = 0;     // largest |out - ref| over (|ref| + rms of ref)
  bool finite = true;
};

template <typename T, typename R>
Difference compare(const std::vector<T>& out, const std::vector<R>& ref, size_t count) {
  Difference d;
  double error = 0, norm = 0;
  for (size_t i = 0; i < count; ++i) norm += static_cast<double>(ref[i]) * ref[i];
  const double rms = std::sqrt(norm / static_cast<double>(count)) + 1e-30;
  for (size_t i = 0; i < count; ++i) {
    const double v = as_double(out[i]);
    if (!std::isfinite(v)) {
      d.finite = false;
      continue;
    }
    const double e = std::fabs(v - ref[i]);
    error += e * e;
    d.worst = std::fmax(d.worst, e / (std::fabs(static_cast<double>(ref[i])) + rms));
  }
  d.relative = std::sqrt(error / (norm + 1e-30));
  return d;
}

}  // namespace glm::cuda::testing
