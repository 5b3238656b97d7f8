// Token generation: matrix-vector products of fp16 weights with the vectors of 1, 2, 4 or 8 sequences, and the small
// kernels between them. One kernel an operation, as model servers launch them.

#include "intrinsic.cuh"

namespace {

constexpr int WARP = 32;
constexpr int WARPS = 4;

__device__ __forceinline__ float warp_sum(float value) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, offset);
    return value;
}

// The sum over the block, in every thread. `partial` holds a number for each warp.
__device__ __forceinline__ float block_sum(float value, float* partial) {
    const u32 lane = threadIdx.x % WARP;
    value = warp_sum(value);
    if (lane == 0) partial[threadIdx.x / WARP] = value;
    __syncthreads();
    return warp_sum(lane < blockDim.x / WARP ? partial[lane] : 0.0f);
}

// 1 / root mean square of a row of fp32.
__device__ __forceinline__ float inverse_rms(const float* row, u32 width, float* partial) {
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) squares += row[i] * row[i];
    return 1.0f / sqrtf(block_sum(squares, partial) / static_cast<float>(width) + 1e-6f);
}

__device__ __forceinline__ void unpack(float (&out)[8], uint4 packed) {
    const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[2 * i] = from_f16(static_cast<u16>(words[i] & 0xFFFF));
        out[2 * i + 1] = from_f16(static_cast<u16>(words[i] >> 16));
    }
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

// What becomes of the sums of a matrix-vector product.
enum Epilogue : u32 {
    PROJECT = 0,   // fp16 out[sequence][row]
    GATE_UP = 1,   // rows 2*j and 2*j + 1 are gate and up: fp16 out[sequence][j] = silu(gate) * up
    RESIDUAL = 2,  // fp32 out[sequence][row] += sum
};

// SPAN x 32 chunks of 8 weights of each of ROWS rows, a lane's share.
template <int ROWS, int SPAN>
struct Weights {
    uint4 packed[SPAN][ROWS];

    __device__ __forceinline__ void load(const uint4* weights, u32 chunks, u32 chunk) {
#pragma unroll
        for (int s = 0; s < SPAN; s++)
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                packed[s][r] = load_streaming(weights + static_cast<u64>(r) * chunks + chunk + s * WARP);
    }
};

// Adds the weights times the same chunks of each vector.
template <int BATCH, int ROWS, int SPAN>
__device__ __forceinline__ void accumulate(float (&sums)[ROWS][BATCH], const Weights<ROWS, SPAN>& weights,
                                           const uint4* vectors, u32 chunks, u32 chunk) {
#pragma unroll
    for (int s = 0; s < SPAN; s++) {
        float weight[ROWS][8];
#pragma unroll
        for (int r = 0; r < ROWS; r++) unpack(weight[r], weights.packed[s][r]);
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            float element[8];
            unpack(element, load_cached(vectors + static_cast<u64>(b) * chunks + chunk + s * WARP));
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int i = 0; i < 8; i++) sums[r][b] = fmaf(weight[r][i], element[i], sums[r][b]);
        }
    }
}

template <int BATCH, int ROWS>
__device__ __forceinline__ void finish(const float (&sums)[ROWS][BATCH], void* out, u32 first_row, u32 epilogue) {
    const u32 rows = gridDim.x * WARPS * ROWS;
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
        if (epilogue == RESIDUAL) {
            float* row = static_cast<float*>(out) + static_cast<u64>(b) * rows + first_row;
#pragma unroll
            for (int r = 0; r < ROWS; r++) row[r] += sums[r][b];
        } else if (epilogue == PROJECT) {
            u16* row = static_cast<u16*>(out) + static_cast<u64>(b) * rows + first_row;
#pragma unroll
            for (int r = 0; r < ROWS; r++) row[r] = to_f16(sums[r][b]);
        } else {
            u16* row = static_cast<u16*>(out) + (static_cast<u64>(b) * rows + first_row) / 2;
#pragma unroll
            for (int r = 0; r < ROWS; r += 2)
                row[r / 2] = to_f16(sums[r][b] * sigmoid(sums[r][b]) * sums[r + 1][b]);
        }
    }
}

