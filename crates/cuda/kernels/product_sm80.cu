// Square bf16 matrix products on tensor cores of compute capability 8.0 and newer.
//
// out = left * right^T, sums in fp32, rounded to bf16. All three are row-major with `size` columns; `right` is stored as
// a linear layer stores its weights, a row for each column of the result. `size` is a multiple of 128.
//
// A block computes 128 x COLUMNS of the result in steps of 64 along the inner dimension. Tiles arrive in shared memory
// by asynchronous copies, STAGES deep. A row of a tile is 128 bytes, eight 16-byte chunks; chunk c of row r lies in
// place c ^ (r % 8), so that eight rows of one chunk (what a matrix load reads) fall into 32 different banks.
// A warp computes 64 x 64: 4 x 8 instructions of 16 x 8 x 16.

#include "intrinsic.cuh"

namespace {

constexpr u32 ROWS = 128;
constexpr u32 DEPTH = 64;
constexpr u32 ROW_BYTES = DEPTH * 2;
constexpr u32 CHUNKS = ROW_BYTES / 16;
constexpr u32 STEPS = DEPTH / 16;
// Tile rows a block walks before it moves to the next tile column: blocks that run together share both operands in L2.
constexpr u32 BAND = 8;

// Byte offset of a 16-byte chunk in a tile.
__device__ __forceinline__ u32 place(u32 row, u32 chunk) { return row * ROW_BYTES + ((chunk ^ (row % 8)) * 16); }

struct Tile {
    u32 row;
    u32 column;
};

// The tile of this block: bands of BAND tile rows, column by column within a band.
__device__ __forceinline__ Tile tile_of(u32 block, u32 tile_rows, u32 tile_columns) {
    const u32 band = block / (BAND * tile_columns);
    const u32 within = block % (BAND * tile_columns);
    const u32 height = min(BAND, tile_rows - band * BAND);
    return {band * BAND + within % height, within / height};
}

// Starts the copy of COUNT rows of DEPTH elements from column `inner` on; rows past the matrix repeat its last one, and
// what is computed from them is not stored.
template <u32 COUNT, u32 THREADS>
__device__ __forceinline__ void fetch(u32 shared, const u16* matrix, u32 first_row, u32 size, u32 inner) {
#pragma unroll
    for (u32 i = 0; i < COUNT * CHUNKS / THREADS; i++) {
        const u32 index = i * THREADS + threadIdx.x;
        const u32 row = index / CHUNKS;
        const u32 chunk = index % CHUNKS;
        const u32 source = min(first_row + row, size - 1);
        copy_async(shared + place(row, chunk), matrix + static_cast<u64>(source) * size + inner + chunk * 8);
    }
}

// A warp's operands of one 16-deep step: 64 rows of left in four 16 x 16 fragments, 64 columns in four pairs of 16 x 8.
struct Fragments {
    u32 left[4][4];
    u32 right[4][4];
};

__device__ __forceinline__ void read(Fragments& out, u32 left, u32 right, u32 warp_row, u32 warp_column, u32 step) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        // Matrices in the order of the fragment's registers: rows 0-7, rows 8-15, then both again 8 further along.
        const u32 row = warp_row + i * 16 + lane % 16;
        load_matrices(out.left[i], left + place(row, step * 2 + lane / 16));
        // Two column groups, each low half then high half along the inner dimension.
        const u32 column = warp_column + i * 16 + lane % 8 + lane / 16 * 8;
        load_matrices(out.right[i], right + place(column, step * 2 + lane / 8 % 2));
    }
}

__device__ __forceinline__ void multiply(float (&sums)[4][8][4], const Fragments& operands) {
#pragma unroll
    for (u32 i = 0; i < 4; i++)
#pragma unroll
        for (u32 j = 0; j < 8; j++)
            multiply_bf16(sums[i][j], operands.left[i], operands.right[j / 2][j % 2 * 2],
                          operands.right[j / 2][j % 2 * 2 + 1]);
}

