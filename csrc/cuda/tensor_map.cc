#include "cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include "cuda/check.h"

namespace glm::cuda {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                            const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// The driver's entry, found at run time: nothing here links the driver, which a machine without a GPU lacks.
Encode find_encode() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  GLM_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found));
  GLM_CHECK(found == cudaDriverEntryPointSuccess && entry != nullptr, "CUDA: the driver lacks cuTensorMapEncodeTiled");
  return reinterpret_cast<Encode>(entry);
}

}  // namespace

bool tensor_map_possible(const __half* x, int cols) {
  return cols % 8 == 0 && (reinterpret_cast<uintptr_t>(x) & 15) == 0;
}

CUtensorMap tensor_map(const __half* x, int tokens, int cols, int box_tokens) {
  static const Encode encode = find_encode();
  CUtensorMap map;
  const cuuint64_t size[2] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(tokens)};
  const cuuint64_t stride[1] = {static_cast<cuuint64_t>(cols) * 2};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_tokens)};
  const cuuint32_t step[2] = {1, 1};
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<__half*>(x), size, stride, box,
                                 step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  GLM_CHECK(status == CUDA_SUCCESS, "CUDA: cuTensorMapEncodeTiled refused [", tokens, ", ", cols, "] with status ",
            static_cast<int>(status));
  return map;
}

}  // namespace glm::cuda
