// Views of matrices. Storage order, once and for all: row-major, contiguous; INT4 packs two columns a byte, the even
// column in the high nibble, so a row of `cols` values takes cols/2 bytes. Views own nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/error.h"
#include "core/half.h"

namespace glm {

enum class DType { f32, f16, i8, i4 };

inline const char* name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::i8:
      return "i8";
    case DType::i4:
      return "i4";
  }
  return "?";
}

// Bytes that `count` values take.
inline int64_t bytes_of(DType dtype, int64_t count) {
  switch (dtype) {
    case DType::f32:
      return count * 4;
    case DType::f16:
      return count * 2;
    case DType::i8:
      return count;
    case DType::i4:
      return count / 2;
  }
  return 0;
}

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  // The first `count` rows.
  Tensor head(int64_t count) const {
    GLM_CHECK(count >= 0 && count <= rows, "tensor: ", count, " rows asked of ", rows);
    return {data, dtype, count, cols};
  }
  // Rows [begin, begin + count).
  Tensor slice(int64_t begin, int64_t count) const {
    GLM_CHECK(begin >= 0 && count >= 0 && begin + count <= rows, "tensor: rows ", begin, "+", count, " asked of ",
              rows);
    return {static_cast<std::byte*>(data) + bytes_of(dtype, begin * cols), dtype, count, cols};
  }
};

// A weight matrix [rows, cols] as its backend keeps it, with one fp16 scale a row where it is quantized.
struct Weight {
  DType dtype = DType::f16;
  int64_t rows = 0;
  int64_t cols = 0;
  const void* data = nullptr;
  const Half* scale = nullptr;
};

}  // namespace glm
