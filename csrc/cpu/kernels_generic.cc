// Kernels for any processor: four floats at a time by the compiler's own vector type.
#include "core/half.h"
#include "cpu/kernels.h"

namespace {

constexpr int kRows = 4;
constexpr int kTokens = 2;

inline float f16_to_float(uint16_t bits) {
  return glm::to_float({bits});
}
inline float round_f16(float f) {
  return glm::round_to_half(f);
}

struct Vec {
  static constexpr int kWidth = 4;
  using Four = float __attribute__((vector_size(16)));
  Four v;

  static Vec zero() { return {Four{}}; }
  static Vec broadcast(float f) { return {Four{f, f, f, f}}; }
  static Vec load(const float* p) { return {Four{p[0], p[1], p[2], p[3]}}; }
  static Vec load_f16(const uint16_t* p) {
    return {Four{f16_to_float(p[0]), f16_to_float(p[1]), f16_to_float(p[2]), f16_to_float(p[3])}};
  }
  static Vec load_i8(const int8_t* p) {
    return {
        Four{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])}};
  }
  static Vec load_i4(const uint8_t* p) {
    const auto value = [](int bits) { return static_cast<float>((bits ^ 8) - 8); };
    return {Four{value(p[0] >> 4), value(p[0] & 15), value(p[1] >> 4), value(p[1] & 15)}};
  }
  Vec round_half() const { return {Four{round_f16(v[0]), round_f16(v[1]), round_f16(v[2]), round_f16(v[3])}}; }
  void store(float* p) const {
    for (int i = 0; i < kWidth; ++i) p[i] = v[i];
  }
  float sum() const { return (v[0] + v[2]) + (v[1] + v[3]); }
};
inline Vec mul(Vec a, Vec b) {
  return {a.v * b.v};
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return {a.v * b.v + c.v};
}

#include "cpu/kernels.inc"

}  // namespace

const glm::cpu::Kernels glm::cpu::kGenericKernels = {"generic", matmul, dot, axpy, dequantize};
