// Square fp16 matrix products on the tensor cores of compute capability 7.5, plainly: no asynchronous copies there.
//
// out = left * right^T, sums in fp32, rounded to fp16; the matrices lie as in product_sm80.cu. A block computes 128 x 128
// of the result in steps of 32 along the inner dimension, a warp 64 x 32 of it: 4 x 4 instructions of 16 x 8 x 8.

#include "intrinsic.cuh"

namespace {

constexpr u32 TILE = 128;
constexpr u32 DEPTH = 32;
constexpr u32 THREADS = 256;
// Elements a row of a tile takes in shared memory: 20 banks apart, so that the eight rows and four columns of pairs that
// a fragment reads fall into 32 different banks.
constexpr u32 PITCH = DEPTH + 8;
constexpr u32 CHUNKS = DEPTH / 8;
constexpr u32 OWN = TILE * CHUNKS / THREADS;

struct Chunks {
    uint4 left[OWN];
    uint4 right[OWN];
};

__device__ __forceinline__ uint4 chunk_of(const u16* matrix, u32 row, u32 size, u32 column) {
    return *reinterpret_cast<const uint4*>(matrix + static_cast<u64>(row) * size + column);
}

__device__ __forceinline__ void fetch(Chunks& out, const u16* left, const u16* right, u32 size, u32 inner) {
#pragma unroll
    for (u32 i = 0; i < OWN; i++) {
        const u32 index = i * THREADS + threadIdx.x;
        const u32 row = index / CHUNKS;
        const u32 column = inner + index % CHUNKS * 8;
        out.left[i] = chunk_of(left, blockIdx.y * TILE + row, size, column);
        out.right[i] = chunk_of(right, blockIdx.x * TILE + row, size, column);
    }
}

__device__ __forceinline__ void keep(const Chunks& chunks, u16 (&left)[TILE][PITCH], u16 (&right)[TILE][PITCH]) {
#pragma unroll
    for (u32 i = 0; i < OWN; i++) {
        const u32 index = i * THREADS + threadIdx.x;
        *reinterpret_cast<uint4*>(&left[index / CHUNKS][index % CHUNKS * 8]) = chunks.left[i];
        *reinterpret_cast<uint4*>(&right[index / CHUNKS][index % CHUNKS * 8]) = chunks.right[i];
    }
}

__device__ __forceinline__ u32 pair_at(const u16* address) { return *reinterpret_cast<const u32*>(address); }

__device__ __forceinline__ void multiply(float (&sums)[4][4][4], const u16 (&left)[TILE][PITCH],
                                         const u16 (&right)[TILE][PITCH], u32 warp_row, u32 warp_column) {
    const u32 group = threadIdx.x % 32 / 4;
    const u32 pair = threadIdx.x % 4 * 2;
#pragma unroll
    for (u32 k = 0; k < DEPTH; k += 8)
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 low = pair_at(&left[warp_row + i * 16 + group][k + pair]);
            const u32 high = pair_at(&left[warp_row + i * 16 + 8 + group][k + pair]);
#pragma unroll
            for (u32 j = 0; j < 4; j++)
                multiply_f16(sums[i][j], low, high, pair_at(&right[warp_column + j * 8 + group][k + pair]));
        }
}

__device__ __forceinline__ void store(const float (&sums)[4][4][4], u16* out, u32 first_row, u32 first_column,
                                      u32 size) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 i = 0; i < 4; i++)
#pragma unroll
        for (u32 j = 0; j < 4; j++)
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + i * 16 + half * 8 + lane / 4;
                const u32 column = first_column + j * 8 + lane % 4 * 2;
                *reinterpret_cast<u32*>(out + static_cast<u64>(row) * size + column) =
                    to_f16(sums[i][j][half * 2]) | static_cast<u32>(to_f16(sums[i][j][half * 2 + 1])) << 16;
            }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) product_plain(const u16* left, const u16* right, u16* out,
                                                                    u32 size) {
    __shared__ __align__(16) u16 left_tile[TILE][PITCH];
    __shared__ __align__(16) u16 right_tile[TILE][PITCH];
    const u32 warp = threadIdx.x / 32;
    const u32 warp_row = warp / 4 * 64;
    const u32 warp_column = warp % 4 * 32;
    float sums[4][4][4] = {};
    Chunks chunks;
    fetch(chunks, left, right, size, 0);
    for (u32 inner = 0; inner < size; inner += DEPTH) {
        __syncthreads();
        keep(chunks, left_tile, right_tile);
        __syncthreads();
        if (inner + DEPTH < size) fetch(chunks, left, right, size, inner + DEPTH);
        multiply(sums, left_tile, right_tile, warp_row, warp_column);
    }
    store(sums, out, blockIdx.y * TILE + warp_row, blockIdx.x * TILE + warp_column, size);
}