// Lane l of a 16 x 8 result holds columns 2 * (l % 4) and the next of rows l / 4 and l / 4 + 8.
__device__ __forceinline__ void store(const float (&sums)[4][8][4], u16* out, u32 first_row, u32 first_column,
                                      u32 size) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 i = 0; i < 4; i++)
#pragma unroll
        for (u32 j = 0; j < 8; j++)
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const u32 row = first_row + i * 16 + half * 8 + lane / 4;
                const u32 column = first_column + j * 8 + lane % 4 * 2;
                const u32 pair = to_bf16(sums[i][j][half * 2]) |
                                 static_cast<u32>(to_bf16(sums[i][j][half * 2 + 1])) << 16;
                if (column < size) *reinterpret_cast<u32*>(out + static_cast<u64>(row) * size + column) = pair;
            }
}

template <u32 COLUMNS, u32 STAGES>
__device__ __forceinline__ void product(const u16* left, const u16* right, u16* out, u32 size) {
    constexpr u32 WARP_COLUMNS = COLUMNS / 64;
    constexpr u32 THREADS = 2 * WARP_COLUMNS * 32;
    constexpr u32 LEFT_BYTES = ROWS * ROW_BYTES;
    constexpr u32 STAGE_BYTES = LEFT_BYTES + COLUMNS * ROW_BYTES;
    const u32 shared = dynamic_shared();
    const Tile tile = tile_of(blockIdx.x, size / ROWS, (size + COLUMNS - 1) / COLUMNS);
    const u32 warp = threadIdx.x / 32;
    const u32 warp_row = warp / WARP_COLUMNS * 64;
    const u32 warp_column = warp % WARP_COLUMNS * 64;
    const u32 rounds = size / DEPTH;

    // A group is committed every round, with or without copies, so that counting groups counts rounds.
    auto fetch_round = [&](u32 round) {
        const u32 stage = shared + round % STAGES * STAGE_BYTES;
        if (round < rounds) {
            fetch<ROWS, THREADS>(stage, left, tile.row * ROWS, size, round * DEPTH);
            fetch<COLUMNS, THREADS>(stage + LEFT_BYTES, right, tile.column * COLUMNS, size, round * DEPTH);
        }
        commit_copies();
    };

    float sums[4][8][4] = {};
    Fragments operands[2];
#pragma unroll
    for (u32 round = 0; round < STAGES - 1; round++) fetch_round(round);
    for (u32 round = 0; round < rounds; round++) {
        // After the wait this round's tile is there for its own copier, after the barrier for all; and nobody reads the
        // tile of the last round any more, which is where the next fetch writes.
        wait_copies<STAGES - 2>();
        __syncthreads();
        const u32 stage = shared + round % STAGES * STAGE_BYTES;
        read(operands[0], stage, stage + LEFT_BYTES, warp_row, warp_column, 0);
        fetch_round(round + STAGES - 1);
#pragma unroll
        for (u32 step = 0; step < STEPS; step++) {
            if (step + 1 < STEPS)
                read(operands[(step + 1) % 2], stage, stage + LEFT_BYTES, warp_row, warp_column, step + 1);
            multiply(sums, operands[step % 2]);
        }
    }
    store(sums, out, tile.row * ROWS + warp_row, tile.column * COLUMNS + warp_column, size);
}

}  // namespace

// 128 x 256 of the result a block, 3 stages of 48 KiB: for matrices that give every multiprocessor a block.
extern "C" __global__ void __launch_bounds__(256, 1) product_wide(const u16* left, const u16* right, u16* out, u32 size) {
    product<256, 3>(left, right, out, size);
}

// 128 x 128 of the result a block, 3 stages of 32 KiB: for smaller matrices and for less shared memory.
extern "C" __global__ void __launch_bounds__(128, 2) product_narrow(const u16* left, const u16* right, u16* out,
                                                                    u32 size) {
    product<128, 3>(left, right, out, size);
}
