// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): random numbers as a function of
// a key and a counter, so that a draw depends on the request's seed, the choice, the step and the token, on nothing
// else.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define GLM_HOST_DEVICE __host__ __device__
#else
#define GLM_HOST_DEVICE
#endif

namespace glm {

struct Philox4 {
  uint32_t word[4];
};

GLM_HOST_DEVICE inline Philox4 philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = static_cast<uint32_t>(p1);
    c2 = n2;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Standard Gumbel noise from 24 of a word's bits. The largest of (log-weight + noise) is a draw in proportion to the
// weights; the k largest are k draws without replacement.
GLM_HOST_DEVICE inline float gumbel(uint32_t word) {
  const float u = (static_cast<float>(word >> 8) + 0.5f) * (1.0f / 16777216.0f);
  return -std::log(-std::log(u));
}

// The noise of `token` in draw (choice, step).
GLM_HOST_DEVICE inline float gumbel_noise(uint64_t seed, uint32_t choice, uint32_t step, uint32_t token) {
  return gumbel(philox(seed, token / 4, step, choice, 0).word[token % 4]);
}

}  // namespace glm
