// IEEE half precision as bits, converted without hardware support: the plain path of every architecture.
#pragma once

#include <bit>
#include <cstdint>

namespace glm {

struct Half {
  uint16_t bits = 0;
};

inline float to_float(Half h) {
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16;
  const uint32_t magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude << 13));  // inf, NaN
  // Shifted into a float's fields the exponent is too small by 112; a multiplication mends it, subnormals included.
  const float value = std::bit_cast<float>(magnitude << 13) * std::bit_cast<float>((254u - 15u) << 23);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

// Rounds to nearest, ties to even.
inline Half to_half(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) {  // inf, NaN
    return {static_cast<uint16_t>(sign | 0x7c00u | (magnitude > 0x7f800000u ? 0x200u : 0u))};
  }
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and above
  if (magnitude < 0x38800000u) {  // below the smallest normal: adding 0.5 lets the FPU round at bit 2^-24
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000u))};
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13))};
}

inline float round_to_half(float f) {
  return to_float(to_half(f));
}

// As above from double, without rounding twice: what a float cannot hold makes the float odd, so that it is no tie.
inline float round_to_half(double d) {
  const float nearest = static_cast<float>(d);
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  if (nearest != d && (bits & 1u) == 0) {
    const double magnitude = d < 0 ? -d : d;
    bits = static_cast<double>(std::bit_cast<float>(bits & 0x7fffffffu)) > magnitude ? bits - 1 : bits + 1;
  }
  return round_to_half(std::bit_cast<float>(bits));
}

}  // namespace glm
