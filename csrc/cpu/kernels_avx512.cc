// Kernels for AVX-512 F, BW and VL (x86-64-v4): sixteen floats at a time. Compiled with those flags for this file
// alone.
#include <immintrin.h>

#include "cpu/kernels.h"

namespace {

constexpr int kRows = 8;
constexpr int kTokens = 2;

#include "cpu/x86.inc"

struct Vec {
  static constexpr int kWidth = 16;
  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec broadcast(float f) { return {_mm512_set1_ps(f)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load_f16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec load_i8(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vec load_i4(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(unpack_i4(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))))};
  }
  Vec round_half() const {
    return {_mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  float sum() const { return _mm512_reduce_add_ps(v); }
};
inline Vec mul(Vec a, Vec b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}

#include "cpu/kernels.inc"

}  // namespace

const glm::cpu::Kernels glm::cpu::kAvx512Kernels = {"avx512", matmul, dot, axpy, dequantize};