// weights: fp16 [rows][8 * chunks]; vectors: fp16 [BATCH][8 * chunks]. A warp owns ROWS rows, a block WARPS warps; the
// grid covers the rows exactly.
template <int BATCH, int ROWS, int SPAN>
__device__ __forceinline__ void matrix_vector(const uint4* weights, const uint4* vectors, void* out, u32 chunks,
                                              float scale, u32 epilogue) {
    const u32 lane = threadIdx.x % WARP;
    const u32 first_row = (blockIdx.x * WARPS + threadIdx.x / WARP) * ROWS;
    const uint4* own = weights + static_cast<u64>(first_row) * chunks;
    float sums[ROWS][BATCH] = {};
    u32 chunk = lane;
    // The next weights are on their way while the last ones are multiplied.
    const u32 spans = chunks / (SPAN * WARP);
    Weights<ROWS, SPAN> ahead;
    if (spans > 0) ahead.load(own, chunks, chunk);
    for (u32 i = 0; i < spans; i++) {
        const Weights<ROWS, SPAN> here = ahead;
        if (i + 1 < spans) ahead.load(own, chunks, chunk + SPAN * WARP);
        accumulate<BATCH, ROWS, SPAN>(sums, here, vectors, chunks, chunk);
        chunk += SPAN * WARP;
    }
    for (; chunk < chunks; chunk += WARP) {
        Weights<ROWS, 1> rest;
        rest.load(own, chunks, chunk);
        accumulate<BATCH, ROWS, 1>(sums, rest, vectors, chunks, chunk);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int b = 0; b < BATCH; b++) sums[r][b] = warp_sum(sums[r][b]) * scale;
    if (lane == 0) finish<BATCH, ROWS>(sums, out, first_row, epilogue);
}

}  // namespace

#define MATRIX_VECTOR(NAME, BATCH, ROWS, SPAN)                                                                         \
    extern "C" __global__ void __launch_bounds__(WARPS* WARP) NAME(const uint4* weights, const uint4* vectors,         \
                                                                   void* out, u32 chunks, float scale, u32 epilogue) { \
        matrix_vector<BATCH, ROWS, SPAN>(weights, vectors, out, chunks, scale, epilogue);                              \
    }

MATRIX_VECTOR(matrix_vector_1, 1, 2, 4)
MATRIX_VECTOR(matrix_vector_2, 2, 2, 4)
MATRIX_VECTOR(matrix_vector_4, 4, 4, 2)
MATRIX_VECTOR(matrix_vector_8, 8, 4, 2)

// out[sequence] = fp16 of residual[sequence] over its root mean square; one block a sequence.
extern "C" __global__ void normalize(const float* residual, u16* out, u32 width) {
    __shared__ float partial[WARP];
    const u64 start = static_cast<u64>(blockIdx.x) * width;
    const float scale = inverse_rms(residual + start, width, partial);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) out[start + i] = to_f16(residual[start + i] * scale);
}

// residual[sequence] over its root mean square, in place: the last token's vector becomes the next one's.
extern "C" __global__ void feed_back(float* residual, u32 width) {
    __shared__ float partial[WARP];
    float* row = residual + static_cast<u64>(blockIdx.x) * width;
    const float scale = inverse_rms(row, width, partial);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) row[i] *= scale;
}

// out = value * sigmoid(query * key), element by element: stands where attention stands in a model, without a KV cache.
extern "C" __global__ void mix(const u16* projected, u16* out, u32 width) {
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width) return;
    const u16* row = projected + static_cast<u64>(blockIdx.y) * 3 * width;
    const float query = from_f16(row[i]);
    const float key = from_f16(row[width + i]);
    const float value = from_f16(row[2 * width + i]);
    out[static_cast<u64>(blockIdx.y) * width + i] = to_f16(value * sigmoid(query * key));
}
