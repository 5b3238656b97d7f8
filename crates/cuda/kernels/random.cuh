// Numbers by seed and index: SplitMix64, and the two 16-bit formats cut from it.
// src/random.rs computes the same on the host; any change must be made in both.

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

static_assert(sizeof(u16) == 2 && sizeof(u32) == 4 && sizeof(u64) == 8, "the host passes fixed widths");

// Element `index` of the SplitMix64 sequence that starts at `seed`.
__device__ __forceinline__ u64 splitmix64(u64 seed, u64 index) {
    u64 z = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// An odd multiple of 1/2048 in (-1, 1): 11 significant bits, so fp16 holds it exactly.
__device__ __forceinline__ float eleven_bits(u32 bits16) {
    return static_cast<float>(2 * (static_cast<int>(bits16 >> 5) - 1024) + 1) * (1.0f / 2048.0f);
}

// An odd multiple of 1/256 in (-1, 1): 8 significant bits, so bf16 holds it exactly.
__device__ __forceinline__ float eight_bits(u32 bits16) {
    return static_cast<float>(2 * (static_cast<int>(bits16 >> 8) - 128) + 1) * (1.0f / 256.0f);
}
