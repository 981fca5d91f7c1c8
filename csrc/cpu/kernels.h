// The loops that take the CPU backend's time, once per instruction set and chosen at run time. A dot product is summed
// in one order, whatever the number of rows computed together: a token's result does not depend on its batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace glm::cpu {

enum WeightKind { kF32 = 0, kF16 = 1, kI8 = 2, kI4 = 3 };

struct Kernels {
  const char* name;
  // out[t * out_stride + r] = sum_k x[t * m + k] * w[r][k], for t < tokens and r < n. `w` points at row 0 of a matrix
  // of `kind` with m columns; i8 and i4 rows are multiplied by scale[r] (fp16 bits) and rounded to fp16, as the
  // original dequantizes. `scratch` holds 8 * m floats.
  void (*matmul)(float* out, int64_t out_stride, const float* x, int64_t tokens, int64_t m, const void* w, int kind,
                 const uint16_t* scale, int64_t n, float* scratch);
  float (*dot)(const float* a, const float* b, int64_t n);
  // y += a * x
  void (*axpy)(float* y, float a, const float* x, int64_t n);
  // out = the n values of one row, dequantized as in matmul.
  void (*dequantize)(float* out, const void* w, int kind, uint16_t scale, int64_t n);
};

// The fastest of this machine.
const Kernels& kernels();
// Every one that this machine can run, for tests.
const std::vector<const Kernels*>& available_kernels();

extern const Kernels kGenericKernels;
#ifdef __x86_64__
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace glm::cpu
