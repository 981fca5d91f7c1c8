// Chooses the kernels when the program starts to use them.
#include "cpu/kernels.h"

namespace glm::cpu {

const std::vector<const Kernels*>& available_kernels() {
  static const std::vector<const Kernels*> list = [] {
    std::vector<const Kernels*> found = {&kGenericKernels};
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v3")) found.push_back(&kAvx2Kernels);
    if (__builtin_cpu_supports("x86-64-v4")) found.push_back(&kAvx512Kernels);
#endif
    return found;
  }();
  return list;
}

const Kernels& kernels() {
  return *available_kernels().back();
}

}  // namespace glm::cpu
