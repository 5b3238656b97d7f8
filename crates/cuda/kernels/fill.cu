// Fills buffers with numbers by seed and index, and counts elements that are not what they should be.

#include "intrinsic.cuh"

namespace {

__device__ __forceinline__ u64 first() { return static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u64 stride() { return static_cast<u64>(gridDim.x) * blockDim.x; }

__device__ __forceinline__ u32 pair_f16(u32 bits32) {
    return to_f16(eleven_bits(bits32 & 0xFFFF)) | static_cast<u32>(to_f16(eleven_bits(bits32 >> 16))) << 16;
}

// The upper half of a float that eight bits fill is its bf16.
__device__ __forceinline__ u32 pair_bf16(u32 bits32) {
    return __float_as_uint(eight_bits(bits32 & 0xFFFF)) >> 16 |
           (__float_as_uint(eight_bits(bits32 >> 16)) & 0xFFFF0000u);
}

template <u32 (*PAIR)(u32)>
__device__ __forceinline__ void fill_pairs(uint4* out, u64 seed, u64 count) {
    for (u64 i = first(); i < count; i += stride()) {
        const u64 low = splitmix64(seed, 2 * i);
        const u64 high = splitmix64(seed, 2 * i + 1);
        out[i] = make_uint4(PAIR(static_cast<u32>(low)), PAIR(static_cast<u32>(low >> 32)),
                            PAIR(static_cast<u32>(high)), PAIR(static_cast<u32>(high >> 32)));
    }
}

}  // namespace

// Each of `count` 16-byte groups takes two numbers of the sequence, each of which gives four elements, lowest bits first.
extern "C" __global__ void fill_f16(uint4* out, u64 seed, u64 count) { fill_pairs<pair_f16>(out, seed, count); }

extern "C" __global__ void fill_bf16(uint4* out, u64 seed, u64 count) { fill_pairs<pair_bf16>(out, seed, count); }

extern "C" __global__ void fill_words(u64* out, u64 seed, u64 count) {
    for (u64 i = first(); i < count; i += stride()) out[i] = splitmix64(seed, i);
}

// Adds to `*wrong` how many words differ from what `fill_words` writes.
extern "C" __global__ void count_wrong_words(const u64* words, u64 seed, u64 count, u64* wrong) {
    u64 found = 0;
    for (u64 i = first(); i < count; i += stride()) found += words[i] != splitmix64(seed, i);
    if (found != 0) atomicAdd(wrong, found);
}

// Adds to `*wrong` how many 16-bit floats are not finite; `infinity` is the format's infinity (0x7C00 or 0x7F80).
extern "C" __global__ void count_not_finite(const u16* values, u32 infinity, u64 count, u64* wrong) {
    u64 found = 0;
    for (u64 i = first(); i < count; i += stride()) found += (values[i] & 0x7FFFu) >= infinity;
    if (found != 0) atomicAdd(wrong, found);
}
