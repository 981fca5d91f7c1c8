// The packed form of a weight matrix, one for every matmul kernel and every architecture: row groups of 64, in them
// blocks of 64 along k, in them four tiles of 16 rows, in them chunks of 512 bytes of which each lane of a warp
// owns 16. A lane (g, t) = (lane / 4, lane % 4) finds there exactly the A fragments of mma.m16n8k16 (and of wgmma's
// register operand): for step j of 16 columns the four registers a[2h + u] hold row g + 8u, columns 16j + 8h + 2t + {0,
// 1}.
//   INT4: word j of the one chunk; value q + 8; nibble u + 2h + 4e holds register 2h + u, column e of the pair
//   INT8: chunk j / 2, word 2 (j % 2) + h; value q + 128; byte 2u + e
//   FP16: chunk j, word 2h + u
// Rows are padded to a multiple of 256 and columns to 512 with zeros, so that no kernel has a ragged edge.
// A GeGLU matrix is `paired`: row r of the first half is packed row (r / 8) * 16 + r % 8, its partner of the second
// half 8 further down, so one thread holds both sums and the activation is part of the matmul.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace glm::cuda {

inline constexpr int kRowPad = 256;
inline constexpr int kColumnPad = 512;

struct PackedWeight {
  int bits = 16;  // 4, 8, 16
  int rows = 0;   // of the matrix, both halves of a paired one
  int cols = 0;
  bool paired = false;
  const uint8_t* data = nullptr;  // device memory, packed_bytes()
  const __half* scale = nullptr;  // [rows] in the matrix's order; null: 1

  int outputs() const { return paired ? rows / 2 : rows; }
  int packed_rows() const {
    const int used = paired ? (rows / 2 + 7) / 8 * 16 : rows;
    return (used + kRowPad - 1) / kRowPad * kRowPad;
  }
  int packed_cols() const { return (cols + kColumnPad - 1) / kColumnPad * kColumnPad; }
  int groups() const { return packed_rows() / 64; }
  int kblocks() const { return packed_cols() / 64; }
  size_t packed_bytes() const { return static_cast<size_t>(packed_rows()) * packed_cols() * bits / 8; }
};

// Rows of the matrix that packed rows [begin, begin + count) hold, as they must lie in the source of `repack`:
// row-major, of a paired matrix first those of the first half, then those of the second.
struct RowRange {
  int first = 0;
  int count = 0;  // of each half
};
RowRange source_rows(const PackedWeight& weight, int begin, int count);

// Packs a range of rows, multiples of 64, of the matrix into its place in `out` [weight.packed_bytes()]. `source` holds
// source_rows(weight, begin, count) on the device (INT4: the even column in the high nibble). `weight.data` is not
// read.
void repack(uint8_t* out, const void* source, const PackedWeight& weight, int begin, int count, cudaStream_t stream);

// Rows of a packed FP16 matrix that is not paired: out [tokens, cols] gets row `ids[i] - first_id`, zeros where there
// is none.
void embed_rows(__half* out, const PackedWeight& table, const int* ids, int tokens, int first_id, bool overlap,
                cudaStream_t stream);

}  // namespace glm::cuda
