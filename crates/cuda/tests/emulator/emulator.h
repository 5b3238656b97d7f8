// A GPU's blocks on the host: every thread of a block is a fiber, and what a warp does together waits for its 32 lanes.
//
// It defines the functions of kernels/intrinsic.cuh by what the PTX manual says of the instructions (fragment layouts of
// mma.m16n8k16 and m16n8k8, ldmatrix), so that the kernels' own source runs here. Fibers switch in an order drawn from a
// seed at every collective; asynchronous copies arrive as late as they may. It knows no races inside a warp, no timing,
// and sums in a different order than tensor cores.

#pragma once

#include "host.h"

struct uint4 {
    unsigned x, y, z, w;
};
struct Index {
    unsigned x, y, z;
};

extern Index threadIdx, blockIdx, blockDim, gridDim;

inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
using std::fmaf;
using std::min;
using std::sqrt;

namespace emulator {

constexpr unsigned SHARED_BYTES = 227 * 1024;
extern unsigned char shared[SHARED_BYTES];

// Waits for all threads of the block.
void block_barrier();
// Hands 8 words to the other lanes of the warp and returns the 32 lanes' words once all have come.
using Words = unsigned[8];
const Words* exchange(const Words& own);
// A copy of 16 bytes to shared memory that is done at the wait for its group.
void start_copy(unsigned to, const void* from);
void commit_copies();
void wait_copies(unsigned pending);

inline float bits_to_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline unsigned float_to_bits(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

}  // namespace emulator

inline unsigned __float_as_uint(float value) { return emulator::float_to_bits(value); }
inline float __expf(float x) { return std::exp(x); }
inline uint4 __ldg(const uint4* address) { return *address; }
inline void __syncthreads() { emulator::block_barrier(); }
inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long value) {
    const unsigned long long old = *to;
    *to += value;
    return old;
}

inline float __shfl_xor_sync(unsigned, float value, int mask) {
    const emulator::Words* lanes = emulator::exchange({emulator::float_to_bits(value)});
    return emulator::bits_to_float(lanes[(threadIdx.x % 32) ^ static_cast<unsigned>(mask)][0]);
}

// ---- intrinsic.cuh -------------------------------------------------------------------------------------------------

inline u16 to_f16(float value) {
    const unsigned bits = emulator::float_to_bits(value);
    const unsigned sign = bits >> 16 & 0x8000;
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) return 0x7FFF;
    if (magnitude >= 65520.0f) return static_cast<u16>(sign | 0x7C00);
    // The distance of fp16 numbers at this magnitude; nearbyint rounds ties to even, as the instruction does.
    int exponent;
    std::frexp(std::max(magnitude, 0x1p-14f), &exponent);
    const float step = std::ldexp(1.0f, exponent - 11);
    const float rounded = std::nearbyint(magnitude / step) * step;
    if (rounded < 0x1p-14f) return static_cast<u16>(sign | static_cast<unsigned>(rounded * 0x1p24f));
    std::frexp(rounded, &exponent);
    const unsigned mantissa = static_cast<unsigned>(std::ldexp(rounded, 11 - exponent)) & 0x3FF;
    return static_cast<u16>(sign | static_cast<unsigned>(exponent + 14) << 10 | mantissa);
}

inline float decode_f16(unsigned bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const float mantissa = static_cast<float>(bits & 0x3FF);
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(mantissa, -24);
    return sign * std::ldexp(mantissa + 1024.0f, exponent - 25);
}

inline float from_f16(u16 bits) {
    static const std::vector<float> values = [] {
        std::vector<float> all(1 << 16);
        for (unsigned i = 0; i < all.size(); i++) all[i] = decode_f16(i);
        return all;
    }();
    return values[bits];
}

inline u16 to_bf16(float value) {
    const unsigned bits = emulator::float_to_bits(value);
    if (std::isnan(value)) return 0x7FFF;
    return static_cast<u16>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline float from_bf16(u16 bits) { return emulator::bits_to_float(static_cast<unsigned>(bits) << 16); }

inline uint4 load_streaming(const uint4* address) { return *address; }
inline uint4 load_cached(const uint4* address) { return *address; }
inline u32 dynamic_shared() { return 0; }
inline void copy_async(u32 to, const void* from) { emulator::start_copy(to, from); }
inline void commit_copies() { emulator::commit_copies(); }

template <int PENDING>
inline void wait_copies() {
    emulator::wait_copies(PENDING);
}

// "ldmatrix": lane 8*i + r names row r (8 elements of 16 bits) of matrix i; lane l receives of each matrix the elements
// 2*(l % 4) and 2*(l % 4) + 1 of row l / 4.
inline void load_matrices(u32 (&out)[4], u32 address) {
    const emulator::Words* lanes = emulator::exchange({address});
    const u32 lane = threadIdx.x % 32;
    for (u32 i = 0; i < 4; i++) {
        const u32 row = lanes[8 * i + lane / 4][0];
        std::memcpy(&out[i], emulator::shared + row + 4 * (lane % 4), 4);
    }
}

// "mma.m16n8k16": element (row, k) of A is in lane (row % 8) * 4 + (k % 8) / 2, register (row / 8) + 2 * (k / 8), half
// k % 2; element (k, column) of B in lane column * 4 + (k % 8) / 2, register k / 8, half k % 2; of C and D, lane l holds
// columns 2 * (l % 4) and the next of row l / 4 in its first two registers and of row l / 4 + 8 in the others.
inline void multiply_bf16(float (&accumulator)[4], const u32 (&left)[4], u32 right_low, u32 right_high) {
    const emulator::Words* lanes = emulator::exchange({left[0], left[1], left[2], left[3], right_low, right_high});
    const u32 lane = threadIdx.x % 32;
    for (u32 i = 0; i < 4; i++) {
        const u32 row = lane / 4 + i / 2 * 8;
        const u32 column = lane % 4 * 2 + i % 2;
        for (u32 k = 0; k < 16; k++) {
            const u32 a = lanes[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2] >> (16 * (k % 2));
            const u32 b = lanes[column * 4 + k % 8 / 2][4 + k / 8] >> (16 * (k % 2));
            accumulator[i] += from_bf16(static_cast<u16>(a)) * from_bf16(static_cast<u16>(b));
        }
    }
}

// "mma.m16n8k8": as above with k below 8: A has register row / 8, B one register.
inline void multiply_f16(float (&accumulator)[4], u32 left_low, u32 left_high, u32 right) {
    const emulator::Words* lanes = emulator::exchange({left_low, left_high, right});
    const u32 lane = threadIdx.x % 32;
    for (u32 i = 0; i < 4; i++) {
        const u32 row = lane / 4 + i / 2 * 8;
        const u32 column = lane % 4 * 2 + i % 2;
        for (u32 k = 0; k < 8; k++) {
            const u32 a = lanes[row % 8 * 4 + k / 2][row / 8] >> (16 * (k % 2));
            const u32 b = lanes[column * 4 + k / 2][2] >> (16 * (k % 2));
            accumulator[i] += from_f16(static_cast<u16>(a)) * from_f16(static_cast<u16>(b));
        }
    }
}
